//! What comes by another peer's own socket is dispatched by its own path.

mod support;

use std::time::Duration;

use shardgram_conformance::Echo;
use shardgram_core::{Config, TierPolicy};
use shardgram_sim::Sim;
use support::{SECOND, addr, echo, ip, listening, payloads};

#[test]
fn datagrams_that_stray_are_dispatched_and_counted() {
    let mut sim = Sim::new(1);
    let config: Config = listening("10.0.0.1:7").shards(3).tier(TierPolicy::Connected).max_connected(3);
    let server = echo(&mut sim, &config);
    let clients: Vec<_> = (2..12).map(|n| sim.socket(addr(&format!("10.0.0.{n}:5000")))).collect();
    for client in &clients {
        sim.send(*client, addr("10.0.0.1:7"), b"first");
    }
    assert!(sim.run_until_quiet(SECOND));
    sim.stray(1.0).expect("in range");
    for client in &clients {
        sim.send(*client, addr("10.0.0.1:7"), b"again");
    }
    assert!(sim.run_until_quiet(SECOND));
    for client in clients {
        assert_eq!(payloads(&mut sim, client), [b"first", b"again"]);
    }
    let stats = sim.stats(&server);
    assert!(stats.redispatched > 0 && stats.forwarded_in > 0, "{stats:?}");
    assert_eq!((stats.peers_opened, stats.dropped_foreign, stats.unaccounted()), (10, 0, 0));
}

/// One datagram a turn, so that the listener holds some of the peer when it gets its socket and the address goes.
#[test]
fn what_a_socket_holds_is_handed_over_when_its_address_goes() {
    let mut sim = Sim::new(1);
    let config = listening("0.0.0.0:7").tier(TierPolicy::Connected).turn_budget(1);
    let server = sim.server(&[ip("10.0.0.1"), ip("10.0.0.9")], &config, |_| Echo).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    for pause in [10, 52] {
        (0..20).for_each(|_| sim.send(client, addr("10.0.0.1:7"), b"some"));
        sim.run_for(Duration::from_micros(pause));
    }
    assert_eq!(sim.stats(&server).promoted, 1);
    assert!(sim.remove_address(&server, ip("10.0.0.1")));
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.unaccounted()), (40, 0), "{stats:?}");
}
