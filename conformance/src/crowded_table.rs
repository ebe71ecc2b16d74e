//! Newcomers get in when the table of peers is full, and those who have proven their address keep their places.
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use super::{Bed, loopback};
use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, OpenError, PeerId, SendError, Via};

/// Counts the datagrams of each peer and answers with the count. `!` proves the address of its sender; a cookie does, and
/// `?` is answered with one. Keeps by slot what it knows of a peer, as documented of [`PeerId::slot`].
struct Counter {
    closed: Sender<(u32, CloseReason)>,
    by_slot: Vec<Option<PeerId>>,
    careful: bool,
}

impl Counter {
    fn new(closed: &Sender<(u32, CloseReason)>) -> Self {
        Self { closed: closed.clone(), by_slot: vec![None; 1_024], careful: false }
    }
}

impl Handler for Counter {
    type Peer = u32;
    type Timer = ();
    type Message = SocketAddr;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        let path = first.path();
        // A cookie may begin with any byte.
        let asks = first[..] == *b"?";
        if asks || (self.careful && cx.io.pressure(path).wants_proof() && !cx.io.verify(path, first)) {
            let cookie = cx.io.cookie(path);
            cx.io.answer(path, &cookie).unwrap();
            return Accept::Done;
        }
        if first.len() == 16 && !cx.io.verify(path, first) {
            return Accept::Drop("no cookie");
        }
        Accept::Peer(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let place = &mut self.by_slot[from.slot() as usize];
        assert_eq!(*place.get_or_insert(from), from, "whoever was there before has been closed");
        let count = cx.peers.get_mut(from).unwrap();
        *count += 1;
        let answer = count.to_string();
        if datagram.first() == Some(&b'!') {
            cx.io.validated(from);
        }
        cx.io.send(from, answer.as_bytes()).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, to: SocketAddr) {
        let opened = cx.open(Via::Listener(cx.io.listeners()[0]), to, 0);
        match opened {
            Ok(peer) => {
                self.by_slot[peer.slot() as usize] = Some(peer);
                cx.io.send(peer, b"opened").unwrap();
            }
            Err(error) => assert_eq!(error, OpenError::TableFull),
        }
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, count: u32, why: CloseReason) {
        assert_eq!(self.by_slot[peer.slot() as usize].take(), Some(peer));
        let _ = self.closed.send((count, why));
    }
}

/// So many strangers say something, each of them once, and are answered. All of them stay open, so that no port is used again
/// while the server knows it.
#[must_use]
fn strangers<B: Bed>(bed: &mut B, at: SocketAddr, count: usize) -> Vec<B::Peer> {
    let peers: Vec<_> = (0..count).map(|_| bed.peer(at)).collect();
    for peer in &peers {
        assert_eq!(bed.ask(peer, at, b"hello"), b"1");
    }
    peers
}

pub fn a_newcomer_takes_the_place_of_an_unproven_peer<B: Bed>(mut bed: B) {
    let (sender, closed) = channel();
    let server = bed.serve(loopback().max_peers(2), move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let peers: Vec<_> = (0..10).map(|_| bed.peer(at)).collect();
    for peer in &peers {
        assert_eq!(bed.ask(peer, at, b"hello"), b"1", "every newcomer is answered");
    }
    assert_eq!(bed.ask(&peers[9], at, b"again"), b"2", "and is a peer");
    let stats = bed.drain(server);
    assert_eq!((stats.delivered, stats.peers_opened, stats.peers_displaced), (11, 10, 8));
    assert_eq!((stats.dropped_peers_full, stats.restarts), (0, 0));
    let closed: Vec<_> = closed.try_iter().map(|(_, why)| why).collect();
    assert_eq!(closed.iter().filter(|why| **why == CloseReason::Displaced).count(), 8);
    assert_eq!(closed.len(), 10);
}

pub fn the_proven_keep_their_places<B: Bed>(mut bed: B) {
    let (sender, closed) = channel();
    let server = bed.serve(loopback().max_peers(16).max_proven_peers(8), move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let proven: Vec<_> = (0..8).map(|_| bed.peer(at)).collect();
    for (n, peer) in proven.iter().enumerate() {
        if n % 2 == 0 {
            assert_eq!(bed.ask(peer, at, b"!"), b"1");
        } else {
            let cookie = bed.ask(peer, at, b"?");
            assert_eq!(bed.ask(peer, at, &cookie), b"1", "a cookie that came back is a proof");
        }
    }
    let _open = strangers(&mut bed, at, 100);
    for peer in &proven {
        assert_eq!(bed.ask(peer, at, b"still here?"), b"2");
    }
    let stats = bed.drain(server);
    assert_eq!((stats.peers_displaced, stats.peers_outweighed, stats.restarts), (92, 0, 0));
    assert!(closed.try_iter().all(|(count, why)| why != CloseReason::Displaced || count == 1));
}

pub fn more_proven_than_are_kept_give_way_among_themselves<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let server = bed.serve(loopback().max_peers(16).max_proven_peers(4), move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let proven: Vec<_> = (0..10).map(|_| bed.peer(at)).collect();
    for peer in &proven {
        assert_eq!(bed.ask(peer, at, b"!"), b"1");
        bed.pass(Duration::from_millis(5)); // stamps are whole milliseconds
    }
    let stats = bed.stats(&server);
    assert_eq!((stats.peers(), stats.peers_outweighed), (10, 6), "they all stay");
    let _open = strangers(&mut bed, at, 100);
    // All are of one prefix, of which the one that was silent longest gives way: so the last four are kept.
    for peer in &proven[6..] {
        assert_eq!(bed.ask(peer, at, b"still here?"), b"2");
    }
    bed.drain(server);
}

pub fn who_is_answered_for_seconds_keeps_its_place<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let server = bed.serve(loopback().max_peers(16), move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let patient = bed.peer(at);
    for count in 1..=5 {
        assert_eq!(bed.ask(&patient, at, b"hello"), count.to_string().as_bytes());
        bed.pass(Duration::from_millis(1_100));
    }
    // One that says much in a short time has proven nothing.
    let hasty: Vec<_> = (0..15).map(|_| bed.peer(at)).collect();
    for count in 1..=10 {
        for peer in &hasty {
            assert_eq!(bed.ask(peer, at, b"hello"), count.to_string().as_bytes());
        }
    }
    let _open = strangers(&mut bed, at, 200);
    assert_eq!(bed.ask(&patient, at, b"still here?"), b"6");
    let known = hasty.iter().filter(|peer| bed.ask(peer, at, b"still here?") == b"11").count();
    assert!(known < 15, "none of them had to go");
    let stats = bed.drain(server);
    assert_eq!(stats.restarts, 0);
}

pub fn accept_is_told_of_the_pressure<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let careful = move |_| Counter { careful: true, ..Counter::new(&sender) };
    let server = bed.serve(loopback().max_peers(16), careful);
    let at = bed.address(&server);
    let _open = strangers(&mut bed, at, 8);
    let more: Vec<_> = (0..50).map(|_| bed.peer(at)).collect();
    for peer in &more {
        let cookie = bed.ask(peer, at, b"hello");
        assert_eq!(cookie.len(), 16, "half of the places are taken");
    }
    let peer = bed.peer(at);
    let cookie = bed.ask(&peer, at, b"hello");
    assert_eq!(bed.ask(&peer, at, &cookie), b"1");
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.peers_displaced, stats.stateless), (9, 0, 51));
}

pub fn a_prefix_with_many_newcomers_is_asked_for_a_proof<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let careful = move |_| Counter { careful: true, ..Counter::new(&sender) };
    let server = bed.serve(loopback().max_peers(1_000).newcomers_per_prefix(10), careful);
    let at = bed.address(&server);
    let mut asked = 0;
    let newcomers: Vec<_> = (0..100).map(|_| bed.peer(at)).collect();
    for peer in &newcomers {
        let answer = bed.ask(peer, at, b"hello");
        asked += usize::from(answer.len() == 16);
        if answer.len() == 16 {
            assert_eq!(bed.ask(peer, at, &answer), b"1", "nobody is refused who proves its address");
        }
    }
    assert!(asked > 0, "a hundred newcomers of one prefix, of which ten a second are welcome");
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.peers_displaced), (100, 0));
}

pub fn a_prefix_has_as_many_proven_peers_as_it_may<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let config = loopback().max_peers(16).max_proven_per_prefix(3);
    let server = bed.serve(config, move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let proven: Vec<_> = (0..8).map(|_| bed.peer(at)).collect();
    for peer in &proven {
        assert_eq!(bed.ask(peer, at, b"!"), b"1");
    }
    let _open = strangers(&mut bed, at, 300);
    let kept: Vec<_> = proven.iter().map(|peer| bed.ask(peer, at, b"still here?") == b"2").collect();
    assert_eq!(kept[..3], [true; 3], "the first three");
    assert!(kept[3..].contains(&false), "and none of the others has a place that is safe");
    bed.drain(server);
}

pub fn peers_that_this_side_opened_never_give_way<B: Bed>(mut bed: B) {
    let (sender, _closed) = channel();
    let server = bed.serve(loopback().max_peers(2), move |_| Counter::new(&sender));
    let at = bed.address(&server);
    let opened: Vec<_> = (0..2).map(|_| bed.peer(at)).collect();
    for peer in &opened {
        bed.tell(&server, 0, bed.address_of(peer));
        assert_eq!(bed.receive(peer).1, b"opened");
    }
    let stranger = bed.peer(at);
    bed.send(&stranger, at, b"hello");
    bed.until("the stranger is refused", |bed| bed.stats(&server).dropped_peers_full == 1);
    for peer in &opened {
        assert_eq!(bed.ask(peer, at, b"still here?"), b"1");
    }
    let stats = bed.drain(server);
    assert_eq!((stats.peers_displaced, stats.restarts), (0, 0));
}

/// Sends as much as it may along the path that something came by.
struct Mover {
    validates: bool,
    peer: Option<PeerId>,
}

impl Handler for Mover {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        self.peer.map_or(Accept::Peer(()), Accept::PathOf)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if self.peer.replace(from).is_none() {
            cx.io.validated(from);
        }
        if self.validates {
            cx.io.validated_path(from, datagram.path()).unwrap();
        }
        cx.io.use_path(from, datagram.path()).unwrap();
        let sent = (0..10).map(|_| cx.io.send(from, &[b's'; 10])).take_while(Result::is_ok).count();
        if sent < 10 {
            let shared = cx.io.share(&[b's'; 10]).unwrap();
            assert_eq!(cx.io.send_shared(from, shared), Err(SendError::Unvalidated { left: 0 }));
            let len = datagram.len();
            assert_eq!(cx.io.reply(datagram, len), Err(SendError::Unvalidated { left: 0 }));
        }
    }
}

pub fn the_amplification_limit_holds_for_each_path<B: Bed>(mut bed: B) {
    for (validates, answers) in [(false, 3), (true, 10)] {
        let config = loopback().amplification_limit(3);
        let server = bed.serve(config, move |_| Mover { validates, peer: None });
        let at = bed.address(&server);
        let (peer, moved) = (bed.peer(at), bed.peer(at));
        for (who, answers) in [(&peer, 10), (&moved, answers), (&moved, answers), (&peer, 10)] {
            bed.send(who, at, &[b'a'; 10]);
            (0..answers).for_each(|_| assert_eq!(bed.receive(who).1, [b's'; 10]));
        }
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.restarts), (20 + 2 * answers as u64, 0));
        assert_eq!(stats.send_refused_unvalidated, if validates { 0 } else { 6 });
    }
}
