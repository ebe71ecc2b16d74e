//! Connected peers are closed while they flood: what their sockets hold is a new peer's or is accounted for,
//! no descriptor is left over, and old ids find nothing.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::mpsc;
use std::time::Duration;

use shardgram::{
    Accept, CloseReason, Config, Context, Datagram, Handler, Io, Origin, PeerId, SendError, Tier,
};

use crate::common::lab::{
    Flood, LONG_PATIENCE, Lab, Order, Subject, Welcome, alone, connected_to, loopback_of_both, next_turn,
    sockets_at, until_accounted, wait_in_callback,
};
use crate::common::{Bed, PATIENCE, loopback};

/// Connects everybody and closes them again, some at once and some later; keeps the ids of the closed.
#[derive(Default)]
struct Fickle {
    gone: Vec<PeerId>,
    ever: HashSet<PeerId>,
    /// Datagrams by sender, as far as they say who it is.
    misdelivered: u64,
    calm: bool,
}

/// Says to the handler below that it is to fail.
const FAIL: [u8; 2] = [0, 0];

/// What is kept of a peer: its address, and how many datagrams it sent.
struct Known {
    remote: SocketAddr,
    came: u32,
}

impl Handler for Fickle {
    type Peer = Known;
    type Timer = ();
    /// Close nobody any more, and say how many datagrams were given to somebody else.
    type Message = mpsc::Sender<u64>;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Known> {
        Accept::Connect(Known { remote: first.path().remote, came: 0 })
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let known = cx.peers.get_mut(from).expect("it is there");
        known.came += 1;
        assert!(datagram[..] != FAIL, "as the datagram asks");
        let port = u16::from_be_bytes(datagram[..2].try_into().expect("a port"));
        let its_own = datagram.path().remote == known.remote && known.remote.port() == port;
        self.misdelivered += u64::from(!its_own);
        // After a while, for some of them while the socket is still being made.
        if !self.calm && known.came > u32::from(port % 5) * 20 {
            cx.io.close(from);
        }
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: Known, why: CloseReason) {
        assert!(self.ever.insert(peer), "an id names one peer ever");
        assert_eq!((cx.io.tier(peer), cx.peers.contains(peer)), (None, false));
        if why == CloseReason::Asked {
            self.gone.push(peer);
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        for &old in self.gone.iter().rev().take(64) {
            assert_eq!(cx.io.tier(old), None);
            assert_eq!(cx.io.send(old, b"to nobody"), Err(SendError::Gone));
            cx.io.promote(old);
            cx.io.demote(old);
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, tell: mpsc::Sender<u64>) {
        self.calm = true;
        tell.send(self.misdelivered).expect("the test waits");
    }
}

fn close_under_flood(config: Config, shards: u16, closes: u64) {
    let _alone = alone();
    let Some(mut bed) = Bed::uring() else { return };
    let server = bed.serve(config.shards(shards).max_connected(64), |_| Fickle::default());
    let at = bed.address(&server);
    let flood = Flood::start(sockets_at(at.ip(), 20), at, |port, _| port.to_be_bytes());
    bed.until_within(LONG_PATIENCE, "many are closed", |bed| bed.stats(&server).demoted >= closes);
    let sent = flood.stop();
    let (tell, told) = mpsc::channel();
    for shard in 0..shards {
        bed.tell(&server, shard, tell.clone());
        assert_eq!(told.recv_timeout(PATIENCE), Ok(0), "nothing was given to somebody else");
    }
    until_accounted(&mut bed, &server, sent);
    bed.until("sockets of the closed are gone", |bed| {
        connected_to(at).len() as u64 == bed.stats(&server).connected()
    });
    let stats = bed.drain(server);
    assert_eq!(stats.received + stats.kernel_dropped, sent, "{stats:?}");
    assert_eq!((stats.restarts, stats.redispatched, stats.dropped_malformed), (0, 0, 0));
    assert_eq!(stats.promoted, stats.demoted);
    assert_eq!(connected_to(at), []);
}

#[test]
fn under_their_own_flood() {
    loopback_of_both().into_iter().for_each(|config| close_under_flood(config, 1, 500));
}

#[test]
fn under_their_own_flood_on_two_shards() {
    loopback_of_both().into_iter().for_each(|config| close_under_flood(config, 2, 500));
}

/// The handler fails while its peers flood: they are new ones then, with sockets of their own.
#[test]
fn when_the_handler_fails() {
    let _alone = alone();
    for config in loopback_of_both() {
        let Some(mut bed) = Bed::uring() else { return };
        let server = bed.serve(config.max_connected(64), |_| Fickle { calm: true, ..Fickle::default() });
        let at = bed.address(&server);
        let flood = Flood::start(sockets_at(at.ip(), 20), at, |port, round| {
            if round % 64 == 0 {
                std::thread::sleep(Duration::from_micros(100));
            }
            port.to_be_bytes()
        });
        let saboteur = bed.peer(at);
        let all_connected = |bed: &mut Bed| {
            bed.until_within(LONG_PATIENCE, "all are connected", |bed| bed.stats(&server).connected() >= 20);
        };
        let mut failures = 0;
        for lives in 1..=3 {
            all_connected(&mut bed);
            bed.until_within(LONG_PATIENCE, "the handler fails", |bed| {
                if bed.stats(&server).restarts >= lives {
                    return true;
                }
                // The flood may have left it no room.
                bed.send(&saboteur, at, &FAIL);
                failures += 1;
                bed.pass(Duration::from_secs(1));
                false
            });
        }
        all_connected(&mut bed);
        let sent = flood.stop() + failures;
        until_accounted(&mut bed, &server, sent);
        let stats = bed.drain(server);
        assert_eq!(stats.received + stats.kernel_dropped, sent, "{stats:?}");
        assert_eq!(stats.promoted, stats.demoted);
        assert_eq!(connected_to(at), []);
    }
}

/// The shard is held while datagrams wait in a connected peer's socket; then the peer is closed.
#[test]
fn what_its_socket_holds_is_a_new_peers() {
    for config in loopback_of_both() {
        for k in [1, 40, 200_u32] {
            let Some(mut lab) = Lab::start(config.clone().turn_budget(1), Welcome::Connect) else { return };
            let at = lab.address();
            let client = lab.bed.peer(at);
            lab.bed.send(&client, at, b"in");
            let (old, ..) = lab.datagram();
            lab.until_connected_to(at, &[client.address()]);
            let held = lab.hold(0);
            (0..k).for_each(|n| lab.bed.send(&client, at, &n.to_be_bytes()));
            lab.bed.tell(&lab.server, 0, Box::new(move |_, cx| cx.io.close(old)));
            drop(held);
            let (new, ..) = lab.datagram();
            assert_ne!(new, old);
            for _ in 1..k {
                assert_eq!(lab.datagram().0, new);
            }
            lab.until_connected_to(at, &[client.address()]);
            let stats = lab.drain();
            assert_eq!(
                (stats.received, stats.delivered, stats.peers_opened),
                (u64::from(k) + 1, u64::from(k) + 1, 2)
            );
            assert_eq!((stats.promoted, stats.dropped_closed, stats.kernel_dropped), (2, 0, 0));
        }
    }
}

/// Has something done in the turn that makes a peer's socket. That may not be the next one: the shard hears that the
/// path's former socket is gone after the kernel has let it go.
fn once_connected(io: &mut Io<Subject>, peer: PeerId, order: Order) {
    let look = move |subject: &mut Subject, cx: &mut Context<'_, Subject>| match cx.io.tier(peer) {
        Some(Tier::Connected) => order(subject, cx),
        _ => once_connected(cx.io, peer, order),
    };
    next_turn(io, Box::new(look));
}

/// The peer is closed in the turn that makes its socket, before anything came by it.
#[test]
fn closed_while_its_socket_is_made() {
    let Some(mut lab) = Lab::start(loopback(), Welcome::Peer) else { return };
    let at = lab.address();
    let client = lab.bed.peer(at);
    for round in 0..50_u64 {
        lab.bed.send(&client, at, b"in");
        let (peer, ..) = lab.datagram();
        let (begin, begun) = mpsc::channel();
        let (release, until) = mpsc::channel();
        let order: Order = Box::new(move |_, cx| {
            cx.io.promote(peer);
            once_connected(
                cx.io,
                peer,
                Box::new(move |_, cx| {
                    wait_in_callback(&begin, &until);
                    cx.io.close(peer);
                }),
            );
        });
        lab.bed.tell(&lab.server, 0, order);
        begun.recv_timeout(PATIENCE).expect("it is held");
        // With something in the new socket and without.
        let more = round % 2;
        (0..more).for_each(|_| lab.bed.send(&client, at, b"more"));
        drop(release);
        if more > 0 {
            let (next, ..) = lab.datagram();
            assert_ne!(next, peer);
            lab.with_peer(next, move |io| io.close(next));
        }
        lab.until_connected_to(at, &[]);
    }
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted, stats.restarts), (50, 50, 0));
    assert_eq!((stats.delivered, stats.kernel_dropped), (75, 0));
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").expect("proc is mounted").count()
}

/// A place is used again only when the last completion of its socket has come: places are few here, and used
/// by many peers in turn.
#[test]
fn places_are_used_again() {
    const ROUNDS: u64 = 300;
    let Some(mut lab) = Lab::start(loopback().max_connected(4), Welcome::Connect) else { return };
    let at = lab.address();
    let before = descriptors();
    let mut ids = HashSet::new();
    for round in 0..ROUNDS {
        let clients: Vec<_> = (0..4).map(|_| lab.bed.peer(at)).collect();
        for client in &clients {
            lab.bed.send(client, at, &round.to_be_bytes());
            let (peer, path, _, bytes) = lab.datagram();
            assert_eq!((path.remote, bytes), (client.address(), round.to_be_bytes().to_vec()));
            assert!(ids.insert(peer), "an id names one peer ever");
        }
        let all: Vec<_> = clients.iter().map(|client| client.address()).collect();
        lab.until_connected_to(at, &all);
        for client in &clients {
            lab.bed.send(client, at, b"ask");
            assert_eq!(lab.bed.receive(client), (at, b"ask".to_vec()));
            let (peer, path, tier, _) = lab.datagram();
            assert_eq!((path.remote, tier), (client.address(), Some(Tier::Connected)));
            lab.with_peer(peer, move |io| io.close(peer));
        }
        lab.until_connected_to(at, &[]);
    }
    lab.bed.pass(Duration::from_millis(20));
    // Other tests of this process have descriptors, too, but no leak of each round is as small as that.
    assert!(descriptors() < before + 400, "{before} descriptors before, {} now", descriptors());
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.demoted), (4 * ROUNDS, 4 * ROUNDS));
    assert_eq!((stats.promotions_refused, stats.dropped_closed), (0, 0));
}
