//! A panicking handler loses its peers and nothing else; one that keeps panicking stops the server.
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::common::{Bed, Served, loopback};
use shardgram::{Accept, CloseReason, Context, Datagram, Handler, PeerId, ServeError, Server, StartError};

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
        assert!(!datagram.starts_with(b"panic"), "as the datagram asks");
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

fn serve(bed: &mut Bed) -> (Served<()>, Arc<AtomicU32>) {
    let (lives, restarted) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicU32::new(0)));
    let count = Arc::clone(&restarted);
    let server = bed.serve(loopback(), move |_| Fragile {
        life: lives.fetch_add(1, Ordering::Relaxed),
        restarted: Arc::clone(&count),
    });
    (server, restarted)
}

fn the_shard_goes_on_with_a_fresh_handler(mut bed: Bed) {
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

fn too_many_panics_stop_the_server(mut bed: Bed) {
    let (server, _) = serve(&mut bed);
    let at = bed.address(&server);
    for _ in 0..6 {
        let peer = bed.peer(at);
        bed.send(&peer, at, b"panic");
    }
    match server {
        Served::Real(handle) => {
            assert!(matches!(handle.wait(), Err(ServeError::TooManyRestarts { shard: 0 })));
        }
        Served::Sim(node) => bed.until("the end", |bed| match bed {
            Bed::Sim(sim) => sim.ended(&node).is_some(),
            Bed::Real(_) => unreachable!("a simulated node"),
        }),
    }
}

fn a_factory_that_panics_starts_nothing(bed: Bed) {
    let Bed::Real(backend) = bed else { unreachable!("real drivers only") };
    let server = Server::bind(loopback().shards(2).backend(backend)).unwrap();
    let at = server.local_addrs()[0];
    let result = server.spawn(|info| -> crate::common::handlers::Echo {
        assert_ne!(info.shard, 1, "this one does not start");
        crate::common::handlers::Echo
    });
    assert!(matches!(result, Err(StartError::HandlerPanicked { shard: 1 })));
    assert!(std::net::UdpSocket::bind(at).is_ok(), "and the port is free again");
}

on_all_drivers!(the_shard_goes_on_with_a_fresh_handler, too_many_panics_stop_the_server);

mod starting {
    use super::Bed;

    #[test]
    fn uring() {
        Bed::uring().into_iter().for_each(super::a_factory_that_panics_starts_nothing);
    }

    #[test]
    fn mio() {
        super::a_factory_that_panics_starts_nothing(Bed::mio());
    }
}
