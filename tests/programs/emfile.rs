//! The limit of descriptors (RLIMIT_NOFILE) is reached while endpoints are opened: each that finds no room says so
//! to its peer, everything else goes on, and once there is room others open.

use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use crate::common::user::{set_hard_limit, set_limit};
use crate::common::{Bed, Peer, Served, loopback, role};
use shardgram::{
    Accept, Backend, CloseReason, Context, Datagram, Endpoint, EndpointId, Handler, Origin, PeerError,
    PeerId, Via,
};

/// Descriptors left when the endpoints are asked for, and endpoints asked for.
const ROOM: usize = 20;
const ASKED: usize = 50;

enum Order {
    Open(usize),
    CloseFailed,
    CloseOpen(usize),
}

/// One for each endpoint, as far as it is an endpoint's.
#[derive(Default)]
struct Call {
    endpoint: Option<EndpointId>,
    failed: bool,
}

/// Opens endpoints and closes them, as it is told; echoes on its listener.
struct Client {
    friend: SocketAddr,
    errors: Sender<PeerError>,
}

impl Client {
    fn close(cx: &mut Context<'_, Self>, which: impl Fn(&Call) -> bool, count: usize) {
        let endpoints = cx.peers.iter().filter(|(_, call)| which(call)).filter_map(|(_, call)| call.endpoint);
        let endpoints: Vec<_> = endpoints.take(count).collect();
        endpoints.into_iter().for_each(|endpoint| cx.close_endpoint(endpoint));
    }
}

impl Handler for Client {
    type Peer = Call;
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Call> {
        Accept::Peer(Call::default())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Open(count) => {
                for _ in 0..count {
                    let endpoint = Endpoint::bound(([127, 0, 0, 1], 0).into());
                    let endpoint = cx.io.endpoint(endpoint).expect("fewer than may be");
                    let call = Call { endpoint: Some(endpoint), failed: false };
                    let peer = cx.open(Via::Endpoint(endpoint), self.friend, call).expect("a peer");
                    cx.io.send(peer, b"open").expect("room for a send");
                }
            }
            Order::CloseFailed => Self::close(cx, |call| call.failed, usize::MAX),
            Order::CloseOpen(count) => Self::close(cx, |call| !call.failed, count),
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        cx.peers.get_mut(peer).expect("its state").failed = true;
        let _ = self.errors.send(error);
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, call: Call, why: CloseReason) {
        assert_eq!(
            why == CloseReason::EndpointClosed,
            call.endpoint.is_some() && why != CloseReason::Drained
        );
    }
}

/// A client in a process of its own, with what it needs when there is no descriptor left.
struct Scene {
    bed: Bed,
    server: Served<Order>,
    friend: Peer,
    witness: Peer,
    errors: Receiver<PeerError>,
    asked: usize,
}

impl Scene {
    fn new(backend: Backend) -> Self {
        let mut bed = Bed::Real(backend);
        let friend = bed.peer(([127, 0, 0, 1], 0).into());
        let witness = bed.peer(friend.address());
        let (errors, told) = channel();
        let to = friend.address();
        let make = move |_| Client { friend: to, errors: errors.clone() };
        let server = bed.serve(loopback().max_endpoints(ASKED as u32), make);
        Self { bed, server, friend, witness, errors: told, asked: 0 }
    }

    /// Asks for so many endpoints; says how many opened. All others must have said why they did not.
    fn open(&mut self, count: usize) -> usize {
        self.bed.tell(&self.server, 0, Order::Open(count));
        self.asked += count;
        let (mut opened, mut refused, mut unsent) = (0, 0, 0);
        let (bed, friend, errors) = (&mut self.bed, &self.friend, &self.errors);
        bed.until("each endpoint opened or did not", |bed| {
            while let Some((_, bytes)) = bed.try_receive(friend, std::time::Duration::from_millis(20)) {
                assert_eq!(bytes, b"open");
                opened += 1;
            }
            for error in errors.try_iter() {
                match error {
                    PeerError::NotOpened { errno: libc::EMFILE } => refused += 1,
                    // What was to be sent along one that is not open.
                    PeerError::NotOpened { errno: libc::EBADF } => unsent += 1,
                    error => panic!("{error:?}"),
                }
            }
            opened + refused == count && refused == unsent
        });
        opened
    }

    fn goes_on(&mut self) {
        let at = self.bed.address(&self.server);
        assert_eq!(self.bed.ask(&self.witness, at, b"and you?"), b"and you?");
    }

    /// Closes what failed, and so many of the others; they are closed when the server answers again.
    fn close(&mut self, open: usize) {
        self.bed.tell(&self.server, 0, Order::CloseFailed);
        self.bed.tell(&self.server, 0, Order::CloseOpen(open));
        self.goes_on();
        self.goes_on();
    }

    fn end(mut self, opened: usize) {
        let stats = self.bed.drain(self.server);
        assert_eq!((stats.restarts, stats.queued), (0, stats.submitted), "{stats:?}");
        assert_eq!(stats.send_failed(), (self.asked - opened) as u64, "{stats:?}");
    }
}

/// A limit with [`ROOM`] numbers below it that no descriptor has: it bounds the numbers, not how many there are
/// (getrlimit(2)).
fn limit_with_room() -> u64 {
    let free = |n: &u64| std::fs::symlink_metadata(format!("/proc/self/fd/{n}")).is_err();
    (0..).filter(free).nth(ROOM).expect("there are more")
}

fn room_comes_back(backend: Backend) {
    let mut scene = Scene::new(backend);
    set_limit(libc::RLIMIT_NOFILE, limit_with_room()).unwrap();
    let mut opened = scene.open(ASKED);
    assert_eq!(opened, ROOM, "as many as there is room for");
    scene.goes_on();
    scene.close(0);
    // Slots are free again, but descriptors are not.
    assert_eq!(scene.open(10), 0);
    scene.goes_on();
    // Five go, five come.
    scene.close(5);
    assert_eq!(scene.open(10), 5);
    scene.close(0);
    // The limit is raised.
    set_limit(libc::RLIMIT_NOFILE, u64::MAX).unwrap();
    assert_eq!(scene.open(20), 20);
    scene.goes_on();
    opened += 5 + 20;
    scene.end(opened);
}

/// The table of fixed files can be no larger than the limit (io_uring_register(2)), so there the ring is short of
/// slots before the process is short of descriptors.
fn a_low_limit_from_the_start(backend: Backend) {
    set_hard_limit(libc::RLIMIT_NOFILE, 40).unwrap();
    let mut scene = Scene::new(backend);
    let opened = scene.open(ASKED);
    assert!((1..ASKED).contains(&opened), "{opened}");
    scene.goes_on();
    scene.close(1);
    assert_eq!(scene.open(2), 1, "one went, one comes");
    scene.goes_on();
    scene.end(opened + 1);
}

fn alone(test: &str, backend: Backend) {
    match role::mine().as_deref() {
        Some("room") => room_comes_back(backend),
        Some("low") => a_low_limit_from_the_start(backend),
        _ => ["room", "low"].into_iter().for_each(|part| drop(role::alone(test, part))),
    }
}

#[test]
fn uring() {
    if role::mine().is_some() || Bed::uring().is_some() {
        alone("emfile::uring", Backend::Uring);
    }
}

#[test]
fn mio() {
    alone("emfile::mio", Backend::Mio);
}
