//! What `accept` decides is what happens, and each decision has its counter.
use super::{Bed, loopback};
use shardgram_core::{Accept, Context, Datagram, Handler, OpenError, Path, PeerId, SendError, Via};

/// The first byte of a stranger's datagram says what to do with it.
#[derive(Default)]
struct Doorkeeper {
    last: Option<PeerId>,
    new_path: Option<Path>,
}

impl Handler for Doorkeeper {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        match first.first() {
            Some(b'p') => Accept::Peer(0),
            Some(b'c') => Accept::Connect(0),
            Some(b'a') => {
                cx.io.answer(first.path(), b"answered").unwrap();
                Accept::Done
            }
            Some(b'r') => {
                first[0] = b'R';
                Accept::Reply(3)
            }
            Some(b'R') => Accept::Reply(usize::MAX),
            Some(b'j') => {
                self.new_path = Some(first.path());
                Accept::PathOf(self.last.unwrap())
            }
            Some(b'x') => Accept::Drop("not welcome"),
            _ => Accept::Drop("empty"),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.last = Some(from);
        *cx.peers.get_mut(from).unwrap() += 1;
        let count = *cx.peers.get(from).unwrap();
        if datagram.starts_with(b"use") {
            cx.io.use_path(from, self.new_path.unwrap()).unwrap();
        }
        cx.io.send(from, format!("peer, {count}").as_bytes()).unwrap();
    }
}

pub fn each_decision_is_carried_out<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Doorkeeper::default());
    let at = bed.address(&server);
    let mut ask = |text: &str| {
        let peer = bed.peer(at);
        bed.ask(&peer, at, text.as_bytes())
    };
    assert_eq!(ask("peer"), b"peer, 1", "the first datagram goes to the new peer");
    assert_eq!(ask("connect"), b"peer, 1");
    assert_eq!(ask("answer"), b"answered");
    assert_eq!(ask("reply"), b"Rep", "as the handler left it, cut to the length it asked for");
    let stranger = bed.peer(at);
    bed.send(&stranger, at, b"Reply with more than there is");
    for text in ["x", "x", ""] {
        bed.send(&stranger, at, text.as_bytes());
    }
    bed.until("three refusals", |bed| bed.stats(&server).refused.iter().map(|(_, n)| n).sum::<u64>() == 3);
    let stats = bed.drain(server);
    assert_eq!(stats.refused, [("not welcome", 2), ("empty", 1)]);
    assert_eq!((stats.delivered, stats.stateless, stats.peers_opened), (2, 3, 2));
    assert_eq!((stats.sent(), stats.send_refused_too_long, stats.send_refused()), (4, 1, 1));
}

pub fn a_second_path_gets_answers_only_once_the_handler_says_so<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().max_paths_per_peer(2), |_| Doorkeeper::default());
    let at = bed.address(&server);
    let (old, new) = (bed.peer(at), bed.peer(at));
    assert_eq!(bed.ask(&old, at, b"peer"), b"peer, 1");
    bed.send(&new, at, b"join");
    assert_eq!(bed.receive(&old).1, b"peer, 2", "the answer goes along the old path");
    bed.send(&new, at, b"use it");
    assert_eq!(bed.receive(&new).1, b"peer, 3", "and now along the new one");
    bed.send(&old, at, b"still a path");
    assert_eq!(bed.receive(&new).1, b"peer, 4");
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.delivered), (1, 4));
}

pub fn forged_paths_are_bounded_and_cannot_keep_a_peer_from_moving<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().max_paths_per_peer(2), |_| Doorkeeper::default());
    let at = bed.address(&server);
    let (honest, moved) = (bed.peer(at), bed.peer(at));
    assert_eq!(bed.ask(&honest, at, b"peer"), b"peer, 1");
    for count in 2..10 {
        let forged = bed.peer(at);
        bed.send(&forged, at, b"join");
        assert_eq!(bed.receive(&honest).1, format!("peer, {count}").as_bytes());
    }
    bed.send(&moved, at, b"join");
    assert_eq!(bed.receive(&honest).1, b"peer, 10");
    bed.send(&moved, at, b"use it");
    assert_eq!(bed.receive(&moved).1, b"peer, 11");
    bed.drain(server);
}

pub fn a_peer_of_one_path_takes_no_other<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().max_paths_per_peer(1), |_| Doorkeeper::default());
    let at = bed.address(&server);
    let (old, new) = (bed.peer(at), bed.peer(at));
    assert_eq!(bed.ask(&old, at, b"peer"), b"peer, 1");
    bed.send(&new, at, b"join");
    bed.until("it is refused", |bed| bed.stats(&server).dropped_paths_full == 1);
    assert_eq!(bed.ask(&old, at, b"here still"), b"peer, 2");
    bed.drain(server);
}

/// Opens peers from its own port, towards whatever address a message names.
struct Caller;

impl Handler for Caller {
    type Peer = ();
    type Timer = ();
    type Message = std::net::SocketAddr;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not called")
    }

    fn on_message(
        &mut self,
        cx: &mut Context<'_, Self>,
        _: shardgram_core::Origin,
        to: std::net::SocketAddr,
    ) {
        let listener = Via::Listener(cx.io.listeners()[0]);
        let peer = cx.open(listener, to, ()).unwrap();
        assert_eq!(cx.open(listener, to, ()), Err(OpenError::InUse(peer)));
        assert_eq!(cx.open(listener, ([127, 0, 0, 1], 0).into(), ()), Err(OpenError::PortZero));
        let elsewhere = Via::Listener(([127, 0, 0, 1], 1).into());
        assert!(matches!(cx.open(elsewhere, to, ()), Err(OpenError::NoSuchListener(_))));
        cx.io.send(peer, b"calling").unwrap();
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        cx.io.send(from, b"heard").unwrap();
    }
}

pub fn a_peer_is_opened_from_the_listeners_own_port<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Caller);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.tell(&server, 0, bed.address_of(&peer));
    assert_eq!(bed.receive(&peer), (at, b"calling".to_vec()));
    assert_eq!(bed.ask(&peer, at, b"yes?"), b"heard");
    bed.drain(server);
}

/// Sends ten times what came, which an amplification limit of three allows three times.
struct Loud {
    validate: bool,
}

impl Handler for Loud {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if first.starts_with(b"stateless") {
            let path = first.path();
            assert_eq!(cx.io.answer(path, &[b's'; 28]), Err(SendError::Unvalidated { left: 27 }));
            cx.io.answer(path, &[b's'; 27]).unwrap();
            assert_eq!(cx.io.answer(path, b"s"), Err(SendError::Unvalidated { left: 0 }));
            return Accept::Done;
        }
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if self.validate {
            cx.io.validated(from);
        }
        let sent = (0..10).take_while(|_| cx.io.send(from, &datagram).is_ok()).count();
        assert_eq!(sent, if self.validate { 10 } else { 3 });
    }
}

pub fn the_amplification_limit_holds_until_the_address_is_validated<B: Bed>(mut bed: B) {
    for (validate, answers) in [(false, 3), (true, 10)] {
        let server = bed.serve(loopback().amplification_limit(3), move |_| Loud { validate });
        let at = bed.address(&server);
        let peer = bed.peer(at);
        assert_eq!(bed.ask(&peer, at, b"0123"), b"0123");
        assert_eq!((1..answers).map(|_| bed.receive(&peer)).count(), answers - 1);
        let other = bed.peer(at);
        assert_eq!(bed.ask(&other, at, b"stateless"), [b's'; 27]);
        let stats = bed.drain(server);
        assert_eq!(stats.sent(), answers as u64 + 1);
        assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
    }
}

/// Answers a stranger and makes it a peer at once, as far as the limit lets it each time.
struct Eager;

impl Handler for Eager {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let path = first.path();
        while cx.io.answer(path, b"0123456789").is_ok() {}
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        while cx.io.send(from, b"0123456789").is_ok() {}
    }
}

pub fn the_amplification_limit_is_spent_once<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().amplification_limit(3), |_| Eager);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for _ in 0..2 {
        bed.send(&peer, at, &[0; 10]);
        (0..3).for_each(|_| assert_eq!(bed.receive(&peer).1.len(), 10));
    }
    let stats = bed.drain(server);
    assert_eq!((stats.sent(), stats.send_refused_unvalidated), (6, 3), "{stats:?}");
}

/// Answers a first datagram with a cookie, and takes whoever brings it back.
struct Guarded;

impl Handler for Guarded {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let path = first.path();
        if cx.io.verify(path, first) {
            return Accept::Peer(());
        }
        let cookie = cx.io.cookie(path);
        cx.io.answer(path, &cookie).unwrap();
        Accept::Done
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        cx.io.send(from, b"welcome").unwrap();
    }
}

pub fn a_cookie_proves_the_address_it_was_sent_to_and_no_other<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().shards(2), |_| Guarded);
    let at = bed.address(&server);
    let (honest, thief) = (bed.peer(at), bed.peer(at));
    let cookie = bed.ask(&honest, at, b"hello");
    assert_eq!(cookie.len(), 16);
    assert_ne!(bed.ask(&thief, at, &cookie), b"welcome", "a cookie is no use at another address");
    assert_eq!(bed.ask(&honest, at, &cookie), b"welcome");
    bed.drain(server);
}
