//! A peer gets a socket of its own and loses it again: the handler sees the same peer on the same path all
//! the time, answers come from the address written to, and the kernel has the socket, and then has it no more.

use std::net::SocketAddr;
use std::time::Duration;

use shardgram::{CloseReason, Config, Endpoint, PeerId, Tier, TierPolicy, Via};

use crate::common::lab::{Lab, Seen, Welcome, connected_to, loopback_of_both};
use crate::common::{Peer, loopback, pattern};

/// Writes to the server, wants the answer, and gives who it was for the handler, in which tier.
fn ask(lab: &mut Lab, peer: &Peer, to: SocketAddr, text: &str) -> (PeerId, Option<Tier>) {
    let text = format!("ask {text}");
    assert_eq!(lab.bed.ask(peer, to, text.as_bytes()), text.as_bytes());
    let (id, path, tier, bytes) = lab.datagram();
    assert_eq!((path.local, path.remote), (to, peer.address()), "the path is what it was");
    assert_eq!(bytes, text.as_bytes());
    (id, tier)
}

fn is_connected(lab: &mut Lab, peer: &Peer) {
    let at = lab.address();
    lab.until_connected_to(at, &[peer.address()]);
}

fn nobody_is_connected(lab: &mut Lab) {
    let at = lab.address();
    lab.until_connected_to(at, &[]);
}

#[test]
fn promoted_and_demoted_again_and_again() {
    for config in loopback_of_both() {
        let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
        let at = lab.address();
        let client = lab.bed.peer(at);
        let (peer, tier) = ask(&mut lab, &client, at, "at first");
        assert_eq!(tier, Some(Tier::Listener));
        for round in 1..=5 {
            lab.with_peer(peer, move |io| io.promote(peer));
            is_connected(&mut lab, &client);
            for text in ["through it", "and again"] {
                assert_eq!(ask(&mut lab, &client, at, text), (peer, Some(Tier::Connected)));
            }
            let stats = lab.stats();
            assert_eq!((stats.promoted, stats.demoted, stats.connected()), (round, round - 1, 1));
            lab.with_peer(peer, move |io| io.demote(peer));
            assert_eq!(lab.tier(peer), Some(Tier::Listener), "at once, for whoever asks");
            assert_eq!(ask(&mut lab, &client, at, "while it goes"), (peer, Some(Tier::Listener)));
            nobody_is_connected(&mut lab);
            assert_eq!(ask(&mut lab, &client, at, "without it"), (peer, Some(Tier::Listener)));
        }
        let stats = lab.drain();
        assert_eq!((stats.promoted, stats.demoted, stats.connected()), (5, 5, 0));
        assert_eq!((stats.received, stats.sent(), stats.redispatched), (21, 21, 0));
        assert_eq!((stats.promotions_refused, stats.promotions_failed, stats.handovers_timed_out), (0, 0, 0));
        assert!(stats.promotion_ns > 0);
    }
}

#[test]
fn accepted_with_a_socket() {
    for config in loopback_of_both() {
        let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
        let at = lab.address();
        let client = lab.bed.peer(at);
        let (peer, tier) = ask(&mut lab, &client, at, "in");
        assert_eq!(tier, Some(Tier::Listener), "the first datagram came by the listener");
        is_connected(&mut lab, &client);
        assert_eq!(ask(&mut lab, &client, at, "more"), (peer, Some(Tier::Connected)));
        assert_eq!(lab.drain().promoted, 1);
        assert_eq!(connected_to(at), []);
    }
}

#[test]
fn a_peer_that_is_closed_takes_its_socket_along() {
    let Some(mut lab) = Lab::start(loopback(), Welcome::Connect) else { return };
    let at = lab.address();
    let client = lab.bed.peer(at);
    let (peer, _) = ask(&mut lab, &client, at, "in");
    is_connected(&mut lab, &client);
    lab.with_peer(peer, move |io| io.close(peer));
    nobody_is_connected(&mut lab);
    assert_eq!(lab.tier(peer), None);
    assert_eq!(lab.seen.try_recv(), Ok(Seen::Closed { peer, why: CloseReason::Asked }));
    // What asks for one that is gone is for nothing.
    lab.with_peer(peer, move |io| {
        io.promote(peer);
        io.demote(peer);
    });
    let (next, _) = ask(&mut lab, &client, at, "once more");
    assert_ne!(next, peer);
    is_connected(&mut lab, &client);
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted, stats.peers_opened), (2, 2, 2));
}

#[test]
fn the_last_word_counts() {
    let Some(mut lab) = Lab::start(loopback(), Welcome::Peer) else { return };
    let at = lab.address();
    let client = lab.bed.peer(at);
    let (peer, _) = ask(&mut lab, &client, at, "in");
    lab.with_peer(peer, move |io| {
        io.promote(peer);
        io.demote(peer);
    });
    assert_eq!(ask(&mut lab, &client, at, "demoted last").1, Some(Tier::Listener));
    lab.with_peer(peer, move |io| (0..5).for_each(|_| io.promote(peer)));
    lab.until("it is promoted once", |stats| stats.promoted == 1);
    lab.with_peer(peer, move |io| {
        io.demote(peer);
        io.promote(peer);
    });
    lab.until("it is promoted anew", |stats| stats.promoted == 2);
    assert_eq!(ask(&mut lab, &client, at, "promoted last").1, Some(Tier::Connected));
    lab.with_peer(peer, move |io| {
        io.demote(peer);
        io.promote(peer);
        io.demote(peer);
        io.promote(peer);
        io.demote(peer);
    });
    nobody_is_connected(&mut lab);
    assert_eq!(ask(&mut lab, &client, at, "demoted last").1, Some(Tier::Listener));
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted), (2, 2));
}

#[test]
fn by_the_policy_as_soon_as_they_are_made() {
    let config = loopback().tier(TierPolicy::Connected);
    let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..20).map(|_| lab.bed.peer(at)).collect();
    for client in &clients {
        ask(&mut lab, client, at, "in");
    }
    let all: Vec<_> = clients.iter().map(Peer::address).collect();
    lab.until_connected_to(at, &all);
    for client in &clients {
        assert_eq!(ask(&mut lab, client, at, "more").1, Some(Tier::Connected));
    }
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted, stats.received), (20, 20, 40));
}

/// Longer than what counts as a pause, and what makes a peer give up its socket to one that sends much.
const PAUSE: Duration = Duration::from_millis(1_100);

#[test]
fn by_the_policy_after_64_datagrams_without_a_pause() {
    let config = loopback().tier(TierPolicy::Adaptive);
    let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
    let at = lab.address();
    let client = lab.bed.peer(at);
    let (peer, _) = ask(&mut lab, &client, at, "1");
    let send = |lab: &mut Lab, count| {
        for _ in 0..count {
            assert_eq!(ask(lab, &client, at, "more"), (peer, Some(Tier::Listener)));
        }
    };
    // The one that made the peer does not count.
    send(&mut lab, 63);
    lab.bed.pass(PAUSE);
    send(&mut lab, 63);
    assert_eq!(lab.stats().promoted, 0, "the pause made it begin anew");
    send(&mut lab, 1);
    is_connected(&mut lab, &client);
    assert_eq!(ask(&mut lab, &client, at, "and now"), (peer, Some(Tier::Connected)));
    lab.with_peer(peer, move |io| io.demote(peer));
    nobody_is_connected(&mut lab);
    send(&mut lab, 63);
    assert_eq!(lab.stats().promoted, 1, "who was demoted has to earn it anew");
    send(&mut lab, 1);
    is_connected(&mut lab, &client);
    lab.drain();
}

#[test]
fn the_silent_give_their_sockets_up_to_who_sends_much() {
    let config = loopback().tier(TierPolicy::Adaptive).max_connected(2);
    let Some(mut lab) = Lab::start(config, Welcome::Peer) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..3).map(|_| lab.bed.peer(at)).collect();
    let earn = |lab: &mut Lab, client: &Peer| {
        for _ in 0..65 {
            ask(lab, client, at, "more");
        }
    };
    earn(&mut lab, &clients[0]);
    earn(&mut lab, &clients[1]);
    lab.until_connected_to(at, &[clients[0].address(), clients[1].address()]);
    // However slow the machine is, the others have just spoken.
    for _ in 0..65 {
        for client in &clients {
            ask(&mut lab, client, at, "more");
        }
    }
    assert_eq!(lab.stats().promotions_refused, 1, "nobody has been silent for a second");
    lab.bed.pass(PAUSE);
    ask(&mut lab, &clients[1], at, "I am here");
    earn(&mut lab, &clients[2]);
    lab.until_connected_to(at, &[clients[1].address(), clients[2].address()]);
    assert_eq!(ask(&mut lab, &clients[0], at, "I am, too").1, Some(Tier::Listener));
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.promotions_refused), (3, 1));
}

#[test]
fn at_several_listeners_on_two_shards() {
    let listeners = ["127.0.0.1:0", "127.0.0.1:0", "127.0.0.2:0", "[::1]:0"];
    let config = listeners.iter().fold(Config::new(), |config, at| config.listen(at.parse().unwrap()));
    let Some(mut lab) = Lab::start(config.shards(2), Welcome::Peer) else { return };
    let addresses = lab.bed.addresses(&lab.server);
    let v4: Vec<_> = (0..10).map(|_| lab.bed.peer(addresses[0])).collect();
    let v6: Vec<_> = (0..10).map(|_| lab.bed.peer(addresses[3])).collect();
    // One client is another peer at each of the listeners.
    let mut all = Vec::new();
    for &at in &addresses {
        for client in if at.is_ipv4() { &v4 } else { &v6 } {
            let (peer, _) = ask(&mut lab, client, at, "in");
            lab.with_peer(peer, move |io| io.promote(peer));
            all.push((at, client, peer));
        }
    }
    assert!((0..2).all(|shard| all.iter().any(|(_, _, peer)| peer.shard() == shard)));
    for &at in &addresses {
        let here: Vec<_> = all.iter().filter(|entry| entry.0 == at).map(|entry| entry.1.address()).collect();
        lab.until_connected_to(at, &here);
    }
    for round in 0..3 {
        for &(at, client, peer) in &all {
            let answer = ask(&mut lab, client, at, &format!("round {round}"));
            assert_eq!(answer, (peer, Some(Tier::Connected)));
        }
    }
    for &(_, _, peer) in all.iter().step_by(2) {
        lab.with_peer(peer, move |io| io.demote(peer));
    }
    let stats = lab.until("half of them are demoted", |stats| stats.demoted == 20);
    assert_eq!((stats.promoted, stats.connected()), (40, 20));
    for (n, &(at, client, peer)) in all.iter().enumerate() {
        let tier = if n % 2 == 0 { Tier::Listener } else { Tier::Connected };
        assert_eq!(ask(&mut lab, client, at, "after"), (peer, Some(tier)));
    }
    let stats = lab.drain();
    assert_eq!((stats.received, stats.sent(), stats.peers_opened), (200, 200, 40));
    assert!(addresses.iter().all(|at| connected_to(*at).is_empty()));
}

#[test]
fn an_error_of_the_network_is_told_to_its_peer_and_ends_nothing() {
    for config in loopback_of_both() {
        let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
        let at = lab.address();
        let (client, other) = (lab.bed.peer(at), lab.bed.peer(at));
        let (peer, _) = ask(&mut lab, &client, at, "in");
        ask(&mut lab, &other, at, "in");
        lab.until_connected_to(at, &[client.address(), other.address()]);
        let address = client.address();
        drop(client);
        // Nobody has the port any more: the host says so.
        lab.with_peer(peer, move |io| io.send(peer, b"hello?").expect("room"));
        let refused = Seen::Error { peer, error: shardgram::PeerError::Refused };
        while lab.seen.recv_timeout(crate::common::PATIENCE).expect("the error is told") != refused {}
        assert_eq!(ask(&mut lab, &other, at, "still there").1, Some(Tier::Connected));
        // The same peer at the same port is served as before.
        let client = Peer::Real(std::net::UdpSocket::bind(address).expect("its own port"));
        for _ in 0..3 {
            assert_eq!(ask(&mut lab, &client, at, "I am back"), (peer, Some(Tier::Connected)));
        }
        let stats = lab.drain();
        assert!(stats.peer_errors + stats.send_failed_refused > 0, "{stats:?}");
        assert_eq!(stats.send_failed_full, 0);
    }
}

/// Whatever comes by a listener comes by a peer's own socket, in order.
#[test]
fn datagrams_of_all_sizes_come_through_it() {
    for config in loopback_of_both() {
        let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
        let at = lab.address();
        let client = lab.bed.peer(at);
        let (peer, _) = ask(&mut lab, &client, at, "in");
        is_connected(&mut lab, &client);
        // An empty datagram ends a receive of the ring, which goes on all the same.
        let sizes = [0, 1, 0, 0, 1_472, 9_000, 0, 65_507, 3];
        for _ in 0..3 {
            for size in sizes {
                lab.bed.send(&client, at, &pattern(size));
            }
            for size in sizes {
                let (from, _, tier, bytes) = lab.datagram();
                assert_eq!((from, tier, bytes), (peer, Some(Tier::Connected), pattern(size)));
            }
        }
        // And back: the longest there is.
        let mut longest = pattern(65_507);
        longest[..3].copy_from_slice(b"ask");
        assert_eq!(lab.bed.ask(&client, at, &longest), longest);
        lab.drain();
    }
}

#[test]
fn an_idle_peer_takes_its_socket_along() {
    let config = loopback().idle_timeout(Some(Duration::from_millis(100)));
    let Some(mut lab) = Lab::start(config, Welcome::Connect) else { return };
    let at = lab.address();
    let client = lab.bed.peer(at);
    let (peer, _) = ask(&mut lab, &client, at, "in");
    let stats = lab.until("it is closed", |stats| stats.peers_closed == 1);
    assert_eq!((stats.promoted, stats.demoted), (1, 1));
    assert_eq!(
        lab.seen.recv_timeout(crate::common::PATIENCE),
        Ok(Seen::Closed { peer, why: CloseReason::Idle })
    );
    nobody_is_connected(&mut lab);
    lab.drain();
}

/// Only peers of listeners get sockets of their own: an endpoint is one already.
#[test]
fn a_peer_of_an_endpoint_stays_there() {
    let Some(mut lab) = Lab::start(loopback().tier(TierPolicy::Connected), Welcome::Peer) else { return };
    let at = lab.address();
    let server = lab.bed.peer(at);
    let remote = server.address();
    let peer = lab.run(0, move |_, cx| {
        let endpoint = cx.io.endpoint(Endpoint::bound(([127, 0, 0, 1], 0).into())).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), remote, ()).expect("room");
        cx.io.promote(peer);
        cx.io.send(peer, b"hello").expect("room");
        peer
    });
    assert_eq!(lab.bed.receive(&server).1, b"hello");
    assert_eq!(lab.tier(peer), Some(Tier::Listener));
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.promotions_failed, stats.promotions_refused), (0, 0, 1));
}
