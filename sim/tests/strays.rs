//! What comes by another peer's own socket is dispatched by its own path.

mod support;

use shardgram_core::{Config, TierPolicy};
use shardgram_sim::Sim;
use support::{SECOND, addr, echo, listening, payloads};

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
