//! A panicking handler loses its peers and nothing else; one that keeps panicking stops the server.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::{Bed, Echo, End, loopback};
use crate::{Accept, CloseReason, Config, Context, Datagram, Endpoint, Handler, PeerId, Via};

/// Panics when told to; counts what was closed, over all its lives.
struct Fragile {
    life: u32,
    restarted: Arc<AtomicU32>,
}

impl Handler for Fragile {
    type Peer = ();
    type Timer = &'static str;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        assert!(!first.starts_with(b"panic in accept"), "as the datagram asks");
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        cx.io.send(from, format!("life {}", self.life).as_bytes()).unwrap();
        if datagram.starts_with(b"timer") {
            let now = cx.io.now();
            cx.io.set_timer(now, "panic in on_timer").unwrap_or_else(|_| panic!("there is room"));
        }
        if datagram.starts_with(b"panic") {
            // The peer is not closed yet when the callback fails, so the next handler is to hear of it.
            cx.io.close(from);
            panic!("as the datagram asks");
        }
    }

    fn on_timer(&mut self, _: &mut Context<'_, Self>, why: &'static str) {
        panic!("{why}");
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        if why == CloseReason::Restarted {
            self.restarted.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn serve<B: Bed>(bed: &mut B) -> (B::Server<()>, Arc<AtomicU32>) {
    let (lives, restarted) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&restarted);
    let server = bed.serve(loopback(), move |_| Fragile {
        life: lives.fetch_add(1, Ordering::Relaxed),
        restarted: Arc::clone(&count),
    });
    (server, restarted)
}

pub fn the_shard_goes_on_with_a_fresh_handler<B: Bed>(mut bed: B) {
    let (server, restarted) = serve(&mut bed);
    let at = bed.address(&server);
    let (one, two) = (bed.peer(at), bed.peer(at));
    assert_eq!(bed.ask(&one, at, b"hello"), b"life 0");
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 0");
    assert_eq!(bed.ask(&one, at, b"panic"), b"life 0", "what was queued before the panic still leaves");
    bed.until("the restart", |bed| bed.stats(&server).restarts == 1);
    assert_eq!(restarted.load(Ordering::Relaxed), 2, "both peers were closed as restarted");
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 1", "the same socket, a new peer");

    bed.send(&one, at, b"panic in accept");
    bed.until("the second restart", |bed| bed.stats(&server).restarts == 2);
    assert_eq!(bed.ask(&one, at, b"timer"), b"life 2");
    bed.until("the third restart", |bed| bed.stats(&server).restarts == 3);
    assert_eq!(bed.ask(&one, at, b"hello"), b"life 3");
    let stats = bed.drain(server);
    assert_eq!(stats.dropped_panicked, 1, "the datagram accept panicked over is accounted for");
}

pub fn too_many_panics_stop_the_server<B: Bed>(mut bed: B) {
    let (server, _) = serve(&mut bed);
    let at = bed.address(&server);
    for _ in 0..6 {
        let peer = bed.peer(at);
        bed.send(&peer, at, b"panic");
    }
    assert!(bed.wait(server).shards.contains(&End::TooManyRestarts));
}

pub fn a_factory_that_panics_starts_nothing<B: Bed>(mut bed: B) {
    let at = {
        let server = bed.serve(loopback(), |_| Echo);
        let at = bed.address(&server);
        bed.drain(server);
        at
    };
    let made = bed.try_serve(Config::new().listen(at).shards(2), |info| {
        assert_ne!(info.shard, 1, "this one does not start");
        Echo
    });
    let why = made.err().expect("it does not start");
    assert!(why.contains("shard 1") && why.contains("panicked"), "{why}");
    assert!(bed.is_free(at), "and the port is free again");
}

/// Tells its neighbour something and panics in the same breath.
struct Telltale;

impl Handler for Telltale {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        let neighbour = 1 - cx.io.shard();
        cx.io.tell(neighbour, ()).unwrap();
        panic!("with a wake-up under way");
    }
}

pub fn a_sleeping_neighbour_ends_too<B: Bed>(mut bed: B) {
    for _ in 0..20 {
        let server = bed.serve(loopback().shards(2).max_restarts_per_minute(0), |_| Telltale);
        let at = bed.address(&server);
        let peer = bed.peer(at);
        bed.send(&peer, at, b"now");
        assert!(bed.wait(server).shards.contains(&End::TooManyRestarts), "no shard sleeps on");
    }
}

/// A client that goes on with each peer its predecessor lost, and counts on a timer of its own and on one of
/// the peer's.
struct Successor {
    target: std::net::SocketAddr,
    ticks: Arc<AtomicU32>,
}

impl Successor {
    fn go_on(&self, cx: &mut Context<'_, Self>) {
        let soon = cx.io.now() + std::time::Duration::from_millis(5);
        let endpoint = cx.io.endpoint(Endpoint::towards(self.target)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), self.target, ()).unwrap();
        assert!(cx.io.set_peer_timer(peer, soon, 1).is_ok());
        assert!(cx.io.set_timer(soon, 1).is_ok());
        cx.io.close(peer);
        let kept = cx.open(Via::Endpoint(endpoint), ([127, 0, 0, 1], 9).into(), ()).unwrap();
        assert!(cx.io.set_peer_timer(kept, soon, 100).is_ok());
    }
}

impl Handler for Successor {
    type Peer = ();
    type Timer = u32;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let later = cx.io.now() + std::time::Duration::from_secs(3600);
        let endpoint = cx.io.endpoint(Endpoint::towards(self.target)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), self.target, ()).unwrap();
        assert!(cx.io.set_peer_timer(peer, later, 10_000).is_ok());
        assert!(cx.io.set_timer(later, 10_000).is_ok());
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: crate::Origin, (): ()) {
        panic!("as the message asks");
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        if why == CloseReason::Restarted {
            self.go_on(cx);
        }
    }

    fn on_timer(&mut self, _: &mut Context<'_, Self>, worth: u32) {
        self.ticks.fetch_add(worth, Ordering::Relaxed);
    }
}

pub fn what_a_fresh_handler_begins_at_once_holds<B: Bed>(mut bed: B) {
    let friend = bed.peer("127.0.0.1:0".parse().unwrap());
    let ticks = Arc::new(AtomicU32::new(0));
    let (target, count) = (bed.address_of(&friend), Arc::clone(&ticks));
    let server =
        bed.serve(Config::new(), move |_| Successor { target, ticks: Arc::clone(&count) });
    bed.tell(&server, 0, ());
    bed.until("the timers", |_| ticks.load(Ordering::Relaxed) >= 101);
    bed.pass(std::time::Duration::from_millis(20));
    assert_eq!(ticks.load(Ordering::Relaxed), 101, "its own and the open peer's, not the closed one's");
    let stats = bed.drain(server);
    assert!(stats.turns < 1_000, "and it sleeps in between: {} turns", stats.turns);
}
