//! What is sent comes back, byte for byte.

mod support;

use shardgram_core::Config;
use shardgram_sim::Sim;
use support::{SECOND, addr, all, echo, ip, listening};

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

#[test]
fn every_length_comes_back_exactly() {
    let mut sim = Sim::new(1);
    let server = echo(&mut sim, &listening("10.0.0.1:7"));
    let client = sim.socket(addr("10.0.0.2:5000"));
    for len in [0, 1, 1472, 9000, 65_507] {
        sim.send(client, addr("10.0.0.1:7"), &bytes(len));
        assert!(sim.run_until_quiet(SECOND));
        let got = all(&mut sim, client);
        assert_eq!(got.len(), 1, "{len} bytes");
        assert!(got[0].bytes == bytes(len), "{len} bytes");
        assert_eq!((got[0].from, got[0].to), (addr("10.0.0.1:7"), addr("10.0.0.2:5000")));
    }
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.sent()), (5, 5, 5));
    assert_eq!(sim.buffers_out(&server), 0);
    assert_eq!(sim.counts().unaccounted(), 0);
}

#[test]
fn both_families_and_many_shards() {
    let mut sim = Sim::new(2);
    let config = Config::new().listen(addr("10.0.0.1:7")).listen(addr("[fd00::1]:7")).shards(4);
    let server = sim.server(&[ip("10.0.0.1"), ip("fd00::1")], &config, |_| support::Echo).expect("starts");
    let clients: Vec<_> = (0..100_u16)
        .map(|i| {
            let four = sim.socket(addr(&format!("10.0.1.{i}:5000")));
            let six = sim.socket(addr(&format!("[fd00::1:{i:x}]:5000")));
            sim.send(four, addr("10.0.0.1:7"), &i.to_be_bytes());
            sim.send(six, addr("[fd00::1]:7"), &i.to_be_bytes());
            (i, four, six)
        })
        .collect();
    assert!(sim.run_until_quiet(SECOND));
    for (i, four, six) in clients {
        for socket in [four, six] {
            assert_eq!(support::payloads(&mut sim, socket), [i.to_be_bytes()]);
        }
    }
    for shard in 0..4 {
        assert!(sim.shard_stats(&server, shard).delivered > 10, "shard {shard} has its share");
    }
    assert_eq!(sim.stats(&server).forwarded_out, 0, "steering and ownership agree");
}

#[test]
fn port_zero_listens_on_one_free_port() {
    let mut sim = Sim::new(3);
    let config = Config::new().listen(addr("10.0.0.1:0")).listen(addr("10.0.0.1:0")).shards(3);
    let server = echo(&mut sim, &config);
    let local = sim.local_addrs(&server);
    assert!(local.iter().all(|a| a.port() != 0));
    assert_ne!(local[0], local[1]);
    for i in 0..20 {
        let client = sim.socket(addr(&format!("10.0.1.{i}:5000")));
        sim.send(client, local[1], b"x");
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(support::payloads(&mut sim, client), [b"x"]);
    }
}

#[test]
fn source_port_zero_is_dropped_and_counted() {
    let mut sim = Sim::new(4);
    let server = echo(&mut sim, &listening("10.0.0.1:7"));
    sim.send_from(addr("10.0.0.2:0"), addr("10.0.0.1:7"), b"x");
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.dropped_port_zero, stats.sent()), (1, 1, 0));
    assert_eq!(stats.unaccounted(), 0);
}

#[test]
fn what_cannot_be_bound_is_said() {
    use shardgram_sim::SimError;
    let mut sim = Sim::new(5);
    let first = echo(&mut sim, &listening("10.0.0.1:7"));
    let config = Config::new().listen(addr("10.0.0.1:8")).listen(addr("10.0.0.1:7"));
    let again = sim.server(&[ip("10.0.0.1")], &config, |_| support::Echo);
    assert_eq!(again.err(), Some(SimError::InUse(addr("10.0.0.1:7"))));
    let config = listening("10.0.0.9:7");
    let foreign = sim.server(&[ip("10.0.0.1")], &config, |_| support::Echo);
    assert_eq!(foreign.err(), Some(SimError::NotLocal(addr("10.0.0.9:7"))));
    let config = Config::new().shards(0);
    assert!(matches!(sim.server(&[], &config, |_| support::Echo), Err(SimError::Config(_))));
    echo(&mut sim, &listening("10.0.0.1:8")); // the failed attempt let go of it
    sim.stop(&first);
    sim.run_for(SECOND);
    echo(&mut sim, &listening("10.0.0.1:7")); // as did the one that ended
}
