//! Floods come at their rate from addresses that are nobody's, and a server that asks for cookies serves on.

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
use shardgram_sim::{Flood, Sim};
use support::{SECOND, addr, all, ip, listening, payloads};

#[test]
fn rates_counts_and_sources_are_as_asked() {
    let mut sim = Sim::new(1);
    let victim = sim.socket(addr("10.0.0.1:7"));
    let flood = Flood::new(addr("10.0.0.1:7"), 10_000).and_then(|f| f.sources(ip("172.16.5.9"), 24));
    let id = sim.flood(flood.expect("in range").count(2_500).payload(|n| n.to_be_bytes().to_vec()));
    sim.run_for(Duration::from_millis(100) - Duration::from_nanos(1));
    assert_eq!(sim.flood_sent(id), 1_000);
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.flood_sent(id), 2_500);
    let got = all(&mut sim, victim);
    assert_eq!(got.len(), 2_500);
    let in_order = got.iter().enumerate().all(|(n, received)| received.bytes == (n as u64).to_be_bytes());
    assert!(in_order);
    let hosts: BTreeSet<_> = got.iter().map(|received| received.from.ip()).collect();
    assert!(hosts.iter().all(|ip| ip.to_string().starts_with("172.16.5.")), "{hosts:?}");
    assert_eq!(hosts.len(), 256, "2,500 draws of 256");
    assert!(got.iter().all(|received| received.from.port() != 0));
}

#[test]
fn one_can_be_ended_and_bad_ones_cannot_begin() {
    let mut sim = Sim::new(2);
    let victim = addr("[fd00::1]:7");
    let socket = sim.socket(victim);
    let id = sim.flood(Flood::new(victim, 1_000).expect("in range"));
    sim.run_for(SECOND);
    sim.end_flood(id);
    assert!(sim.run_until_quiet(SECOND), "nothing more comes");
    assert_eq!(sim.flood_sent(id), 1_001);
    let got = all(&mut sim, socket);
    assert!(got.iter().all(|received| received.from.to_string().starts_with("[2001:db8:") && received.bytes.len() == 32));
    assert!(Flood::new(victim, 0).is_err());
    let flood = || Flood::new(victim, 1).expect("in range");
    assert!(flood().sources(ip("10.0.0.0"), 8).is_err() && flood().sources(ip("fd00::"), 129).is_err());
    assert!(flood().sources(ip("fd00::7"), 128).is_ok() && flood().sources(ip("fd00::7"), 0).is_ok());
}

#[test]
fn sources_may_send_again_and_again() {
    let run = |seed| {
        let mut sim = Sim::new(seed);
        let victim = sim.socket(addr("10.0.0.1:7"));
        for _ in 0..2 {
            let flood = Flood::new(addr("10.0.0.1:7"), 10_000).and_then(|f| f.repeating(20));
            sim.flood(flood.expect("in range").count(1_000));
        }
        assert!(sim.run_until_quiet(SECOND));
        let got = all(&mut sim, victim);
        assert_eq!(got.len(), 2_000);
        got.iter().map(|received| received.from).collect::<BTreeSet<_>>()
    };
    let sources = run(1);
    assert_eq!(sources.len(), 40, "20 of either flood: {sources:?}");
    assert_eq!(sources, run(1));
    assert_ne!(sources, run(2));
    let flood = || Flood::new(addr("10.0.0.1:7"), 1).expect("in range");
    assert!(flood().repeating(0).is_err() && flood().repeating((1 << 32) + 1).is_err());
}

/// Makes peers of those only who send back the cookie they were given.
struct Careful;

impl Handler for Careful {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let path = first.path();
        if cx.io.verify(path, first) {
            return Accept::Peer(());
        }
        let cookie = cx.io.cookie(path);
        let _ = cx.io.answer(path, &cookie);
        Accept::Done
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        let _ = cx.io.send(from, b"welcome");
    }
}

#[test]
fn those_who_prove_their_address_are_served_meanwhile() {
    let mut sim = Sim::new(3);
    let config = listening("10.0.0.1:7").max_peers(100).shards(2);
    let server = sim.server(&[ip("10.0.0.1")], &config, |_| Careful).expect("starts");
    let flood = sim.flood(Flood::new(addr("10.0.0.1:7"), 100_000).expect("in range").count(100_000));
    let clients: Vec<_> = (1..=50).map(|n| sim.socket(addr(&format!("10.0.1.{n}:5000")))).collect();
    for client in clients {
        sim.send(client, addr("10.0.0.1:7"), b"hello");
        sim.run_for(Duration::from_millis(1));
        let cookie = payloads(&mut sim, client).concat();
        sim.send(client, addr("10.0.0.1:7"), &cookie);
        sim.run_for(Duration::from_millis(1));
        assert_eq!(payloads(&mut sim, client), [b"welcome"]);
    }
    assert!(sim.run_until_quiet(10 * SECOND));
    let stats = sim.stats(&server);
    assert_eq!((sim.flood_sent(flood), stats.peers_opened), (100_000, 50), "{stats:?}");
    assert_eq!((stats.stateless, stats.unaccounted(), stats.kernel_dropped), (100_050, 0, 0));
    assert_eq!((sim.counts().unclaimed, sim.counts().unaccounted()), (100_000, 0), "nobody got the answers");
}
