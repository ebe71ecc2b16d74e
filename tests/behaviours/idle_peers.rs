//! A peer that says nothing for the idle timeout is closed, not before, and one that speaks stays.
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::common::{Bed, loopback};
use shardgram::{Accept, CloseReason, Context, Datagram, Handler, PeerId};

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

fn silence_closes_a_peer(mut bed: Bed) {
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

on_all_drivers!(silence_closes_a_peer);
