//! A link of some bandwidth: what waits is delayed, and what finds the queue full is lost.

mod support;

use std::time::Duration;

use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, all, ip, payloads};

/// Bytes of IPv4 and UDP headers.
const HEADERS: usize = 28;

#[test]
fn datagrams_pass_one_after_the_other_and_the_tail_is_dropped() {
    let mut sim = Sim::new(1);
    // Ten datagrams take a second, and five may wait.
    let link = LinkConfig::new().delay(Duration::ZERO).and_then(|l| l.bandwidth(1_000, 500));
    sim.link(link.expect("in range"));
    let (a, b) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
    let bytes = [0; 100 - HEADERS];
    for _ in 0..20 {
        sim.send(a, addr("10.0.0.1:7"), &bytes);
    }
    assert_eq!((sim.counts().tail_dropped, sim.counts().in_flight), (15, 5));
    for arrived in 1..=5 {
        sim.run_for(Duration::from_millis(100) - Duration::from_nanos(1));
        assert_eq!(all(&mut sim, b).len(), 0, "the {arrived}th is on its way");
        sim.run_for(Duration::from_nanos(1));
        assert_eq!(all(&mut sim, b).len(), 1);
    }
    // The other direction is another link.
    sim.send(b, addr("10.0.0.2:5000"), &bytes);
    sim.run_for(Duration::from_millis(100));
    assert_eq!(all(&mut sim, a).len(), 1);
    assert_eq!(sim.counts().unaccounted(), 0);
}

#[test]
fn a_train_takes_as_long_as_its_datagrams() {
    for trains in [true, false] {
        let mut sim = Sim::new(2);
        let link = LinkConfig::new().delay(Duration::ZERO).and_then(|l| l.bandwidth(10_000, 10_000));
        sim.link(link.expect("in range").trains(trains));
        let (a, b) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
        sim.send_train(a, addr("10.0.0.1:7"), &[0; 5 * 72], 72);
        sim.run_for(Duration::from_millis(50) - Duration::from_nanos(1));
        assert_eq!(payloads(&mut sim, b).len(), if trains { 0 } else { 4 });
        sim.run_for(Duration::from_nanos(1));
        assert_eq!(payloads(&mut sim, b).len(), if trains { 5 } else { 1 });
    }
}

#[test]
fn a_long_queue_delays_everybody() {
    let mut sim = Sim::new(3);
    let slow = LinkConfig::new().bandwidth(100_000, 1 << 20).expect("in range");
    sim.link_between(ip("10.0.0.2"), ip("10.0.0.1"), slow);
    let server = support::echo(&mut sim, &support::listening("10.0.0.1:7"));
    let (bulk, game) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.2:6000")));
    for _ in 0..500 {
        sim.send(bulk, addr("10.0.0.1:7"), &[0; 1_172]);
    }
    sim.send(game, addr("10.0.0.1:7"), b"move");
    sim.run_for(Duration::from_millis(5_900));
    assert!(sim.receive(game).is_none(), "500 datagrams of 1,200 bytes are before it");
    sim.run_for(Duration::from_millis(200));
    assert!(sim.receive(game).is_some());
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.stats(&server).received, 501);
    assert!(LinkConfig::new().bandwidth(0, 1).is_err() && LinkConfig::new().bandwidth(1, 0).is_err());
}
