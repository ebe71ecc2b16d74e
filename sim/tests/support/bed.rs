//! A bed for the suite of conformance: a host whose loopback is without loss and delay.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_conformance::table::{Driver, Platform};
use shardgram_conformance::{Bed, Came, End, Ended, PATIENCE, Sending};
use shardgram_core::shard_loop::Ending;
use shardgram_core::{Config, Full, Handler, ShardInfo, Snapshot};
use shardgram_sim::{LinkConfig, NodeId, Sim, SocketKey};

pub(crate) struct SimBed {
    sim: Sim,
    began: Instant,
}

const SEED: u64 = 1;

impl SimBed {
    pub(crate) fn new() -> Self {
        let mut sim = Sim::new(SEED);
        // As over loopback: what was sent has arrived, and trains stay whole.
        sim.link(LinkConfig::new().trains(true).delay(Duration::ZERO).expect("in range"));
        Self { began: sim.now(), sim }
    }
}

impl Bed for SimBed {
    type Server<M: Send + 'static> = NodeId<M>;
    type Peer = SocketKey;

    fn platform(&self) -> Platform {
        Platform::here(Driver::Sim)
    }

    fn try_serve<H: Handler>(
        &mut self,
        config: Config,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Result<NodeId<H::Message>, String> {
        self.sim.server(&self.loopback_addresses(), &config, make).map_err(|error| error.to_string())
    }

    fn addresses<M: Send + 'static>(&self, server: &NodeId<M>) -> Vec<SocketAddr> {
        self.sim.local_addrs(server)
    }

    fn try_tell<M: Send + 'static>(&mut self, server: &NodeId<M>, shard: u16, message: M) -> Result<(), M> {
        server.tell(shard, message).map_err(|Full(message)| message)
    }

    fn stats<M: Send + 'static>(&mut self, server: &NodeId<M>) -> Snapshot {
        if self.sim.ended(server).is_none() {
            self.sim.refresh(server);
        }
        self.sim.stats(server)
    }

    fn start_drain<M: Send + 'static>(&mut self, server: &NodeId<M>, within: Duration) {
        self.sim.drain(server, within);
    }

    fn wait<M: Send + 'static>(&mut self, server: NodeId<M>) -> Ended {
        let end = self.sim.now() + 2 * PATIENCE;
        let shards = loop {
            if let Some(endings) = self.sim.ended(&server) {
                let end = |ending: &&Ending| match ending {
                    Ending::Drained => End::Drained,
                    Ending::DrainDeadline => End::Deadline,
                    Ending::Stopped => End::Stopped,
                    Ending::TooManyRestarts { .. } => End::TooManyRestarts,
                    other => panic!("{other:?}"),
                };
                break endings.iter().map(end).collect();
            }
            assert!(self.sim.now() < end, "all shards end");
            self.sim.run_for(Duration::from_millis(1));
        };
        assert_eq!(self.sim.buffers_out(&server), 0, "every receive buffer came back");
        assert_eq!(self.sim.counts().unaccounted(), 0, "the network knows of every datagram");
        Ended { total: self.sim.stats(&server), shards }
    }

    fn try_peer(&mut self, at: SocketAddr) -> Result<SocketKey, String> {
        self.sim.try_socket(at).ok_or_else(|| format!("{at} is in use"))
    }

    fn observer(&mut self, ip: IpAddr) -> SocketKey {
        let socket = self.sim.socket(SocketAddr::new(ip, 0));
        self.sim.receive_trains(socket, true);
        socket
    }

    fn close(&mut self, peer: SocketKey) {
        self.sim.close(peer);
    }

    /// Below the ports that are handed out.
    fn quiet_addresses(&mut self, count: usize) -> Vec<SocketAddr> {
        (4_000..).take(count).map(|port| ([127, 0, 0, 1], port).into()).collect()
    }

    fn loopback_addresses(&self) -> Vec<IpAddr> {
        ["127.0.0.1", "127.0.0.2", "::1"].iter().map(|ip| ip.parse().expect("an address")).collect()
    }

    fn address_of(&self, peer: &SocketKey) -> SocketAddr {
        self.sim.socket_addr(*peer)
    }

    fn send_as(&mut self, peer: &SocketKey, to: SocketAddr, what: Sending<'_>) {
        match what.segment {
            Some(segment) => {
                self.sim.send_train_marked(*peer, to, what.bytes, usize::from(segment), what.ecn);
            }
            None => self.sim.send_marked(*peer, to, what.bytes, what.ecn),
        }
    }

    fn send_from_port_zero(&mut self, to: SocketAddr, bytes: &[u8]) -> bool {
        self.sim.send_from(SocketAddr::new(to.ip(), 0), to, bytes);
        true
    }

    fn take(&mut self, peer: &SocketKey, within: Duration) -> Option<Came> {
        let end = self.sim.now() + within;
        loop {
            if let Some(got) = self.sim.receive(*peer) {
                let (from, ecn, segment) = (got.from, Some(got.ecn), got.segment);
                return Some(Came { from, ecn, segment, bytes: got.bytes });
            }
            if self.sim.now() >= end {
                return None;
            }
            // Not a long time, and not none, since a turn takes some.
            self.sim.run_for(Duration::from_micros(100));
        }
    }

    fn now(&self) -> Instant {
        self.sim.now()
    }

    fn system_time(&self) -> Duration {
        self.sim.now() - self.began
    }

    fn pass(&mut self, time: Duration) {
        self.sim.run_for(time);
    }

    fn seed(&self) -> u64 {
        SEED
    }
}
