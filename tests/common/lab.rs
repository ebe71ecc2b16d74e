//! A laboratory for the tier of connected sockets: a handler that tells the test all it sees and does what
//! the test says, and a look at the sockets the kernel has. Over io_uring only, since only there peers have
//! sockets of their own.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardgram::{Accept, CloseReason, Config, Context, Datagram, Handler, Io, Origin, Path, PeerError};
use shardgram::{PeerId, Snapshot, Tier};

use super::{Bed, PATIENCE, Served};

/// What the handler is told to do.
pub type Order = Box<dyn FnOnce(&mut Subject, &mut Context<'_, Subject>) + Send>;

/// What the handler saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Seen {
    Datagram { peer: PeerId, path: Path, tier: Option<Tier>, bytes: Vec<u8> },
    Closed { peer: PeerId, why: CloseReason },
    Error { peer: PeerId, error: PeerError },
}

/// What becomes of strangers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Welcome {
    Peer,
    Connect,
}

/// The handler: it answers what begins with `ask`, and tells of everything.
pub struct Subject {
    pub known: HashMap<SocketAddr, PeerId>,
    welcome: Welcome,
    seen: Sender<Seen>,
}

impl Subject {
    /// The peer at that address; the test has seen a datagram of it, so it is there.
    pub fn at(&self, remote: SocketAddr) -> PeerId {
        self.known[&remote]
    }
}

impl Handler for Subject {
    type Peer = ();
    type Timer = Order;
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        match self.welcome {
            Welcome::Peer => Accept::Peer(()),
            Welcome::Connect => Accept::Connect(()),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (path, bytes) = (datagram.path(), datagram.to_vec());
        self.known.insert(path.remote, from);
        let seen = Seen::Datagram { peer: from, path, tier: cx.io.tier(from), bytes };
        // A test that has what it wants listens no more.
        let _ = self.seen.send(seen);
        if datagram.starts_with(b"ask") {
            let len = datagram.len();
            cx.io.reply(datagram, len).expect("room for a reply");
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        order(self, cx);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, order: Order) {
        order(self, cx);
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let _ = self.seen.send(Seen::Error { peer, error });
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, (): (), why: CloseReason) {
        self.known.retain(|_, known| *known != peer);
        let _ = self.seen.send(Seen::Closed { peer, why });
    }
}

/// Has something done in the next turn, after its arrivals: a timer waits for the next turn at least.
pub fn next_turn(io: &mut Io<Subject>, order: Order) {
    let now = io.now();
    assert!(io.set_timer(now, order).is_ok(), "room for a timer");
}

/// A running server with the handler above.
pub struct Lab {
    pub bed: Bed,
    pub server: Served<Order>,
    pub seen: Receiver<Seen>,
}

/// A shard whose thread stands still in a callback. It goes on when this is dropped.
pub struct Held(#[allow(dead_code, reason = "its end is what counts")] Sender<()>);

impl Lab {
    /// Nothing where io_uring is refused; that is recorded as a skip.
    pub fn start(config: Config, welcome: Welcome) -> Option<Self> {
        let mut bed = Bed::uring()?;
        let (tell, seen) = mpsc::channel();
        let make = move |_| Subject { known: HashMap::new(), welcome, seen: tell.clone() };
        let server = bed.serve(config, make);
        Some(Self { bed, server, seen })
    }

    pub fn address(&self) -> SocketAddr {
        self.bed.address(&self.server)
    }

    /// Has a shard do something and gives what came of it.
    pub fn run<T: Send + 'static>(
        &mut self,
        shard: u16,
        what: impl FnOnce(&mut Subject, &mut Context<'_, Subject>) -> T + Send + 'static,
    ) -> T {
        let (done, result) = mpsc::channel();
        let order: Order = Box::new(move |subject, cx| done.send(what(subject, cx)).expect("the test waits"));
        self.bed.tell(&self.server, shard, order);
        result.recv_timeout(PATIENCE).expect("the shard does it")
    }

    /// Does something on the shard of a peer.
    pub fn with_peer<T: Send + 'static>(
        &mut self,
        peer: PeerId,
        what: impl FnOnce(&mut Io<Subject>) -> T + Send + 'static,
    ) -> T {
        self.run(peer.shard(), move |_, cx| what(cx.io))
    }

    pub fn tier(&mut self, peer: PeerId) -> Option<Tier> {
        self.with_peer(peer, move |io| io.tier(peer))
    }

    /// Holds a shard in a callback.
    pub fn hold(&mut self, shard: u16) -> Held {
        let (release, until) = mpsc::channel();
        let (begin, begun) = mpsc::channel();
        let order: Order = Box::new(move |_, _| wait_in_callback(&begin, &until));
        self.bed.tell(&self.server, shard, order);
        begun.recv_timeout(PATIENCE).expect("the shard is held");
        Held(release)
    }

    /// The next datagram that the handler saw.
    pub fn datagram(&self) -> (PeerId, Path, Option<Tier>, Vec<u8>) {
        loop {
            let seen = self.seen.recv_timeout(PATIENCE).expect("a datagram comes");
            if let Seen::Datagram { peer, path, tier, bytes } = seen {
                return (peer, path, tier, bytes);
            }
        }
    }

    pub fn stats(&mut self) -> Snapshot {
        self.bed.stats(&self.server)
    }

    /// Waits until the statistics are so.
    pub fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) -> Snapshot {
        let Self { bed, server, .. } = self;
        let mut last = Snapshot::default();
        bed.until(what, |bed| {
            last = bed.stats(server);
            holds(&last)
        });
        last
    }

    /// Waits until the kernel's sockets bound to this address and connected to others are those of these
    /// peers and no more.
    pub fn until_connected_to(&mut self, local: SocketAddr, peers: &[SocketAddr]) {
        let mut expected = peers.to_vec();
        expected.sort_unstable();
        let what = format!("the kernel has sockets at {local} connected to {expected:?}");
        self.bed.until(&what, |_| connected_to(local) == expected);
    }

    pub fn drain(mut self) -> Snapshot {
        self.bed.drain(self.server)
    }
}

/// Says that it has begun and waits until the other end is dropped. A test that failed does so, too.
pub fn wait_in_callback(begin: &Sender<()>, until: &Receiver<()>) {
    let _ = begin.send(());
    let _ = until.recv_timeout(PATIENCE + Duration::from_secs(5));
}

/// Held by tests whose shard has to keep up with a flood: that takes a core for either, so there is one at a time.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sockets that send as fast as they can, on a thread of their own, until this is stopped or dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    /// What a socket sends is made of its port and the number of the round, from 1.
    pub fn start<const N: usize>(
        sockets: Vec<UdpSocket>,
        to: SocketAddr,
        payload: impl Fn(u16, u32) -> [u8; N] + Send + 'static,
    ) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let ports: Vec<_> = sockets.iter().map(|socket| socket.local_addr().unwrap().port()).collect();
        let thread = std::thread::spawn(move || {
            let mut round = 0;
            while !stopped.load(Ordering::Relaxed) {
                round += 1;
                for (socket, port) in sockets.iter().zip(&ports) {
                    socket.send_to(&payload(*port, round), to).expect("sent");
                }
            }
            u64::from(round) * sockets.len() as u64
        });
        Self { stop, thread: Some(thread) }
    }

    /// Says how many datagrams were sent.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().expect("it is stopped once");
        thread.join().expect("it could send")
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        // Also when the test has failed.
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Sockets on free ports of that address.
pub fn sockets_at(ip: IpAddr, count: usize) -> Vec<UdpSocket> {
    (0..count).map(|_| UdpSocket::bind((ip, 0)).expect("a free port")).collect()
}

/// Waits until all that was sent is received or was dropped by the kernel.
pub fn until_accounted<M: Send>(bed: &mut Bed, server: &Served<M>, sent: u64) {
    let end = Instant::now() + LONG_PATIENCE;
    loop {
        let stats = bed.stats(server);
        let known = stats.received + stats.kernel_dropped;
        if known >= sent {
            return;
        }
        assert!(
            Instant::now() < end,
            "of {sent} datagrams {} are not accounted for: {stats:?}",
            sent - known
        );
        bed.pass(Duration::from_millis(1));
    }
}

/// How long a test may take that does something thousands of times, on a machine that does a lot else.
pub const LONG_PATIENCE: Duration = Duration::from_secs(240);

/// The remote addresses of the kernel's UDP sockets that are bound to `local` and connected, sorted
/// (`/proc/net/udp` and `/proc/net/udp6`, proc_pid_net(5)).
pub fn connected_to(local: SocketAddr) -> Vec<SocketAddr> {
    let table = if local.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let text = std::fs::read_to_string(table).expect("proc is mounted");
    let sockets = text.lines().skip(1).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((parse(words.nth(1)?), parse(words.next()?)))
    });
    let of_local = sockets.filter(|(bound, remote)| *bound == local && remote.port() != 0);
    let mut remotes: Vec<_> = of_local.map(|(_, remote)| remote).collect();
    remotes.sort_unstable();
    remotes
}

/// An address in words of the host's byte order, each in hexadecimal.
fn parse(text: &str) -> SocketAddr {
    let (address, port) = text.split_once(':').expect("an address and a port");
    let word =
        |at: usize| u32::from_str_radix(&address[at * 8..][..8], 16).expect("hexadecimal").to_ne_bytes();
    let ip: IpAddr = match address.len() {
        8 => Ipv4Addr::from(word(0)).into(),
        _ => {
            let mut bytes = [0; 16];
            (0..4).for_each(|at| bytes[at * 4..][..4].copy_from_slice(&word(at)));
            Ipv6Addr::from(bytes).into()
        }
    };
    SocketAddr::new(ip, u16::from_str_radix(port, 16).expect("hexadecimal"))
}

/// A free port of the loopback address of each family.
pub fn loopback_of_both() -> [Config; 2] {
    let ips = [IpAddr::from([127, 0, 0, 1]), Ipv6Addr::LOCALHOST.into()];
    ips.map(|ip| Config::new().listen((ip, 0).into()))
}
