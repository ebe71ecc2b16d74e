//! A bed to test behaviours in: the same test runs over io_uring, over mio, and in the simulator.
#![allow(dead_code, unused_macros, reason = "each test program uses a part of it")]

pub mod caller;
pub mod conformance;
pub mod gate;
pub mod icmp;
pub mod lab;
pub mod log;
#[cfg(target_os = "linux")]
pub mod many;
#[cfg(target_os = "linux")]
pub mod marks;
pub mod names;
pub mod namespace;
pub mod overruns;
pub mod program;
pub mod random;
pub mod raw;
pub mod role;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "filters are set by system calls")]
pub mod seccomp;
pub mod skip;
pub mod sockopt;
pub mod source;
pub mod talker;
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "users and limits are set by system calls")]
pub mod user;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use shardgram::{
    Backend, Config, Ending, Handle, Handler, Remote, Report, Server, ShardInfo, Snapshot, TierPolicy,
};
use shardgram_sim::{NodeId, Sim, SocketKey};

/// How long anything may take that is expected to happen. Only a failing test waits this long.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where a test runs.
pub enum Bed {
    Real(Backend),
    Sim(Box<Sim>),
}

/// A running server.
pub enum Served<M: Send + 'static> {
    Real(Handle<M>),
    Sim(NodeId<M>),
}

/// A bare socket that plays the peer.
pub enum Peer {
    Real(UdpSocket),
    Sim(SocketKey, SocketAddr),
}

/// Writes each test once for each driver.
macro_rules! on_all_drivers {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { $crate::common::Bed::uring().into_iter().for_each(super::$name); })+
        }
        mod mio {
            $(#[test] fn $name() { super::$name($crate::common::Bed::mio()); })+
        }
        mod sim {
            $(#[test] fn $name() { super::$name($crate::common::Bed::sim()); })+
        }
    };
}

/// Writes each test once for the drivers of real sockets.
macro_rules! on_real_drivers {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { $crate::common::Bed::uring().into_iter().for_each(super::$name); })+
        }
        mod mio {
            $(#[test] fn $name() { super::$name($crate::common::Bed::mio()); })+
        }
    };
}

/// Writes each test once for the drivers of real sockets, each in a process and a network namespace of its
/// own.
macro_rules! in_namespaces {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { alone_with_uring!(super::$name, $name); })+
        }
        mod mio {
            $(#[test] fn $name() {
                let test = concat!(module_path!(), "::", stringify!($name));
                $crate::common::namespace::alone(test, || super::$name($crate::common::Bed::mio()));
            })+
        }
    };
}

/// The part of [`in_namespaces`] for io_uring, for tests of what only that driver does.
macro_rules! in_namespaces_with_uring {
    ($($name:ident),+ $(,)?) => {
        mod uring {
            $(#[test] fn $name() { alone_with_uring!(super::$name, $name); })+
        }
    };
}

macro_rules! alone_with_uring {
    ($call:path, $name:ident) => {
        if $crate::common::Bed::uring().is_some() {
            let test = concat!(module_path!(), "::", stringify!($name));
            let bed = || $crate::common::Bed::uring().expect("it was there a moment ago");
            $crate::common::namespace::alone(test, || $call(bed()));
        }
    };
}

impl Bed {
    /// io_uring, or nothing where it is refused; that is recorded as a skip.
    pub fn uring() -> Option<Self> {
        match Server::bind(Config::new().backend(Backend::Uring)) {
            Ok(_) => Some(Self::Real(Backend::Uring)),
            Err(error) => {
                skip::record(&error.to_string());
                None
            }
        }
    }

    pub fn mio() -> Self {
        Self::Real(Backend::Mio)
    }

    pub fn sim() -> Self {
        Self::Sim(Box::new(Sim::new(1)))
    }

    /// Both tiers, where there are two.
    pub fn tiers(&self) -> Vec<TierPolicy> {
        match self {
            Self::Real(Backend::Uring) => vec![TierPolicy::Listener, TierPolicy::Connected],
            _ => vec![TierPolicy::Listener],
        }
    }

    /// Starts a server on every address of the configuration; port 0 takes a free one.
    pub fn serve<H: Handler>(
        &mut self,
        config: Config,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Served<H::Message> {
        self.serve_with_names(config, &names::Names::default(), make)
    }

    /// As [`Bed::serve`], with names that the test sets.
    pub fn serve_with_names<H: Handler>(
        &mut self,
        config: Config,
        names: &names::Names,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Served<H::Message> {
        match self {
            Self::Real(backend) => {
                let server = Server::bind(config.backend(*backend)).expect("the server binds");
                Served::Real(server.resolver(names.clone()).spawn(make).expect("the server starts"))
            }
            Self::Sim(sim) => {
                let addresses: Vec<IpAddr> = vec!["127.0.0.1".parse().unwrap(), "::1".parse().unwrap()];
                Served::Sim(sim.server(&addresses, &config, make).expect("the server starts"))
            }
        }
    }

    pub fn address<M: Send>(&self, server: &Served<M>) -> SocketAddr {
        self.addresses(server)[0]
    }

    pub fn addresses<M: Send>(&self, server: &Served<M>) -> Vec<SocketAddr> {
        match (self, server) {
            (_, Served::Real(handle)) => handle.local_addrs().to_vec(),
            (Self::Sim(sim), Served::Sim(node)) => sim.local_addrs(node),
            _ => unreachable!("a server of this bed"),
        }
    }

    /// A socket on a free port of the loopback address of that family.
    pub fn peer(&mut self, like: SocketAddr) -> Peer {
        let ip: IpAddr = if like.is_ipv4() { [127, 0, 0, 1].into() } else { "::1".parse().unwrap() };
        match self {
            Self::Real(_) => {
                let socket = UdpSocket::bind((ip, 0)).expect("a free port");
                socket.set_read_timeout(Some(PATIENCE)).unwrap();
                Peer::Real(socket)
            }
            Self::Sim(sim) => {
                let key = sim.socket(SocketAddr::new(ip, 0));
                let address = sim.socket_addr(key);
                Peer::Sim(key, address)
            }
        }
    }

    pub fn send(&mut self, peer: &Peer, to: SocketAddr, bytes: &[u8]) {
        match (self, peer) {
            (_, Peer::Real(socket)) => assert_eq!(socket.send_to(bytes, to).expect("sent"), bytes.len()),
            (Self::Sim(sim), Peer::Sim(key, _)) => sim.send(*key, to, bytes),
            _ => unreachable!("a peer of this bed"),
        }
    }

    /// The next datagram that comes to the peer, and from where.
    pub fn receive(&mut self, peer: &Peer) -> (SocketAddr, Vec<u8>) {
        self.try_receive(peer, PATIENCE).expect("a datagram comes")
    }

    /// As [`Bed::receive`], and `None` if nothing comes in this time.
    pub fn try_receive(&mut self, peer: &Peer, within: Duration) -> Option<(SocketAddr, Vec<u8>)> {
        match (self, peer) {
            (_, Peer::Real(socket)) => {
                let mut buffer = vec![0; 70_000];
                socket.set_read_timeout(Some(within)).unwrap();
                let (len, from) = socket.recv_from(&mut buffer).ok()?;
                buffer.truncate(len);
                Some((from, buffer))
            }
            (Self::Sim(sim), Peer::Sim(key, _)) => {
                let end = sim.now() + within;
                loop {
                    if let Some(got) = sim.receive(*key) {
                        return Some((got.from, got.bytes));
                    }
                    if sim.now() >= end {
                        return None;
                    }
                    sim.run_for(Duration::from_millis(1));
                }
            }
            _ => unreachable!("a peer of this bed"),
        }
    }

    /// Sends and expects one answer.
    pub fn ask(&mut self, peer: &Peer, to: SocketAddr, bytes: &[u8]) -> Vec<u8> {
        self.send(peer, to, bytes);
        let (from, answer) = self.receive(peer);
        assert_eq!(from, to, "the answer comes from the address written to");
        answer
    }

    pub fn tell<M: Send>(&mut self, server: &Served<M>, shard: u16, message: M) {
        assert!(self.try_tell(server, shard, message), "the mailbox has room");
    }

    /// As [`Bed::tell`]; false if the mailbox has no room.
    pub fn try_tell<M: Send>(&mut self, server: &Served<M>, shard: u16, message: M) -> bool {
        let told = match (self, server) {
            (_, Served::Real(handle)) => handle.tell(shard, message),
            (Self::Sim(_), Served::Sim(node)) => node.tell(shard, message),
            _ => unreachable!("a server of this bed"),
        };
        told.is_ok()
    }

    pub fn stats<M: Send>(&mut self, server: &Served<M>) -> Snapshot {
        match (self, server) {
            (_, Served::Real(handle)) => handle.stats(),
            (Self::Sim(sim), Served::Sim(node)) => sim.stats(node),
            _ => unreachable!("a server of this bed"),
        }
    }

    /// Lets time pass until the condition holds.
    pub fn until(&mut self, what: &str, holds: impl FnMut(&mut Self) -> bool) {
        self.until_within(PATIENCE, what, holds);
    }

    /// The same for what may take longer.
    pub fn until_within(&mut self, time: Duration, what: &str, mut holds: impl FnMut(&mut Self) -> bool) {
        let end = Instant::now() + time;
        for _ in 0.. {
            if holds(self) {
                return;
            }
            assert!(Instant::now() < end, "{what}: it did not come about");
            self.pass(Duration::from_millis(1));
        }
    }

    /// Lets a little time pass.
    pub fn pass(&mut self, time: Duration) {
        match self {
            Self::Real(_) => std::thread::sleep(time),
            Self::Sim(sim) => sim.run_for(time),
        }
    }

    /// Drains the server and gives its counters, which add up.
    pub fn drain<M: Send>(&mut self, server: Served<M>) -> Snapshot {
        let total = match (self, server) {
            (_, Served::Real(handle)) => {
                let Report { total, shards, .. } = handle.drain(PATIENCE).expect("it drains");
                let in_time = shards.iter().all(|shard| matches!(shard.ending, Ending::Drained));
                assert!(in_time, "it drains in time: {shards:?}");
                total
            }
            (Self::Sim(sim), Served::Sim(node)) => {
                sim.drain(&node, PATIENCE);
                sim.run_for(Duration::from_secs(1));
                assert!(sim.ended(&node).is_some(), "it drained");
                sim.stats(&node)
            }
            _ => unreachable!("a server of this bed"),
        };
        assert_eq!(total.unaccounted(), 0, "every datagram is accounted for: {total:?}");
        total
    }

    /// A clonable way to the server, where there is one.
    pub fn remote<M: Send>(server: &Served<M>) -> Option<Remote<M>> {
        match server {
            Served::Real(handle) => Some(handle.remote()),
            Served::Sim(_) => None,
        }
    }
}

impl Peer {
    pub fn address(&self) -> SocketAddr {
        match self {
            Self::Real(socket) => socket.local_addr().unwrap(),
            Self::Sim(_, address) => *address,
        }
    }
}

/// Bytes that differ from place to place.
pub fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 7 + i / 251) as u8).collect()
}

/// Where a server that listens there is reached over loopback.
pub fn to_loopback(at: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match at.ip() {
        ip if !ip.is_unspecified() => ip,
        IpAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, at.port())
}

/// A socket on a free port of this address that is given trains as they come.
#[cfg(target_os = "linux")]
pub fn receiving_trains(ip: IpAddr) -> UdpSocket {
    let domain = socket2::Domain::for_address(SocketAddr::new(ip, 0));
    let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
    shardgram_sys::socket::set_receive_trains(&socket, true).unwrap();
    socket.bind(&SocketAddr::new(ip, 0).into()).unwrap();
    socket.into()
}

/// A listener on a free port of 127.0.0.1.
pub fn loopback() -> Config {
    Config::new().listen(([127, 0, 0, 1], 0).into())
}
