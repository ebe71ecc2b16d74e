//! Loss, duplication and reordering happen as often as asked, and every datagram is accounted for.

mod support;

use std::time::Duration;

use shardgram_core::{Accept, CloseReason, Config, Context, Datagram, Handler, PeerError, PeerId};
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, all, ip, listening};

const SENT: u64 = 100_000;

/// Within five standard deviations.
fn close_to(count: u64, of: u64, probability: f64) -> bool {
    let mean = of as f64 * probability;
    (count as f64 - mean).abs() <= 5.0 * (mean * (1.0 - probability)).sqrt()
}

#[test]
fn rates_are_as_configured_and_counts_add_up() {
    let seed = 11;
    let mut sim = Sim::new(seed);
    let faults = LinkConfig::new()
        .loss(0.1)
        .and_then(|l| l.duplication(0.05))
        .and_then(|l| l.reordering(0.02, Duration::from_millis(3)));
    sim.link(faults.expect("in range"));
    let (from, to) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
    for i in 0..SENT {
        sim.send(from, addr("10.0.0.1:7"), &i.to_be_bytes());
        sim.run_for(Duration::from_micros(10));
    }
    assert!(sim.counts().in_flight > 0);
    assert_eq!(sim.counts().unaccounted(), 0, "seed {seed}");
    assert!(sim.run_until_quiet(SECOND));
    let counts = sim.counts();
    assert_eq!(counts.sent, SENT);
    assert!(close_to(counts.lost, SENT, 0.1), "seed {seed}: {counts:?}");
    assert!(close_to(counts.duplicated, SENT - counts.lost, 0.05), "seed {seed}: {counts:?}");
    let travelled = SENT - counts.lost + counts.duplicated;
    assert!(close_to(counts.held_back, travelled, 0.02), "seed {seed}: {counts:?}");
    assert_eq!((counts.delivered, counts.in_flight), (travelled, 0));

    let got: Vec<u64> = all(&mut sim, to)
        .iter()
        .map(|r| u64::from_be_bytes(r.bytes[..].try_into().expect("eight bytes")))
        .collect();
    assert_eq!(got.len() as u64, travelled);
    let late = got.iter().scan(0, |max, n| {
        let late = *n < *max;
        *max = (*max).max(*n);
        Some(u64::from(late))
    });
    assert_eq!(late.sum::<u64>(), counts.held_back, "exactly those held back were overtaken (seed {seed})");
    let mut distinct = got;
    distinct.sort_unstable();
    distinct.dedup();
    assert_eq!(distinct.len() as u64, SENT - counts.lost, "seed {seed}");
}

#[test]
fn without_faults_order_is_kept_and_jitter_breaks_it() {
    for (jitter, kept) in [(0, true), (500, false)] {
        let mut sim = Sim::new(12);
        sim.link(LinkConfig::new().jitter(Duration::from_micros(jitter)).expect("in range"));
        let (from, to) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
        for i in 0..1000_u16 {
            sim.send(from, addr("10.0.0.1:7"), &i.to_be_bytes());
            sim.run_for(Duration::from_micros(1));
        }
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(support::payloads(&mut sim, to).is_sorted(), kept);
    }
}

#[test]
fn delay_is_exact_and_links_have_directions() {
    let mut sim = Sim::new(13);
    sim.link(LinkConfig::new().delay(Duration::from_millis(7)).expect("in range"));
    let slow = LinkConfig::new().delay(Duration::from_millis(20)).expect("in range");
    sim.link_between(ip("10.0.0.1"), ip("10.0.0.2"), slow);
    let (a, b) = (sim.socket(addr("10.0.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
    for (from, to, ms) in [(a, b, 7), (b, a, 20)] {
        let address = sim.socket_addr(to);
        sim.send(from, address, b"x");
        sim.run_for(Duration::from_millis(ms) - Duration::from_nanos(1));
        assert!(sim.receive(to).is_none());
        sim.run_for(Duration::from_nanos(1));
        assert!(sim.receive(to).is_some());
    }
}

#[test]
fn what_nobody_listens_to_is_unclaimed() {
    let mut sim = Sim::new(14);
    let from = sim.socket(addr("10.0.0.2:5000"));
    sim.send(from, addr("10.0.0.1:7"), b"x");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!((sim.counts().unclaimed, sim.counts().unaccounted()), (1, 0));
}

/// Answers with so many bytes as it is asked for, and tells a raw socket what went wrong.
struct Verbose;

impl Handler for Verbose {
    type Peer = Option<PeerError>;
    type Timer = ();
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Self::Peer> {
        Accept::Peer(None)
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        let _ = cx.io.send(from, &[0; 1473]);
    }
    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        if let Some(state) = cx.peers.get_mut(peer) {
            *state = Some(error);
        }
        cx.io.close(peer);
    }
    fn on_closed(
        &mut self,
        _: &mut Context<'_, Self>,
        _: PeerId,
        state: Option<PeerError>,
        why: CloseReason,
    ) {
        if why == CloseReason::Asked {
            ERRORS.with_borrow_mut(|errors| errors.extend(state));
        }
    }
}

thread_local! {
    static ERRORS: std::cell::RefCell<Vec<PeerError>> = const { std::cell::RefCell::new(Vec::new()) };
}

#[test]
fn a_send_that_fails_is_reported_with_its_peer() {
    let mut sim = Sim::new(15);
    let server = sim.server(&[ip("10.0.0.1")], &listening("10.0.0.1:7"), |_| Verbose).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    let back = |sim: &mut Sim, link| sim.link_between(ip("10.0.0.1"), ip("10.0.0.2"), link);
    for link in [LinkConfig::new().mtu(Some(1500)).expect("in range"), LinkConfig::new().cut(true)] {
        back(&mut sim, link);
        sim.send(client, addr("10.0.0.1:7"), b"x");
        assert!(sim.run_until_quiet(SECOND));
    }
    back(&mut sim, LinkConfig::new().mtu(Some(1501)).expect("in range"));
    sim.send(client, addr("10.0.0.1:7"), b"x");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.receive(client).map(|r| r.bytes.len()), Some(1473));
    let stats = sim.stats(&server);
    assert_eq!((stats.submitted, stats.sent()), (3, 1));
    assert_eq!((stats.send_failed_too_long, stats.send_failed_unreachable), (1, 1));
    let errors = ERRORS.take();
    assert_eq!(errors, [PeerError::TooLong { mtu: Some(1500) }, PeerError::Unreachable]);
}

#[test]
fn a_full_socket_drops_and_counts() {
    let mut sim = Sim::new(16);
    let config = Config::new().listen(addr("10.0.0.1:7")).receive_socket_bytes(16 << 10);
    let server = support::echo(&mut sim, &config);
    let client = sim.socket(addr("10.0.0.2:5000"));
    for _ in 0..100 {
        sim.send(client, addr("10.0.0.1:7"), &[0; 512]);
    }
    assert!(sim.run_until_quiet(SECOND));
    let answered = all(&mut sim, client).len() as u64;
    assert_eq!(answered, 16, "each is charged with as much again");
    assert_eq!(sim.stats(&server).kernel_dropped, 0, "nobody asked yet");
    sim.refresh(&server);
    assert_eq!(sim.stats(&server).kernel_dropped, 100 - answered);
    assert_eq!(sim.counts().overflowed, 100 - answered);
    assert_eq!(sim.counts().unaccounted(), 0);
}
