//! A server whose peers ask it for numbered datagrams, and a cable that carries them slowly.

use std::cell::Cell;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use shardgram::{
    Accept, CloseReason, Context, Datagram, Endpoint, EndpointId, Handler, PeerError, PeerId, SendError, Via,
};

use super::PATIENCE;
use super::namespace::{Host, await_link, run};

/// How many datagrams a peer asks for, how long each, and how many of them in one turn.
#[derive(Clone, Copy, Debug)]
pub struct Order {
    pub count: u32,
    pub len: u32,
    pub per_turn: u32,
}

impl Order {
    fn to_bytes(self) -> [u8; 12] {
        let mut bytes = [0; 12];
        for (at, word) in [self.count, self.len, self.per_turn].into_iter().enumerate() {
            bytes[4 * at..][..4].copy_from_slice(&word.to_be_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(4 * at..)?.first_chunk()?));
        Some(Self { count: word(0)?, len: word(1)?, per_turn: word(2)? })
    }
}

/// A datagram that asks for so many or more is a question that is answered without a peer.
pub const QUESTION: u32 = 1 << 30;

/// What a [`Source`] tells its test.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Seen {
    /// A peer has been sent all it asked for. So many sends were refused on the way, and so often was there
    /// room again.
    Done {
        refused: u32,
        writable: u32,
    },
    Error(PeerError),
    Closed(CloseReason),
}

/// What a peer gets.
#[derive(Debug)]
pub struct Stream {
    order: Order,
    next: u32,
    refused: u32,
    writable: u32,
}

/// What a [`Source`] is told.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tell {
    ClosePeers,
    Demote,
    Promote,
    CloseEndpoints,
}

/// Sends its peers what they ask for, and goes on when there is room.
pub struct Source {
    pub seen: Sender<Seen>,
    /// Peers it opens an endpoint for when it starts, and greets with one byte.
    pub greets: Vec<SocketAddr>,
    endpoints: Vec<EndpointId>,
}

impl Source {
    pub fn new(seen: Sender<Seen>) -> Self {
        Self::greeting(seen, Vec::new())
    }

    pub fn greeting(seen: Sender<Seen>, greets: Vec<SocketAddr>) -> Self {
        Self { seen, greets, endpoints: Vec::new() }
    }

    fn go_on(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let Some(stream) = cx.peers.get_mut(peer) else { return };
        let Order { count, len, per_turn } = stream.order;
        for _ in 0..per_turn {
            if stream.next == count {
                let Stream { refused, writable, .. } = *stream;
                stream.next = u32::MAX;
                let _ = self.seen.send(Seen::Done { refused, writable });
            }
            if stream.next >= count {
                return;
            }
            match cx.io.send(peer, &numbered(stream.next, len)) {
                Ok(()) => stream.next += 1,
                Err(SendError::Full(_)) => {
                    stream.refused += 1;
                    return;
                }
                Err(error) => panic!("{error}"),
            }
        }
        let _ = cx.io.set_peer_timer(peer, cx.io.now(), peer);
    }
}

/// Lengths from 1 to 65,507, short ones and long ones in turn.
pub const MIXED: u32 = u32::MAX;

/// A datagram that says its number in its first four bytes, as far as it has them.
pub fn numbered(number: u32, len: u32) -> Vec<u8> {
    let mix = number.wrapping_mul(0x9e37_79b1);
    // As many lengths between 4 and 8 as between 4,000 and 8,000.
    let mixed = (1 << (mix >> 28)) + (mix & 0x0fff_ffff) % (1 << (mix >> 28));
    let len = if len == MIXED { mixed.min(65_507) } else { len };
    let mut bytes = vec![number as u8; len as usize];
    let head = bytes.len().min(4);
    bytes[..head].copy_from_slice(&number.to_be_bytes()[..head]);
    bytes
}

pub fn number_of(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(*bytes.first_chunk().expect("a number"))
}

impl Handler for Source {
    type Peer = Stream;
    type Timer = PeerId;
    type Message = Tell;

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for to in &self.greets {
            let socket = cx.io.endpoint(Endpoint::towards(*to)).unwrap();
            self.endpoints.push(socket);
            let order = Order { count: 0, len: 0, per_turn: 0 };
            let stream = Stream { order, next: 0, refused: 0, writable: 0 };
            let peer = cx.open(Via::Endpoint(socket), *to, stream).unwrap();
            cx.io.send(peer, b"!").unwrap();
        }
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Stream> {
        match Order::from_bytes(first) {
            Some(order) if order.count < QUESTION => {
                Accept::Peer(Stream { order, next: 0, refused: 0, writable: 0 })
            }
            _ => Accept::Reply(first.len()),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if let (Some(order), Some(stream)) = (Order::from_bytes(&datagram), cx.peers.get_mut(from)) {
            (stream.order, stream.next) = (order, 0);
            self.go_on(cx, from);
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        self.go_on(cx, peer);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        if let Some(stream) = cx.peers.get_mut(peer) {
            stream.writable += 1;
        }
        self.go_on(cx, peer);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, tell: Tell) {
        if tell == Tell::CloseEndpoints {
            self.endpoints.drain(..).for_each(|endpoint| cx.close_endpoint(endpoint));
        }
        let peers: Vec<PeerId> = cx.peers.iter().map(|(peer, _)| peer).collect();
        for peer in peers {
            match tell {
                Tell::ClosePeers => cx.io.close(peer),
                Tell::Demote => cx.io.demote(peer),
                Tell::Promote => cx.io.promote(peer),
                Tell::CloseEndpoints => {}
            }
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.seen.send(Seen::Error(error));
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: Stream, why: CloseReason) {
        let _ = self.seen.send(Seen::Closed(why));
    }
}

/// Addresses of this host and of the one at the other end of the cable.
pub const HERE: [&str; 2] = ["10.77.0.1", "fd77::1"];
pub const THERE: [&str; 2] = ["10.77.0.2", "fd77::2"];

/// A cable to another host, whose end here takes so many kilobits a second and queues without bound, so that
/// sockets' send buffers fill.
pub fn slow_cable(kilobits: u32) -> Host {
    slow_cable_with_mtu(kilobits, 1_500)
}

pub fn slow_cable_with_mtu(kilobits: u32, mtu: u32) -> Host {
    stay_on_one_core();
    let host = Host::new();
    host.cable("v0", "v1");
    run(&format!("ip link set v0 mtu {mtu} up"));
    host.run(&format!("ip link set v1 mtu {mtu} up"));
    await_link(run, "v0");
    await_link(|command| host.run(command), "v1");
    let other = ["02:00:00:00:00:02", "02:00:00:00:00:01"];
    for (here, there) in HERE.into_iter().zip(THERE) {
        if there.contains(':') && mtu < 1_280 {
            continue; // RFC 8200 section 5: IPv6 is off on such a link
        }
        let (bits, nodad) = if here.contains(':') { (64, "nodad") } else { (24, "") };
        run(&format!("ip addr add {here}/{bits} dev v0 {nodad}"));
        host.run(&format!("ip addr add {there}/{bits} dev v1 {nodad}"));
        // Nobody asks for hardware addresses, since the question would have to wait in the queue.
        run(&format!("ip neigh add {there} lladdr {} dev v0 nud permanent", other[0]));
        host.run(&format!("ip neigh add {here} lladdr {} dev v1 nud permanent", other[1]));
    }
    limit_rate(1_000_000, mtu);
    for (here, there) in HERE.into_iter().zip(THERE) {
        if !there.contains(':') || mtu >= 1_280 {
            prove(&host, here, there);
        }
    }
    limit_rate(kilobits, mtu);
    host
}

/// Waits until a new cable carries all that is sent, which in its first moments it may not.
fn prove(host: &Host, here: &str, there: &str) {
    const FRAMES: u32 = 100;
    let address = |ip: &str| SocketAddr::new(ip.parse().unwrap(), 0);
    let (near, far) = (roomy(address(here)), host.inside(|| roomy(address(there))));
    far.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    let to = far.local_addr().unwrap();
    let all_come = || {
        let sent = (0..FRAMES).filter(|_| near.send_to(&[0; 500], to).is_ok()).count();
        let came = std::iter::from_fn(|| far.recv(&mut [0; 500]).ok()).take(FRAMES as usize).count();
        (sent, came) == (FRAMES as usize, FRAMES as usize)
    };
    let end = Instant::now() + PATIENCE;
    while !all_come() {
        assert!(Instant::now() < end, "the cable from {here} to {there} does not carry all");
    }
}

/// A cable brings frames to the core that sends them on, and with two of them one may overtake another. So this
/// process, whatever it starts from now on, and what the kernel does for them share one.
fn stay_on_one_core() {
    let cores = shardgram_sys::affinity::available_cores();
    let id = std::process::id();
    run(&format!("taskset --all-tasks --cpu-list --pid {} {id}", cores[id as usize % cores.len()]));
}

/// Changes the rate of a cable with the usual MTU.
pub fn set_rate(kilobits: u32) {
    limit_rate(kilobits, 1_500);
}

pub fn limit_rate(kilobits: u32, mtu: u32) {
    // What is longer than the burst is dropped: it takes the Ethernet header as well.
    let burst = mtu.max(1_500) + 100;
    run(&format!("tc qdisc replace dev v0 root tbf rate {kilobits}kbit burst {burst} limit 1000000000"));
}

/// A socket on the other host that asks a server for datagrams.
pub struct Client {
    pub socket: UdpSocket,
    pub at: SocketAddr,
    /// Datagrams dropped at this socket that were missed already.
    excused: Cell<u64>,
}

impl Client {
    /// With the family of the server's address.
    pub fn new(host: &Host, at: SocketAddr) -> Self {
        let own = if at.is_ipv4() { THERE[0] } else { THERE[1] };
        Self::of(host.inside(|| roomy(SocketAddr::new(own.parse().unwrap(), 0))), at)
    }

    /// With this socket.
    pub fn of(socket: UdpSocket, at: SocketAddr) -> Self {
        Self { socket, at, excused: Cell::new(0) }
    }

    pub fn ask(&self, order: Order) {
        self.socket.send_to(&order.to_bytes(), self.at).unwrap();
    }

    pub fn receive(&self) -> Vec<u8> {
        self.try_receive(PATIENCE).expect("a datagram comes")
    }

    pub fn try_receive(&self, within: Duration) -> Option<Vec<u8>> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        let mut buffer = vec![0; 70_000];
        let len = self.socket.recv(&mut buffer).ok()?;
        buffer.truncate(len);
        Some(buffer)
    }

    /// All of an order comes, in order.
    pub fn expect_all(&self, order: Order) {
        self.expect_from(0, order);
    }

    /// All of an order comes from this number on, in order, but what this host's kernel says it dropped because
    /// this client did not keep up.
    pub fn expect_from(&self, first: u32, order: Order) {
        let mut next = first;
        while next < order.count {
            let Some(bytes) = self.try_receive(PATIENCE) else {
                return self.excuse(order.count - next, order);
            };
            let number = number_of(&bytes);
            assert!(number >= next, "{number} and not {next} of {order:?}");
            self.excuse(number - next, order);
            assert_eq!(bytes, numbered(number, order.len));
            next = number + 1;
        }
    }

    /// So many did not come: the kernel must have counted as many.
    fn excuse(&self, missing: u32, order: Order) {
        let excused = self.excused.get() + u64::from(missing);
        if missing > 0 {
            let dropped = shardgram_sys::socket::drop_count(&self.socket).unwrap();
            assert!(
                excused <= dropped,
                "{missing} of {order:?} are missing, and {dropped} were dropped here"
            );
        }
        self.excused.set(excused);
    }

    /// What comes of an order until nothing does any more for this time; the numbers rise.
    pub fn rising(&self, pause: Duration) -> u32 {
        let (mut count, mut last) = (0, None);
        while let Some(bytes) = self.try_receive(pause) {
            let number = number_of(&bytes);
            assert!(last.is_none_or(|last| last < number), "{number} after {last:?}");
            last = Some(number);
            count += 1;
        }
        count
    }
}

/// A socket with a large receive buffer.
pub fn roomy(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// Nanoseconds a shard's thread of this process has run (proc(5), schedstat).
pub fn shard_cpu(shard: u16) -> u64 {
    let name = format!("shardgram-{shard}\n");
    let mut tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
    let task = tasks.find(|task| std::fs::read_to_string(task.join("comm")).is_ok_and(|comm| comm == name));
    let text = std::fs::read_to_string(task.expect("the thread runs").join("schedstat")).unwrap();
    text.split_whitespace().next().unwrap().parse().unwrap()
}

/// Waits for the next of what a source says that is not an error or a closing.
pub fn done(seen: &std::sync::mpsc::Receiver<Seen>) -> (u32, u32) {
    let end = Instant::now() + PATIENCE;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        if let Seen::Done { refused, writable } = seen.recv_timeout(left).expect("it is done") {
            return (refused, writable);
        }
    }
}
