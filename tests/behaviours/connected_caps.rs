//! Sockets of peers' own are bounded: in the process, at each local address, and by the limit of descriptors.
//! Where a bound is reached, the peer that was silent for longest gives its socket up, if it was silent for
//! long enough; otherwise the promotion is refused, and counted.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use shardgram::{Backend, Config, Server, StartError, Tier, TierPolicy};

use crate::common::lab::{LONG_PATIENCE, Lab, Welcome, connected_to, loopback_of_both, next_turn};
use crate::common::raw;
use crate::common::{Peer, loopback, skip};

/// Longer than a peer must have been silent to give up its socket to one the handler wants connected.
const SILENCE: Duration = Duration::from_millis(3);

fn addresses(clients: &[Peer]) -> Vec<SocketAddr> {
    clients.iter().map(Peer::address).collect()
}

/// Peers come one after the other and are accepted with sockets.
fn come(lab: &mut Lab, at: SocketAddr, clients: &[Peer]) {
    for client in clients {
        let before = lab.stats();
        lab.bed.send(client, at, b"in");
        lab.datagram();
        lab.until("it is decided", |stats| {
            stats.promoted + stats.promotions_refused > before.promoted + before.promotions_refused
        });
        lab.bed.pass(SILENCE);
    }
}

#[test]
fn the_most_silent_gives_way_in_the_process() {
    for config in loopback_of_both() {
        let Some(mut lab) = Lab::start(config.max_connected(4), Welcome::Connect) else { return };
        let at = lab.address();
        let clients: Vec<_> = (0..10).map(|_| lab.bed.peer(at)).collect();
        for n in 0..clients.len() {
            come(&mut lab, at, &clients[n..=n]);
            let last: Vec<_> = addresses(&clients[n.saturating_sub(3)..=n]);
            lab.until_connected_to(at, &last);
        }
        // The first of those is heard again, so the second is now the most silent.
        lab.bed.send(&clients[6], at, b"here");
        lab.datagram();
        lab.bed.pass(SILENCE);
        lab.bed.send(&clients[0], at, b"I was the first");
        let (peer, ..) = lab.datagram();
        lab.with_peer(peer, move |io| io.promote(peer));
        let left = [&addresses(&clients[8..])[..], &[clients[6].address(), clients[0].address()]].concat();
        lab.until_connected_to(at, &left);
        let stats = lab.drain();
        assert_eq!((stats.promoted, stats.promotions_refused), (11, 0));
    }
}

#[test]
fn and_at_each_address() {
    let listeners = ["127.0.0.1:0", "127.0.0.2:0", "[::1]:0"];
    let config = listeners.iter().fold(Config::new(), |config, at| config.listen(at.parse().unwrap()));
    let config = config.max_connected(8).max_connected_per_address(2);
    let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
    let all = lab.bed.addresses(&lab.server);
    let clients: Vec<Vec<_>> = all.iter().map(|at| (0..4).map(|_| lab.bed.peer(*at)).collect()).collect();
    for (at, clients) in all.iter().zip(&clients) {
        come(&mut lab, *at, clients);
    }
    for (at, clients) in all.iter().zip(&clients) {
        lab.until_connected_to(*at, &addresses(&clients[2..]));
    }
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted, stats.promotions_refused), (12, 12, 0));
}

/// A bound for the process holds however many shards there are, also if there are fewer sockets than shards.
#[test]
fn shards_share_the_bound() {
    for cap in [1_u32, 3, 8] {
        for per_address in [false, true] {
            let config = loopback().shards(2);
            let config =
                if per_address { config.max_connected_per_address(cap) } else { config.max_connected(cap) };
            let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
            let at = lab.address();
            let clients: Vec<_> = (0..30).map(|_| lab.bed.peer(at)).collect();
            for client in &clients {
                lab.bed.send(client, at, b"in");
                lab.datagram();
                lab.bed.pass(Duration::from_millis(2));
                // The list is not of one moment: one that goes and the next one may both be in it.
                lab.bed.until("there are no more than may be", |_| {
                    let connected = connected_to(at).into_iter().filter(|remote| *remote != at);
                    connected.count() as u64 <= u64::from(cap)
                });
            }
            lab.until("all of them are there", |stats| stats.connected() == u64::from(cap));
            lab.drain();
        }
    }
}

#[test]
fn nobody_is_promoted_where_nobody_may_be() {
    for config in [loopback().max_connected(0), loopback().max_connected_per_address(0)] {
        let config = config.tier(TierPolicy::Connected);
        let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
        let at = lab.address();
        let client = lab.bed.peer(at);
        assert_eq!(lab.bed.ask(&client, at, b"ask"), b"ask");
        let (peer, ..) = lab.datagram();
        lab.with_peer(peer, move |io| io.promote(peer));
        assert_eq!(lab.tier(peer), Some(Tier::Listener));
        let stats = lab.drain();
        assert_eq!((stats.promoted, stats.promotions_failed), (0, 0));
        assert!(stats.promotions_refused >= 2);
    }
}

/// Peers that send all the time keep their sockets, and no more wishes wait than there can be sockets.
#[test]
fn the_busy_keep_theirs_and_wishes_are_bounded() {
    const ALL: u64 = 200;
    let Some(mut lab) = Lab::start(loopback().max_connected(4), Welcome::Peer) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..ALL).map(|_| lab.bed.peer(at)).collect();
    for client in &clients {
        lab.bed.send(client, at, b"in");
        lab.datagram();
    }
    lab.run(0, |subject, cx| {
        for peer in subject.known.values() {
            cx.io.promote(*peer);
        }
    });
    let stats = lab.until("all are decided", |s| s.promoted + s.promotions_refused == ALL);
    assert_eq!((stats.promoted, stats.demoted), (4, 0), "four wishes were taken, and granted");
    // All that have one are heard in the same moment in which the others wish for one.
    let connected = connected_to(at);
    let held = lab.hold(0);
    for client in clients.iter().filter(|client| connected.contains(&client.address())) {
        lab.bed.send(client, at, b"busy");
    }
    lab.bed.tell(
        &lab.server,
        0,
        Box::new(move |subject, cx| {
            let listening: Vec<_> = subject.known.values().copied().collect();
            // A turn later, when they have been heard.
            next_turn(
                cx.io,
                Box::new(move |_, cx| listening.into_iter().for_each(|peer| cx.io.promote(peer))),
            );
        }),
    );
    drop(held);
    let stats = lab.until("all are decided", |s| s.promoted + s.promotions_refused >= 2 * ALL - 4);
    assert!(stats.promotions_refused >= 2 * ALL - 12, "{stats:?}");
    assert_eq!(stats.connected(), 4);
    lab.drain();
}

/// A flow that was refused many times is looked at again as long as it goes on.
#[test]
fn a_flow_that_was_refused_for_long_gets_its_socket_when_there_is_room() {
    /// Enough in a row for a wish, and soon over, so that nobody is silent for long meanwhile.
    const BURST: u32 = 100;
    let config = loopback().tier(TierPolicy::Adaptive).max_connected(1);
    let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
    let at = lab.address();
    let (first, second) = (lab.bed.peer(at), lab.bed.peer(at));
    let send = |lab: &mut Lab, client: &Peer| {
        (0..BURST).for_each(|n| lab.bed.send(client, at, &n.to_be_bytes()));
        // What is sent has come before more is.
        (0..BURST).for_each(|_| drop(lab.datagram()));
    };
    send(&mut lab, &first);
    lab.until_connected_to(at, &[first.address()]);
    let end = Instant::now() + LONG_PATIENCE;
    while lab.stats().promotions_refused < 5 {
        send(&mut lab, &second);
        send(&mut lab, &first);
        assert!(Instant::now() < end, "it is refused: {:?}", lab.stats());
    }
    let stats = lab.stats();
    assert_eq!(stats.promoted, 1, "{stats:?}");
    // The first is silent now, and the second goes on without a pause.
    let end = Instant::now() + LONG_PATIENCE;
    while lab.stats().promoted == 1 {
        send(&mut lab, &second);
        assert!(Instant::now() < end, "it is never looked at again");
    }
    lab.until_connected_to(at, &[second.address()]);
    lab.drain();
}

#[test]
fn more_than_descriptors_allow_is_refused_with_the_number_that_fits() {
    if crate::common::Bed::uring().is_none() {
        return;
    }
    for shards in [1, 2, 4] {
        let config = loopback().backend(Backend::Uring).shards(shards);
        let error = Server::bind(config.clone().max_connected(1 << 20)).expect_err("too many");
        let StartError::TooManyConnected { asked, fits, limit } = error else { panic!("{error}") };
        assert_eq!(asked, 1 << 20);
        assert!(fits < limit, "listeners and others need some, too");
        let text = error.to_string();
        assert!(text.contains(&fits.to_string()) && text.contains("ulimit -n"), "{text}");
        let fits = u32::try_from(fits).unwrap();
        Server::bind(config.clone().max_connected(fits)).expect("what is said to fit does");
        Server::bind(config.max_connected(fits + 1)).expect_err("and no more");
    }
}

#[test]
fn source_port_zero_gets_no_socket() {
    if !raw::allowed() {
        return skip::record("raw sockets need root");
    }
    let config = loopback().tier(TierPolicy::Connected);
    let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
    let at = lab.address();
    raw::Udp::from_port(0).send(at, b"from nowhere");
    lab.until("it is counted", |stats| stats.dropped_port_zero == 1);
    let client = lab.bed.peer(at);
    assert_eq!(lab.bed.ask(&client, at, b"ask"), b"ask");
    lab.until_connected_to(at, &[client.address()]);
    // Neither does it come by the socket of another peer of that address.
    raw::Udp::from_port(0).send(at, b"from nowhere");
    lab.until("it is counted", |stats| stats.dropped_port_zero == 2);
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.promotions_failed, stats.peers_opened), (1, 0, 1));
}

/// More peers than there may be sockets, all of which go on sending now and then: they do not take each other's
/// sockets all the time.
#[test]
fn under_the_cap_sockets_do_not_go_round() {
    let config = loopback().tier(TierPolicy::Connected).max_connected(4);
    let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..12).map(|_| lab.bed.peer(at)).collect();
    for _ in 0..60 {
        for client in &clients {
            lab.bed.send(client, at, b"now and then");
            lab.datagram();
        }
        lab.bed.pass(SILENCE);
    }
    let stats = lab.drain();
    assert!((4..=12).contains(&stats.promoted), "once for each that came, at most: {stats:?}");
}
