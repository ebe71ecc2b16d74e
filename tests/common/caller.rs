//! A client of which a test has anything done, on every driver: a handler that tells all it sees.

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{self, Receiver, Sender};
use std::time::Duration;

use shardgram::{Accept, CloseReason, Config, Context, Datagram, Handler, Origin, Path, PeerError, PeerId};
use shardgram::{Dial, Endpoint, EndpointId, Server, Snapshot, Via};

use super::names::Names;
use super::{Bed, Served};

/// What the handler says to each address that is tried.
pub const HELLO: &[u8] = b"hello";

/// What the handler is told to do.
pub type Order = Box<dyn FnOnce(&mut Context<'_, Caller>) + Send>;

/// What the handler saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Attempt { peer: PeerId, remote: SocketAddr },
    Datagram { peer: PeerId, path: Path, bytes: Vec<u8> },
    Stranger { remote: SocketAddr },
    Error { peer: PeerId, error: PeerError },
    Closed { peer: PeerId, why: CloseReason },
}

/// The handler. Who was not asked for is refused.
pub struct Caller(Sender<Seen>);

impl Handler for Caller {
    type Peer = ();
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let _ = self.0.send(Seen::Stranger { remote: first.path().remote });
        Accept::Drop("not asked for")
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        let seen = Seen::Datagram { peer, path: datagram.path(), bytes: datagram.to_vec() };
        // A test that has what it wants listens no more.
        let _ = self.0.send(seen);
    }

    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        cx.io.send(peer, HELLO).expect("room");
        let _ = self.0.send(Seen::Attempt { peer, remote });
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        order(cx);
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let _ = self.0.send(Seen::Error { peer, error });
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, (): (), why: CloseReason) {
        let _ = self.0.send(Seen::Closed { peer, why });
    }
}

/// A running client.
pub struct Call {
    pub bed: Bed,
    pub server: Served<Order>,
    pub seen: Receiver<Seen>,
    pub names: Names,
}

impl Call {
    pub fn start(mut bed: Bed, config: Config) -> Self {
        let ((tell, seen), names) = (mpsc::channel(), Names::default());
        let server = bed.serve_with_names(config, &names, move |_| Caller(tell.clone()));
        Self { bed, server, seen, names }
    }

    /// With names as this host knows them.
    pub fn start_with_the_systems_names(bed: Bed, config: Config) -> Self {
        let Bed::Real(backend) = bed else { unreachable!("a real driver") };
        let (tell, seen) = mpsc::channel();
        let server = Server::bind(config.backend(backend)).expect("it binds");
        let server = Served::Real(server.spawn(move |_| Caller(tell.clone())).expect("it starts"));
        Self { bed, server, seen, names: Names::default() }
    }

    /// What a name comes to from now on, at once.
    pub fn name(&mut self, name: &str, addresses: &[IpAddr]) {
        self.names.set(&mut self.bed, name, Ok(addresses.to_vec()), Duration::ZERO);
    }

    /// Dials on shard 0.
    pub fn dial(&mut self, dial: Dial) -> PeerId {
        self.run(0, move |cx| cx.dial(dial, ()).expect("room"))
    }

    /// The next address that is tried is this one.
    pub fn tries(&mut self, peer: PeerId, remote: SocketAddr) {
        assert_eq!(self.next(), Seen::Attempt { peer, remote });
    }

    /// This peer meets this error next.
    pub fn meets(&mut self, peer: PeerId, error: PeerError) {
        assert_eq!(self.next(), Seen::Error { peer, error });
    }

    /// Has a shard do something and gives what came of it.
    pub fn run<T: Send + 'static>(
        &mut self,
        shard: u16,
        what: impl FnOnce(&mut Context<'_, Caller>) -> T + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        let order: Order = Box::new(move |cx| done.send(what(cx)).expect("the test waits"));
        self.bed.tell(&self.server, shard, order);
        let mut got = None;
        self.bed.until("the shard does it", |_| {
            got = result.try_recv().ok();
            got.is_some()
        });
        got.expect("it came about")
    }

    /// Opens an endpoint with a peer, to which it says something.
    pub fn open(&mut self, endpoint: Endpoint, to: SocketAddr, hello: &'static [u8]) -> (EndpointId, PeerId) {
        self.run(0, move |cx| {
            let id = cx.io.endpoint(endpoint).expect("room");
            let peer = cx.open(Via::Endpoint(id), to, ()).expect("room");
            cx.io.send(peer, hello).expect("room");
            (id, peer)
        })
    }

    /// What the handler sees next.
    pub fn next(&mut self) -> Seen {
        let mut got = None;
        let seen = &self.seen;
        self.bed.until("something is seen", |_| {
            got = seen.try_recv().ok();
            got.is_some()
        });
        got.expect("it came about")
    }

    /// The next datagram of this peer; nothing else comes before it.
    pub fn hears(&mut self, from: PeerId, want: &[u8]) -> Path {
        match self.next() {
            Seen::Datagram { peer, path, bytes } if peer == from && bytes == want => path,
            other => panic!("{other:?} instead of {want:?} from {from}"),
        }
    }

    pub fn stats(&mut self) -> Snapshot {
        self.bed.stats(&self.server)
    }

    pub fn drain(mut self) -> Snapshot {
        self.bed.drain(self.server)
    }
}
