//! A path that was kept leads where it did, or nowhere; and what was a peer's path may become somebody else's.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Bed, loopback, tiers};
use shardgram_core::{
    Accept, Config, Context, Datagram, DropPathError, Endpoint, EndpointId, Handler, Origin, Path, PeerId,
    SendError, Via,
};

#[derive(Debug)]
enum Seen {
    /// A stranger came along this path.
    Stranger(Path),
    /// A peer was heard along the first, and is answered along the second.
    Peer(Path, Option<Path>),
    Address(Option<SocketAddr>),
    Answered(Result<(), SendError>),
}

enum Order {
    Open(SocketAddr),
    /// Greets whoever is there, from the endpoint.
    Greet(SocketAddr),
    Where,
    Close,
    Answer(Path, &'static [u8]),
}

/// Has one endpoint for anyone, makes no peers of strangers, and does as it is told.
struct Keeper {
    seen: Sender<Seen>,
    endpoint: Option<EndpointId>,
}

impl Keeper {
    fn say(&self, seen: Seen) {
        let _ = self.seen.send(seen);
    }
}

impl Handler for Keeper {
    type Peer = ();
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        self.say(Seen::Stranger(first.path()));
        Accept::Done
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        self.say(Seen::Peer(datagram.path(), cx.io.path(peer)));
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Open(at) => {
                let asked = || cx.io.endpoint(Endpoint::bound(at).any_source(true)).ok();
                self.endpoint = self.endpoint.or_else(asked);
            }
            Order::Greet(to) => {
                let peer = cx.open(Via::Endpoint(self.endpoint.unwrap()), to, ()).unwrap();
                cx.io.send(peer, b"hello").unwrap();
            }
            Order::Where => {
                self.say(Seen::Address(self.endpoint.and_then(|id| cx.io.endpoint_address(id))));
            }
            Order::Close => cx.close_endpoint(self.endpoint.take().unwrap()),
            Order::Answer(path, bytes) => self.say(Seen::Answered(cx.io.answer(path, bytes))),
        }
    }
}

/// A server of keepers, and what they say.
fn keepers<B: Bed>(bed: &mut B, shards: u16) -> (B::Server<Order>, Receiver<Seen>) {
    let (sender, seen) = channel();
    let config = Config::new().shards(shards).max_endpoints(1);
    (bed.serve(config, move |_| Keeper { seen: sender.clone(), endpoint: None }), seen)
}

/// Has a shard open its endpoint; gives the address it got.
fn open<B: Bed>(
    bed: &mut B,
    server: &B::Server<Order>,
    seen: &Receiver<Seen>,
    shard: u16,
    at: SocketAddr,
) -> SocketAddr {
    let mut bound = None;
    bed.until("the endpoint is open", |bed| {
        // There is room for one, so the one before has to be closed.
        bed.tell(server, shard, Order::Open(at));
        bed.tell(server, shard, Order::Where);
        let Seen::Address(address) = bed.hear(seen) else { panic!("nobody came") };
        bound = address;
        bound.is_some()
    });
    bound.unwrap()
}

fn stranger<B: Bed>(bed: &mut B, seen: &Receiver<Seen>, from: &B::Peer, to: SocketAddr) -> Path {
    bed.send(from, to, b"who are you?");
    match bed.hear(seen) {
        Seen::Stranger(path) => path,
        other => panic!("{other:?}"),
    }
}

fn answer<B: Bed>(
    bed: &mut B,
    server: &B::Server<Order>,
    seen: &Receiver<Seen>,
    (shard, path): (u16, Path),
    bytes: &'static [u8],
) -> Result<(), SendError> {
    bed.tell(server, shard, Order::Answer(path, bytes));
    match bed.hear(seen) {
        Seen::Answered(result) => result,
        other => panic!("{other:?}"),
    }
}

pub fn one_of_a_closed_endpoint_leads_nowhere<B: Bed>(mut bed: B) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    // On other ports, and on one and the same: each time the endpoint is another.
    for at in [any, bed.quiet_addresses(1)[0]] {
        let (server, seen) = keepers(&mut bed, 1);
        let asks = bed.peer(any);
        let mut kept: Option<Path> = None;
        for _ in 0..4 {
            let bound = open(&mut bed, &server, &seen, 0, at);
            if let Some(kept) = kept {
                let late = answer(&mut bed, &server, &seen, (0, kept), b"late");
                assert_eq!(late, Err(SendError::Gone), "{kept:?} is none of {bound}");
            }
            let path = stranger(&mut bed, &seen, &asks, bound);
            assert_eq!(answer(&mut bed, &server, &seen, (0, path), b"in time"), Ok(()));
            assert_eq!(bed.receive(&asks), (bound, b"in time".to_vec()), "and nothing before");
            bed.tell(&server, 0, Order::Close);
            kept = Some(path);
        }
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.send_failed()), (4, 0));
    }
}

pub fn one_of_another_shards_endpoint_leads_nowhere<B: Bed>(mut bed: B) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let (server, seen) = keepers(&mut bed, 2);
    let bound = [0, 1].map(|shard| open(&mut bed, &server, &seen, shard, any));
    let asks = bed.peer(any);
    for shard in [0, 1] {
        let path = stranger(&mut bed, &seen, &asks, bound[usize::from(shard)]);
        let foreign = answer(&mut bed, &server, &seen, (1 - shard, path), b"foreign");
        assert_eq!(foreign, Err(SendError::Gone));
        assert_eq!(answer(&mut bed, &server, &seen, (shard, path), b"own"), Ok(()));
        assert_eq!(bed.receive(&asks), (bound[usize::from(shard)], b"own".to_vec()));
    }
    bed.drain(server);
}

pub fn it_has_the_port_of_its_endpoint<B: Bed>(mut bed: B) {
    for local in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let local: SocketAddr = local.parse().unwrap();
        let (server, seen) = keepers(&mut bed, 1);
        let friends = [bed.peer(local), bed.peer(local)];
        // The first becomes a peer before the endpoint is open, the second afterwards.
        bed.tell(&server, 0, Order::Open(local));
        for friend in &friends {
            bed.tell(&server, 0, Order::Greet(bed.address_of(friend)));
            let (from, _) = bed.receive(friend);
            bed.send(friend, from, b"hello");
            let Seen::Peer(heard, answered) = bed.hear(&seen) else { panic!("a peer is heard") };
            assert_eq!(heard.local, SocketAddr::new(local.ip(), from.port()));
            assert_eq!(answered, Some(heard));
        }
        bed.drain(server);
    }
}

/// Numbers its peers. `j` comes along one more path of the first one, which then moves there and gives up the old one.
#[derive(Default)]
struct Mover {
    peers: u32,
    first: Option<PeerId>,
}

impl Handler for Mover {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        match self.first.filter(|_| first.starts_with(b"j")) {
            Some(peer) => Accept::PathOf(peer),
            None => {
                self.peers += 1;
                Accept::Peer(self.peers)
            }
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        let (number, path) = (*cx.peers.get(peer).unwrap(), datagram.path());
        self.first.get_or_insert(peer);
        let old = cx.io.path(peer).unwrap();
        if datagram.starts_with(b"j") && old != path {
            cx.io.send(peer, b"goes").unwrap();
            assert_eq!(cx.io.drop_path(peer, old), Err(DropPathError::InUse));
            cx.io.use_path(peer, path).unwrap();
            assert_eq!(cx.io.drop_path(peer, old), Ok(()));
            assert_eq!(cx.io.drop_path(peer, old), Err(DropPathError::Gone));
            assert_eq!(cx.io.use_path(peer, old), Err(SendError::Gone));
            assert_eq!(cx.io.path(peer), Some(path));
            cx.io.send(peer, b"came").unwrap();
            return;
        }
        let others: Vec<_> = cx.peers.iter().map(|(id, _)| id).filter(|id| *id != peer).collect();
        for other in others {
            assert_eq!(cx.io.drop_path(other, path), Err(DropPathError::Gone), "it is another peer's");
        }
        cx.io.send(peer, format!("peer {number}").as_bytes()).unwrap();
    }
}

pub fn one_that_a_peer_gave_up_is_a_strangers<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        let server = bed.serve(loopback().tier(tier), |_| Mover::default());
        let at = bed.address(&server);
        let (old, new) = (bed.peer(at), bed.peer(at));
        for _ in 0..3 {
            assert_eq!(bed.ask(&old, at, b"hello"), b"peer 1");
        }
        bed.send(&new, at, b"join");
        assert_eq!(bed.receive(&old).1, b"goes", "what was sent before leaves along the old path");
        assert_eq!(bed.receive(&new).1, b"came", "and what follows along the new one");
        // Somebody else has the old address now.
        for _ in 0..3 {
            assert_eq!(bed.ask(&old, at, b"hello"), b"peer 2");
            assert_eq!(bed.ask(&new, at, b"hello"), b"peer 1");
        }
        let stats = bed.drain(server);
        assert_eq!((stats.peers_opened, stats.delivered, stats.restarts), (2, 10, 0), "{tier}");
    }
}

/// Answers everything where it came from. `join` comes along one more path of the first peer; `leave` moves there and gives
/// up the path it came by, and `drop` gives that up alone.
#[derive(Default)]
struct Leaver {
    first: Option<PeerId>,
    other: Option<Path>,
}

impl Handler for Leaver {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        self.first.filter(|_| first.starts_with(b"join")).map_or(Accept::Peer(()), Accept::PathOf)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        self.first.get_or_insert(peer);
        let (path, len) = (datagram.path(), datagram.len());
        let leaves = datagram.starts_with(b"leave");
        if datagram.starts_with(b"join") {
            self.other = Some(path);
        }
        if leaves {
            cx.io.use_path(peer, self.other.unwrap()).unwrap();
        }
        if leaves || datagram.starts_with(b"drop") {
            cx.io.drop_path(peer, path).unwrap();
        }
        cx.io.reply(datagram, len).unwrap();
        if leaves {
            // No longer than what it follows: the two might be taken for a train.
            cx.io.send(peer, b"stay").unwrap();
        }
    }
}

pub fn what_is_at_hand_is_answered_where_it_came_from<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        let server = bed.serve(loopback().tier(tier), |_| Leaver::default());
        let at = bed.address(&server);
        let [old, new, third] = [(); 3].map(|()| bed.peer(at));
        for _ in 0..3 {
            assert_eq!(bed.ask(&old, at, b"hello"), b"hello");
        }
        assert_eq!(bed.ask(&new, at, b"join"), b"join");
        bed.send(&old, at, b"leave");
        assert_eq!(bed.receive(&old).1, b"leave", "{tier}");
        assert_eq!(bed.receive(&new).1, b"stay", "{tier}");
        // By which it has a socket of its own again, where it may.
        for _ in 0..3 {
            assert_eq!(bed.ask(&new, at, b"hello"), b"hello");
        }
        assert_eq!(bed.ask(&third, at, b"join"), b"join");
        assert_eq!(bed.ask(&third, at, b"drop"), b"drop", "{tier}");
        let stats = bed.drain(server);
        assert_eq!((stats.peers_opened, stats.restarts), (1, 0), "{tier}");
    }
}
