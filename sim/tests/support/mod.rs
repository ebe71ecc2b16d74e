//! What several tests need: addresses from text, a configuration, and a server that echoes.
#![allow(dead_code, reason = "no test needs all of it")]

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use shardgram_conformance::Echo;
use shardgram_core::Config;
use shardgram_sim::{NodeId, Received, Sim, SocketKey};

pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn addr(text: &str) -> SocketAddr {
    text.parse().expect("an address with a port")
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

pub(crate) fn listening(address: &str) -> Config {
    Config::new().listen(addr(address))
}

/// An echo server on 10.0.0.1:7.
pub(crate) fn echo(sim: &mut Sim, config: &Config) -> NodeId<()> {
    sim.server(&[ip("10.0.0.1")], config, |_| Echo).expect("the server starts")
}

pub(crate) fn all(sim: &mut Sim, socket: SocketKey) -> Vec<Received> {
    std::iter::from_fn(|| sim.receive(socket)).collect()
}

pub(crate) fn payloads(sim: &mut Sim, socket: SocketKey) -> Vec<Vec<u8>> {
    all(sim, socket).into_iter().map(|r| r.bytes).collect()
}
