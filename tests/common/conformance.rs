//! A bed for the suite of conformance: the drivers of real sockets, on loopback.

#[cfg_attr(target_os = "linux", path = "observer/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "observer/other.rs")]
mod observer;

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant, SystemTime};

use shardgram::{
    Backend, Config, Ending, Full, Handle, Handler, Report, ServeError, Server, ShardInfo, Snapshot,
};
use shardgram_conformance::table::{Driver, Platform};
use shardgram_conformance::{Bed, Came, End, Ended, Sending};

use super::raw;

/// A driver of real sockets, perhaps in one of its modes.
pub struct RealBed {
    backend: Backend,
    platform: Platform,
    adjust: fn(Config) -> Config,
}

impl RealBed {
    /// io_uring, or nothing where it is refused; that is recorded as a skip.
    pub fn uring() -> Option<Self> {
        super::Bed::uring()?;
        let platform = Platform::here(Driver::Uring);
        Some(Self { backend: Backend::Uring, platform, adjust: |config| config })
    }

    pub fn mio() -> Self {
        Self { backend: Backend::Mio, platform: Platform::here(Driver::Mio), adjust: |config| config }
    }

    /// With every configuration changed like this, for a mode that the table knows as this platform.
    pub fn adjusted(self, adjust: fn(Config) -> Config, platform: impl FnOnce(&mut Platform)) -> Self {
        let mut bed = Self { adjust, ..self };
        platform(&mut bed.platform);
        bed
    }
}

impl Bed for RealBed {
    type Server<M: Send + 'static> = Handle<M>;
    type Peer = UdpSocket;

    fn platform(&self) -> Platform {
        self.platform
    }

    fn try_serve<H: Handler>(
        &mut self,
        config: Config,
        make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
    ) -> Result<Handle<H::Message>, String> {
        let config = (self.adjust)(config).backend(self.backend);
        let server = Server::bind(config).map_err(|error| error.to_string())?;
        server.spawn(make).map_err(|error| error.to_string())
    }

    fn addresses<M: Send + 'static>(&self, server: &Handle<M>) -> Vec<SocketAddr> {
        server.local_addrs().to_vec()
    }

    fn try_tell<M: Send + 'static>(&mut self, server: &Handle<M>, shard: u16, message: M) -> Result<(), M> {
        server.tell(shard, message).map_err(|Full(message)| message)
    }

    fn stats<M: Send + 'static>(&mut self, server: &Handle<M>) -> Snapshot {
        server.stats()
    }

    fn start_drain<M: Send + 'static>(&mut self, server: &Handle<M>, within: Duration) {
        server.start_drain(within);
    }

    fn wait<M: Send + 'static>(&mut self, server: Handle<M>) -> Ended {
        let remote = server.remote();
        // On a thread of its own, so that a shard that never ends fails the test instead of keeping it.
        let (sender, ended) = std::sync::mpsc::channel();
        let waiting = std::thread::spawn(move || sender.send(server.wait()).is_ok());
        let result = ended.recv_timeout(2 * super::PATIENCE).expect("all shards end");
        assert!(waiting.join().unwrap(), "it was waited for");
        match result {
            Ok(Report { total, shards, .. }) => {
                let end = |ending: &Ending| match ending {
                    Ending::Drained => End::Drained,
                    Ending::DrainDeadline => End::Deadline,
                    Ending::Stopped => End::Stopped,
                    other => panic!("{other:?}"),
                };
                Ended { total, shards: shards.iter().map(|shard| end(&shard.ending)).collect() }
            }
            Err(ServeError::TooManyRestarts { .. }) => {
                Ended { total: remote.stats(), shards: vec![End::TooManyRestarts] }
            }
            Err(error) => panic!("{error}"),
        }
    }

    fn try_peer(&mut self, at: SocketAddr) -> Result<UdpSocket, String> {
        UdpSocket::bind(at).map_err(|error| error.to_string())
    }

    fn observer(&mut self, ip: IpAddr) -> UdpSocket {
        observer::observer(ip)
    }

    fn close(&mut self, peer: UdpSocket) {
        drop(peer);
    }

    /// Below the ports that are handed out, and where there are several addresses of loopback on one of this driver's own,
    /// since tests run at once.
    fn quiet_addresses(&mut self, count: usize) -> Vec<SocketAddr> {
        let last = if self.backend == Backend::Uring { 1 } else { 2 };
        let ip = if cfg!(target_os = "linux") { [127, 77, 0, last] } else { [127, 0, 0, 1] };
        let free = |address: &SocketAddr| UdpSocket::bind(address).is_ok();
        (20_000..30_000).map(|port| (ip, port).into()).filter(free).take(count).collect()
    }

    /// On Linux all of 127.0.0.0/8 is this host's.
    fn loopback_addresses(&self) -> Vec<IpAddr> {
        let all: &[&str] = if cfg!(target_os = "linux") {
            &["127.0.0.1", "127.0.0.2", "::1"]
        } else {
            &["127.0.0.1", "::1"]
        };
        all.iter().map(|ip| ip.parse().unwrap()).collect()
    }

    fn address_of(&self, peer: &UdpSocket) -> SocketAddr {
        peer.local_addr().expect("it is bound")
    }

    fn send_as(&mut self, peer: &UdpSocket, to: SocketAddr, what: Sending<'_>) {
        if what == Sending::of(what.bytes) {
            assert_eq!(peer.send_to(what.bytes, to).expect("sent"), what.bytes.len());
        } else {
            observer::send(peer, to, what).expect("sent");
        }
    }

    fn send_from_port_zero(&mut self, to: SocketAddr, bytes: &[u8]) -> bool {
        let allowed = raw::allowed();
        if allowed {
            raw::Udp::from_port(0).send(to, bytes);
        }
        allowed
    }

    fn take(&mut self, peer: &UdpSocket, within: Duration) -> Option<Came> {
        peer.set_read_timeout(Some(within)).unwrap();
        observer::receive(peer).ok()
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn system_time(&self) -> Duration {
        SystemTime::UNIX_EPOCH.elapsed().expect("after 1970")
    }

    fn pass(&mut self, time: Duration) {
        std::thread::sleep(time);
    }

    fn seed(&self) -> u64 {
        match std::env::var("SHARDGRAM_SEED") {
            Ok(seed) => seed.parse().expect("a seed is a number"),
            Err(_) => RandomState::new().hash_one(0),
        }
    }
}
