//! A server that says what it hears of its peers, each of which has a socket of its own.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use shardgram::{
    Accept, Config, Context, Datagram, Handler, PeerError, PeerId, Server, SocketHook, TierPolicy, Via,
};

use super::source::shard_cpu;
use super::{Bed, PATIENCE, Served};

pub enum Say {
    /// So many datagrams of this length to every peer, in one turn.
    Now {
        count: u32,
        len: usize,
    },
    /// Makes a peer of somebody who never spoke, with a socket of its own.
    Open {
        via: SocketAddr,
        to: SocketAddr,
    },
    Demote,
    Promote,
    /// Says that it is in a callback, waits there, and then sends one datagram to every peer.
    Later {
        there: Sender<()>,
        go: Receiver<()>,
    },
}

/// Sends back what comes, sends what it is told to, and says what it hears of its peers.
pub struct Talker(pub Sender<(SocketAddr, PeerError)>);

impl Talker {
    fn say(cx: &mut Context<'_, Self>, count: u32, len: usize) {
        for (peer, ()) in cx.peers.iter() {
            for _ in 0..count {
                cx.io.send(peer, &vec![7; len]).unwrap();
            }
        }
    }
}

impl Handler for Talker {
    type Peer = ();
    type Timer = ();
    type Message = Say;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, say: Say) {
        match say {
            Say::Now { count, len } => Self::say(cx, count, len),
            Say::Open { via, to } => {
                let peer = cx.open(Via::Listener(via), to, ()).unwrap();
                cx.io.promote(peer);
            }
            Say::Demote => cx.peers.iter().for_each(|(peer, ())| cx.io.demote(peer)),
            Say::Promote => cx.peers.iter().for_each(|(peer, ())| cx.io.promote(peer)),
            Say::Later { there, go } => {
                there.send(()).unwrap();
                go.recv().unwrap();
                Self::say(cx, 1, 1);
            }
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let _ = self.0.send((cx.io.path(peer).unwrap().remote, error));
    }
}

pub type Heard = Receiver<(SocketAddr, PeerError)>;

pub fn serve(bed: &mut Bed, listen: &[&str], hook: Option<SocketHook>) -> (Served<Say>, Heard) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let config = Config::new().backend(*backend).tier(TierPolicy::Connected).idle_timeout(None);
    let listen = listen.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 7_000));
    let (sender, heard) = channel();
    let server = Server::bind_with(listen.fold(config, Config::listen), hook).expect("the server binds");
    (Served::Real(server.spawn(move |_| Talker(sender.clone())).expect("it starts")), heard)
}

/// A peer that the server knows, and that has a socket of its own there.
pub struct Friend {
    pub socket: UdpSocket,
    pub at: SocketAddr,
}

impl Friend {
    pub fn new(bed: &mut Bed, server: &Served<Say>, at: SocketAddr, socket: UdpSocket) -> Self {
        let promoted = bed.stats(server).promoted;
        let friend = Self { socket, at };
        friend.ask(b"hello");
        bed.until("it is connected", |bed| bed.stats(server).promoted > promoted);
        // By its own socket now.
        friend.ask(b"hello again");
        friend
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    pub fn send(&self, bytes: &[u8]) {
        assert_eq!(self.socket.send_to(bytes, self.at).unwrap(), bytes.len());
    }

    pub fn ask(&self, bytes: &[u8]) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.send(bytes);
        let mut buffer = [0; 2_000];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..len], from), (bytes, self.at));
    }

    /// How many answers come that were not waited for.
    pub fn late(&self) -> usize {
        self.socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        std::iter::from_fn(|| self.socket.recv(&mut [0; 16]).ok()).count()
    }

    /// Lengths of the next so many datagrams.
    pub fn hears_some(&self, count: usize) -> Vec<usize> {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        (0..count).map(|_| self.socket.recv(&mut [0; 70_000]).expect("a datagram")).collect()
    }

    /// Lengths of what comes in this time.
    pub fn hears(&self, within: Duration) -> Vec<usize> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        std::iter::from_fn(|| self.socket.recv(&mut [0; 70_000]).ok()).collect()
    }
}

pub fn on_loopback(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind((ip, 0)).unwrap()
}

/// What is heard next; that it is about this peer.
pub fn next(heard: &Heard, about: SocketAddr) -> PeerError {
    let (peer, error) = heard.recv_timeout(PATIENCE).expect("the handler hears of it");
    assert_eq!(peer, about);
    error
}

/// No thread of the kernel does what the ring should have done without.
pub fn no_workers() {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    let workers: Vec<_> = names.filter(|name| name.starts_with("iou-wrk")).collect();
    assert!(workers.is_empty(), "{workers:?}");
}

/// The shard's thread sleeps, which it must once nothing more comes.
pub fn sleeps(bed: &mut Bed, server: &Served<Say>) {
    let mut last = (0, 0);
    bed.until("the shard is at rest", |bed| {
        let (cpu, turns) = (shard_cpu(0), bed.stats(server).turns);
        std::thread::sleep(Duration::from_millis(200));
        last = (shard_cpu(0) - cpu, bed.stats(server).turns - turns);
        last.0 < 10_000_000 && last.1 < 20
    });
    no_workers();
}

pub const BOTH: [&str; 2] = ["127.0.0.1", "::1"];
