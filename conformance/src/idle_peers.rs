//! A peer that says nothing for the idle timeout is closed, not before, and one that speaks stays.
use std::net::Ipv4Addr;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Bed, loopback};
use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, Origin, PeerId, Via};

struct Watcher(Sender<(Duration, CloseReason)>);

impl Handler for Watcher {
    type Peer = Instant;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Instant> {
        Accept::Peer(cx.io.now())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        *cx.peers.get_mut(from).unwrap() = cx.io.now();
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, last: Instant, why: CloseReason) {
        let _ = self.0.send((cx.io.now() - last, why));
    }
}

pub fn silence_closes_a_peer<B: Bed>(mut bed: B) {
    let timeout = Duration::from_millis(400);
    let (sender, closed) = channel();
    let config = loopback().idle_timeout(Some(timeout));
    let server = bed.serve(config, move |_| Watcher(sender.clone()));
    let at = bed.address(&server);
    let (silent, talking) = (bed.peer(at), bed.peer(at));
    bed.ask(&silent, at, b"hello");
    let mut first = None;
    bed.until("the silent one is closed", |bed| {
        bed.ask(&talking, at, b"hello");
        first = closed.try_iter().next();
        first.is_some()
    });
    let (silence, why) = first.unwrap();
    assert_eq!(why, CloseReason::Idle);
    // Stamps are whole milliseconds, so it may look one millisecond longer than it was.
    assert!(silence >= timeout - Duration::from_millis(1), "after {silence:?}");
    assert_eq!(bed.stats(&server).peers(), 1, "the one that talks stays");
    bed.drain(server);
}

/// Panics when it hears of the first closed peer; its successors hear of the rest.
struct Fainting {
    first: bool,
    heard: Sender<CloseReason>,
}

impl Handler for Fainting {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        let _ = self.heard.send(why);
        assert!(!self.first, "the first handler fails over the first peer");
    }
}

pub fn a_panic_over_one_idle_peer_hides_no_other<B: Bed>(mut bed: B) {
    let (sender, heard) = channel();
    let lives = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
    let config = loopback().idle_timeout(Some(Duration::from_millis(100)));
    let server = bed.serve(config, move |_| {
        let life = lives.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        Fainting { first: life == 0, heard: sender.clone() }
    });
    let at = bed.address(&server);
    let peers: Vec<_> = (0..5).map(|_| bed.peer(at)).collect();
    peers.iter().for_each(|peer| bed.send(peer, at, b"hello"));
    let mut reasons = Vec::new();
    bed.until("all five are heard of", |_| {
        reasons.extend(heard.try_iter());
        reasons.len() == 5
    });
    assert_eq!(reasons[0], CloseReason::Idle);
    assert!(reasons[1..].contains(&CloseReason::Restarted), "{reasons:?}");
    let stats = bed.drain(server);
    assert_eq!((stats.peers_opened, stats.peers_closed, stats.restarts), (5, 5, 1));
}

/// Opens as many peers as it is told.
struct Opening;

impl Handler for Opening {
    type Peer = ();
    type Timer = ();
    type Message = u16;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("nobody else")
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, peers: u16) {
        let via = Via::Listener(cx.io.listeners()[0]);
        for port in 1..=peers {
            cx.open(via, (Ipv4Addr::new(127, 1, 0, 1), port).into(), ()).unwrap();
        }
    }
}

pub fn silent_peers_and_an_emptied_table_take_no_turns<B: Bed>(mut bed: B) {
    const PEERS: u16 = 5_000;
    let timeout = Duration::from_secs(4);
    let server = bed.serve(loopback().idle_timeout(Some(timeout)), |_| Opening);
    bed.tell(&server, 0, PEERS);
    bed.until("they are there", |bed| bed.stats(&server).peers() == u64::from(PEERS));
    // In which all are looked at once.
    bed.pass(timeout / 2);
    let before = bed.stats(&server).turns;
    bed.pass(timeout / 4);
    let after = bed.stats(&server);
    // Where time passed more quickly than it should, this says nothing.
    if after.peers_closed == 0 {
        assert!(after.turns <= before + 3, "{} turns while nobody spoke", after.turns - before);
    }
    bed.until("all are closed", |bed| bed.stats(&server).peers() == 0);
    let before = bed.stats(&server).turns;
    bed.pass(timeout / 4);
    let turns = bed.stats(&server).turns - before;
    assert!(turns <= 3, "{turns} turns while nobody was there");
    bed.drain(server);
}
