//! A datagram that reached the wrong shard is forwarded to its owner, and the accounts add up.

mod support;

use shardgram_sim::Sim;
use support::{SECOND, addr, echo, listening, payloads};

#[test]
fn every_datagram_reaches_its_owner() {
    let seed = 21;
    let mut sim = Sim::new(seed);
    sim.mis_steer(0.5).expect("in range");
    let server = echo(&mut sim, &listening("10.0.0.1:7").shards(4));
    let clients: Vec<_> =
        (0..500_u16).map(|i| sim.socket(addr(&format!("10.0.{}.{}:5000", 1 + i / 250, i % 250)))).collect();
    for round in 0..10_u8 {
        for client in &clients {
            sim.send(*client, addr("10.0.0.1:7"), &[round]);
        }
        assert!(sim.run_until_quiet(SECOND));
        for client in &clients {
            assert_eq!(payloads(&mut sim, *client), [[round]], "seed {seed}");
        }
    }
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.peers()), (5000, 5000, 500), "seed {seed}");
    assert!(
        (2300..2700).contains(&stats.forwarded_out),
        "half of them: {} (seed {seed})",
        stats.forwarded_out
    );
    assert_eq!(stats.forwarded_in, stats.forwarded_out);
    assert_eq!(stats.unaccounted(), 0);
    for shard in 0..4 {
        let stats = sim.shard_stats(&server, shard);
        assert_eq!(stats.unaccounted(), 0, "shard {shard}");
        assert!(stats.peers() > 60, "peers live where they belong: shard {shard} has {}", stats.peers());
    }
}

/// Sends so many datagrams of `size` bytes at once, all of them to the wrong shard.
fn flood(seed: u64, count: u32, size: usize) {
    let mut sim = Sim::new(seed);
    sim.mis_steer(1.0).expect("in range");
    // One turn may receive them all, so that they meet in the mailbox before any is handled.
    let config = listening("10.0.0.1:7").shards(2).turn_budget(65_536).receive_buffers(8192);
    let server = echo(&mut sim, &config.receive_socket_bytes(1 << 30));
    for i in 0..count {
        let source = format!("10.0.{}.{}:5000", 1 + i / 250, i % 250);
        sim.send_from(addr(&source), addr("10.0.0.1:7"), &vec![7; size]);
    }
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&server);
    assert_eq!(stats.received, u64::from(count));
    assert!(stats.dropped_forward_full > 0, "seed {seed}: {stats:?}");
    assert!(stats.delivered > 0, "seed {seed}: {stats:?}");
    assert_eq!(stats.dropped_forward_full + stats.delivered, u64::from(count));
    assert_eq!(stats.unaccounted(), 0);
}

#[test]
fn what_a_full_mailbox_drops_is_counted() {
    flood(22, 10_000, 1);
}

#[test]
fn forwarded_bytes_are_bounded_as_well() {
    flood(23, 400, 60_000);
}
