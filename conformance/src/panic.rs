//! A handler that panics ends nothing: its source is refused for a while, what the handler says is kept, and the shard
//! goes on.
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use super::{Bed, Echo, End, PATIENCE, loopback};
use shardgram_core::{
    Accept, AfterPanic, CloseReason, Config, Context, Datagram, Endpoint, Handler, Origin, PeerId, Via,
};

/// Panics when told to, in any life.
struct Fragile<const KEEPS: u8> {
    life: u32,
    heard: Sender<(u32, Heard)>,
}

/// What a life hears.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Heard {
    Start(Instant),
    /// A peer that has said so much.
    Closed(u32, CloseReason),
}

impl<const KEEPS: u8> Handler for Fragile<KEEPS> {
    /// What it said.
    type Peer = u32;
    type Timer = PeerId;
    type Message = ();

    const AFTER_PANIC: AfterPanic =
        [AfterPanic::Restart, AfterPanic::KeepPeers, AfterPanic::ClosePeer][KEEPS as usize];

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let _ = self.heard.send((self.life, Heard::Start(cx.io.now())));
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        assert!(!first.starts_with(b"panic in accept"), "as the datagram asks");
        Accept::Peer(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let said = cx.peers.get_mut(from).expect("it is open");
        *said += 1;
        let answer = format!("life {}, {said}", self.life);
        cx.io.send(from, answer.as_bytes()).expect("room");
        if datagram.starts_with(b"timer") {
            let soon = cx.io.now() + Duration::from_millis(1);
            let set = if datagram.starts_with(b"timer of the peer") {
                cx.io.set_peer_timer(from, soon, from)
            } else {
                cx.io.set_timer(soon, from)
            };
            assert!(set.is_ok(), "there is room");
        }
        if datagram.starts_with(b"panic") {
            // The peer is not closed yet when the callback fails.
            cx.io.close(from);
            panic!("as the datagram asks");
        }
    }

    fn on_timer(&mut self, _: &mut Context<'_, Self>, from: PeerId) {
        panic!("as {from} asked");
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, (): ()) {
        panic!("as the message asks");
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, said: u32, why: CloseReason) {
        let _ = self.heard.send((self.life, Heard::Closed(said, why)));
    }
}

type Lives = Receiver<(u32, Heard)>;

fn serve<const KEEPS: u8, B: Bed>(bed: &mut B, config: Config) -> (B::Server<()>, Lives) {
    let lives = Arc::new(AtomicU32::new(0));
    let (heard, all) = channel();
    let server = bed.serve(config, move |_| Fragile::<KEEPS> {
        life: lives.fetch_add(1, Ordering::Relaxed),
        heard: heard.clone(),
    });
    (server, all)
}

/// The next that is not a start.
fn closed<B: Bed>(bed: &mut B, lives: &Lives) -> (u32, u32, CloseReason) {
    loop {
        if let (life, Heard::Closed(said, why)) = bed.hear(lives) {
            return (life, said, why);
        }
    }
}

fn after_panics<B: Bed>(bed: &mut B, server: &B::Server<()>, panics: u64) {
    bed.until("the panic", |bed| bed.stats(server).restarts == panics);
}

pub fn the_shard_goes_on_with_a_fresh_handler<B: Bed>(mut bed: B) {
    let (server, lives) = serve::<0, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let [one, two, three, four] = [(); 4].map(|()| bed.peer(at));
    assert_eq!(bed.ask(&one, at, b"hello"), b"life 0, 1");
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 0, 1");
    assert_eq!(bed.ask(&one, at, b"panic"), b"life 0, 2", "what was queued before the panic still leaves");
    let mut told = [closed(&mut bed, &lives), closed(&mut bed, &lives)];
    told.sort_by_key(|(_, said, _)| *said);
    assert_eq!(told, [(1, 1, CloseReason::Restarted), (1, 2, CloseReason::Restarted)]);
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 1, 1", "the same socket, a new peer");

    bed.send(&three, at, b"panic in accept");
    after_panics(&mut bed, &server, 2);
    assert_eq!(bed.ask(&four, at, b"timer of the peer"), b"life 2, 1");
    after_panics(&mut bed, &server, 3);
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 3, 1");
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.dropped_panicked, stats.dropped_refused_source), (3, 1, 0));
}

pub fn peers_are_kept_where_the_handler_says_so<B: Bed>(mut bed: B) {
    let (server, lives) = serve::<1, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let [one, two, three] = [(); 3].map(|()| bed.peer(at));
    for peer in [&one, &two, &three] {
        assert_eq!(bed.ask(peer, at, b"hello"), b"life 0, 1");
    }
    assert_eq!(bed.ask(&one, at, b"panic"), b"life 0, 2");
    assert_eq!(closed(&mut bed, &lives), (1, 2, CloseReason::Panicked));
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 1, 2");
    assert_eq!(bed.ask(&three, at, b"timer of the peer"), b"life 1, 2");
    assert_eq!(closed(&mut bed, &lives), (2, 2, CloseReason::Panicked));
    assert_eq!(bed.ask(&two, at, b"timer"), b"life 2, 3");
    after_panics(&mut bed, &server, 3);
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 3, 4");
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.peers_opened, stats.peers_closed), (3, 3, 3));
}

pub fn the_handler_is_kept_where_it_says_so<B: Bed>(mut bed: B) {
    let (server, lives) = serve::<2, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let [one, two, three] = [(); 3].map(|()| bed.peer(at));
    for peer in [&one, &two] {
        assert_eq!(bed.ask(peer, at, b"hello"), b"life 0, 1");
    }
    assert_eq!(bed.ask(&one, at, b"panic"), b"life 0, 2");
    assert_eq!(closed(&mut bed, &lives), (0, 2, CloseReason::Panicked));
    bed.send(&three, at, b"panic in accept");
    assert_eq!(bed.ask(&two, at, b"timer"), b"life 0, 2");
    after_panics(&mut bed, &server, 3);
    bed.tell(&server, 0, ());
    after_panics(&mut bed, &server, 4);
    assert_eq!(bed.ask(&two, at, b"hello"), b"life 0, 3");
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.peers_opened, stats.peers_closed), (4, 2, 2));
}

/// How long a peer is not answered by this life. What earlier ones answered may come late.
fn silence<B: Bed>(bed: &mut B, peer: &B::Peer, at: SocketAddr, since: Instant, life: u64) -> Duration {
    let (end, life) = (bed.now() + PATIENCE, format!("life {life},"));
    loop {
        bed.send(peer, at, b"hello");
        let came = bed.take(peer, Duration::from_millis(20));
        if came.is_some_and(|came| came.bytes.starts_with(life.as_bytes())) {
            return bed.now() - since;
        }
        assert!(bed.now() < end, "it is not refused for ever");
    }
}

pub fn a_source_is_refused_for_a_growing_time<B: Bed>(mut bed: B) {
    let (server, _lives) = serve::<0, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let (bad, good) = (bed.peer(at), bed.peer(at));
    for (panics, least) in [(1, 1), (2, 2)] {
        let since = bed.now();
        bed.ask(&bad, at, b"panic");
        after_panics(&mut bed, &server, panics);
        assert!(bed.ask(&good, at, b"hello").starts_with(b"life"), "others are served at once");
        let silent = silence(&mut bed, &bad, at, since, panics);
        assert!(silent >= Duration::from_secs(least), "{silent:?} after {panics}");
    }
    let stats = bed.drain(server);
    assert!(stats.dropped_refused_source > 0 && stats.restarts == 2, "{stats:?}");
}

/// Whether what a new peer says from this address of loopback is dropped. Waits until it is known.
fn is_refused<B: Bed>(bed: &mut B, server: &B::Server<()>, ip: [u8; 4]) -> bool {
    let (at, before) = (bed.address(server), bed.stats(server));
    let newcomer = bed.try_peer((ip, 0).into()).expect("a free port");
    bed.send(&newcomer, at, b"hello");
    bed.until("it is received", |bed| bed.stats(server).received > before.received);
    bed.stats(server).dropped_refused_source > before.dropped_refused_source
}

/// Peers at these addresses have the handler panic, one after the other. Then so many refusals have doubled that what
/// follows is over before the last one is.
fn several<const KEEPS: u8, B: Bed>(bed: &mut B, bad: [[u8; 4]; 8], refused: [u8; 4], served: [u8; 4]) {
    let (server, _lives) = serve::<KEEPS, B>(bed, loopback());
    let at = bed.address(&server);
    let bad = bad.map(|ip| bed.try_peer((ip, 0).into()).expect("a free port"));
    let good = bed.try_peer((refused, 0).into()).expect("a free port");
    for peer in bad.iter().chain([&good]) {
        bed.ask(peer, at, b"hello");
    }
    assert!(!is_refused(bed, &server, refused));
    for (panics, bad) in (1..).zip(&bad) {
        // Whoever was a peer is one still, or is let in again.
        bed.ask(bad, at, b"panic");
        after_panics(bed, &server, panics);
        bed.ask(&good, at, b"hello");
    }
    assert!(is_refused(bed, &server, refused));
    assert!(!is_refused(bed, &server, served));
    bed.ask(&good, at, b"hello");
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.dropped_refused_source), (8, 1), "{stats:?}");
}

pub fn several_sources_have_their_address_refused_and_then_their_prefix<B: Bed>(mut bed: B) {
    if !bed.loopback_addresses().contains(&[127, 0, 0, 2].into()) {
        return; // there are no others to speak from
    }
    let one_address = [[127, 0, 0, 9]; 8];
    several::<0, B>(&mut bed, one_address, [127, 0, 0, 9], [127, 0, 0, 10]);
    several::<1, B>(&mut bed, one_address, [127, 0, 0, 9], [127, 0, 0, 10]);
    several::<2, B>(&mut bed, one_address, [127, 0, 0, 9], [127, 0, 0, 10]);
    let one_prefix = [11, 12, 13, 14, 15, 16, 17, 18].map(|host| [127, 0, 0, host]);
    several::<0, B>(&mut bed, one_prefix, [127, 0, 0, 77], [127, 0, 1, 77]);
    several::<1, B>(&mut bed, one_prefix, [127, 0, 0, 77], [127, 0, 1, 77]);
}

pub fn no_number_of_panics_ends_a_server<B: Bed>(mut bed: B) {
    let (server, _lives) = serve::<1, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let peers: Vec<_> = (0..40).map(|_| bed.peer(at)).collect();
    peers.iter().for_each(|peer| drop(bed.ask(peer, at, b"hello")));
    for peer in &peers[1..] {
        bed.send(peer, at, b"panic");
    }
    after_panics(&mut bed, &server, 39);
    assert_eq!(bed.ask(&peers[0], at, b"hello"), b"life 39, 2");
    assert_eq!(bed.drain(server).peers_closed, 40);
}

pub fn more_panics_than_may_be_stop_the_server<B: Bed>(mut bed: B) {
    let (server, _lives) = serve::<0, B>(&mut bed, loopback().max_restarts_per_minute(2));
    let at = bed.address(&server);
    for panics in 1..=3 {
        let peer = bed.peer(at);
        bed.send(&peer, at, b"panic");
        if panics < 3 {
            after_panics(&mut bed, &server, panics);
        }
    }
    assert!(bed.wait(server).shards.contains(&End::TooManyRestarts));
}

/// When the next life begins, which has this number.
fn start<B: Bed>(bed: &mut B, lives: &Lives, number: u32) -> Instant {
    loop {
        if let (life, Heard::Start(at)) = bed.hear(lives) {
            assert_eq!(life, number, "one after the other");
            return at;
        }
    }
}

pub fn panics_about_no_peer_have_the_shard_pause<B: Bed>(mut bed: B) {
    let (server, lives) = serve::<0, B>(&mut bed, loopback());
    let at = bed.address(&server);
    let peer = bed.peer(at);
    let mut last = start(&mut bed, &lives, 0);
    for (panics, pause) in (1..).zip([10, 20, 40, 80, 160]) {
        bed.ask(&peer, at, b"hello");
        bed.tell(&server, 0, ());
        after_panics(&mut bed, &server, panics.into());
        bed.send(&peer, at, b"hello"); // waits, if it is not too late for that
        let began = start(&mut bed, &lives, panics);
        assert!(began - last >= Duration::from_millis(pause), "{:?} after {panics}", began - last);
        let answer = bed.receive(&peer).1;
        assert_eq!(answer, format!("life {panics}, 1").as_bytes());
        last = began;
    }
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.dropped_refused_source, stats.dropped_panicked), (5, 0, 0));
    assert!(stats.turns < 1_000, "it sleeps meanwhile: {} turns", stats.turns);
}

pub fn a_pause_is_no_obstacle_to_a_stop_or_a_drain<B: Bed>(mut bed: B) {
    let (server, _lives) = serve::<0, B>(&mut bed, loopback());
    for _ in 0..8 {
        bed.tell(&server, 0, ()); // each has a life of its own end, the last ones after pauses of a second
    }
    after_panics(&mut bed, &server, 7);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, b"hello");
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.restarts), (1, 8), "what had come is handled: {stats:?}");

    let failed = Arc::<AtomicU32>::default();
    let server = bed.serve(loopback(), move |_| Hopeless { failed: Arc::clone(&failed) });
    bed.tell(&server, 0, ());
    after_panics(&mut bed, &server, 3);
    bed.start_drain(&server, Duration::from_millis(300));
    assert_eq!(bed.wait(server).shards, [End::Deadline], "nobody can say that all is done");
}

/// Panics when it is told to, and then whenever it starts.
struct Hopeless {
    failed: Arc<AtomicU32>,
}

impl Handler for Hopeless {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, _: &mut Context<'_, Self>) {
        assert_eq!(self.failed.load(Ordering::Relaxed), 0, "it was told to");
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, (): ()) {
        self.failed.store(1, Ordering::Relaxed);
        panic!("as the message asks");
    }
}

pub fn a_factory_that_panics_is_asked_again<B: Bed>(mut bed: B) {
    let lives = Arc::<AtomicU32>::default();
    let (heard, all) = channel();
    let server = bed.serve(loopback(), move |_| {
        let life = lives.fetch_add(1, Ordering::Relaxed);
        assert!(!(1..4).contains(&life), "these lives fail before they begin");
        Fragile::<0> { life, heard: heard.clone() }
    });
    let at = bed.address(&server);
    let (bad, good) = (bed.peer(at), bed.peer(at));
    bed.ask(&bad, at, b"panic");
    assert_eq!(closed(&mut bed, &all), (4, 1, CloseReason::Restarted));
    assert_eq!(bed.ask(&good, at, b"hello"), b"life 4, 1");
    assert_eq!(bed.drain(server).restarts, 4);
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
    target: SocketAddr,
    ticks: Arc<AtomicU32>,
}

impl Successor {
    fn go_on(&self, cx: &mut Context<'_, Self>) {
        let soon = cx.io.now() + Duration::from_millis(5);
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
        let later = cx.io.now() + Duration::from_secs(3600);
        let endpoint = cx.io.endpoint(Endpoint::towards(self.target)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), self.target, ()).unwrap();
        assert!(cx.io.set_peer_timer(peer, later, 10_000).is_ok());
        assert!(cx.io.set_timer(later, 10_000).is_ok());
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, (): ()) {
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
    let server = bed.serve(Config::new(), move |_| Successor { target, ticks: Arc::clone(&count) });
    bed.tell(&server, 0, ());
    bed.until("the timers", |_| ticks.load(Ordering::Relaxed) >= 101);
    bed.pass(Duration::from_millis(20));
    assert_eq!(ticks.load(Ordering::Relaxed), 101, "its own and the open peer's, not the closed one's");
    let stats = bed.drain(server);
    assert!(stats.turns < 1_000, "and it sleeps in between: {} turns", stats.turns);
}
