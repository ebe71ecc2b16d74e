//! Shards on threads of their own, a handler that tells what it sees, and plain sockets to talk to it.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "../../../sys/tests/support/ipv6.rs"]
mod ipv6;
#[path = "../../../tests/common/skip.rs"]
#[allow(unreachable_pub, reason = "shared with the tests of shardgram, which say `pub`")]
pub(crate) mod skip;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardgram_core::control::Control;
use shardgram_core::mailbox::{Postbox, mailboxes};
use shardgram_core::shard_loop::{Ending, Secrets, Setup, ShardLoop};
use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Handler, Meta, Origin, Path, PeerError, PeerId,
    ShardInfo, Snapshot, Stats,
};
use shardgram_fallback::{Fleet, Listener, MioDriver};
use shardgram_sys::{ListenerGroup, SocketOptions};

#[allow(unused_imports, reason = "each test file uses a part")]
pub(crate) use ipv6::here;

/// Says which part a process of the test plays; not set in the process the test runner started.
const ROLE: &str = "SHARDGRAM_TEST_ROLE";

/// The longest any test waits for what must come.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// What a [`Probe`] saw.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Seen {
    Datagram { path: Path, meta: Meta, bytes: Vec<u8> },
    Error(PeerError),
    Closed(CloseReason),
    Timer { late: Duration },
}

/// Something to do on the shard.
pub(crate) struct Job(Box<Work>);
type Work = dyn FnOnce(&mut Probe, &mut Context<'_, Probe>) + Send;

/// Echoes or listens, tells what it sees, and does jobs.
pub(crate) struct Probe {
    echo: bool,
    seen: Sender<Seen>,
    /// Every timer sets itself anew, so long after it was due, so often.
    pub(crate) again: (Duration, u32),
}

impl Handler for Probe {
    type Peer = ();
    type Timer = Instant;
    type Message = Job;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        assert_ne!(&*datagram, b"panic", "as the test asked for");
        let (path, meta, bytes) = (datagram.path(), datagram.meta(), datagram.to_vec());
        let _ = self.seen.send(Seen::Datagram { path, meta, bytes });
        if self.echo {
            let len = datagram.len();
            let _ = cx.io.reply(datagram, len);
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.seen.send(Seen::Error(error));
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        let _ = self.seen.send(Seen::Closed(why));
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, due: Instant) {
        let late = cx.io.now().checked_duration_since(due).expect("a timer never fires early");
        let _ = self.seen.send(Seen::Timer { late });
        if self.again.1 > 0 {
            self.again.1 -= 1;
            let next = cx.io.now() + self.again.0;
            let _ = cx.io.set_timer(next, next);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, Job(work): Job) {
        work(self, cx);
    }
}

/// Shards with their listeners bound, not running yet.
pub(crate) struct Bound {
    config: Config,
    options: SocketOptions,
    sockets: Vec<Vec<UdpSocket>>,
    pub(crate) addresses: Vec<SocketAddr>,
}

impl Bound {
    pub(crate) fn new(config: Config, options: SocketOptions) -> Self {
        config.validate().unwrap();
        let hook = options.hook;
        let options = SocketOptions { hook, receive_trains: true, ..SocketOptions::of(config.settings()) };
        let shards = config.settings().shards;
        let mut sockets: Vec<Vec<UdpSocket>> = (0..shards).map(|_| Vec::new()).collect();
        let mut addresses = Vec::new();
        for &address in &config.settings().listen {
            let mut group = ListenerGroup::bind(address, shards, &options).unwrap();
            addresses.push(group.local_addr());
            for (shard, socket) in group.take_sockets().into_iter().enumerate() {
                sockets[shard].push(socket);
            }
        }
        Self { config, options, sockets, addresses }
    }

    /// Sockets the test made itself.
    pub(crate) fn with(config: Config, sockets: Vec<UdpSocket>) -> Self {
        let addresses = sockets.iter().map(|s| s.local_addr().unwrap()).collect();
        Self {
            config,
            options: SocketOptions { receive_trains: true, ..SocketOptions::default() },
            sockets: vec![sockets],
            addresses,
        }
    }

    pub(crate) fn start(self, echo: bool) -> Shards {
        let count = self.config.settings().shards;
        let fleet = Fleet::new(count).expect("a thread");
        let (postboxes, mailboxes) = mailboxes(count, 1024);
        let listeners: Arc<[SocketAddr]> = self.addresses.clone().into();
        let control = Arc::new(Control::default());
        let (sender, seen) = channel();
        let (mut threads, mut stats) = (Vec::new(), Vec::new());
        for ((shard, mailbox), sockets) in (0..count).zip(mailboxes).zip(self.sockets) {
            let own = Arc::new(Stats::default());
            stats.push(Arc::clone(&own));
            let setup = Setup {
                info: ShardInfo::new(shard, count),
                listeners: Arc::clone(&listeners),
                mailbox,
                postboxes: Arc::clone(&postboxes),
                control: Arc::clone(&control),
                stats: own,
                secrets: Secrets { table: (1, 2), cookies: (3, 4) },
                resolver: None,
                own: Arc::default(),
                start: Instant::now(),
            };
            let bell = Arc::clone(postboxes[usize::from(shard)].bell());
            let (config, options) = (self.config.clone(), self.options.clone());
            let (fleet, seen) = (Arc::clone(&fleet), sender.clone());
            let take_over = |socket| Listener::new(socket, &options).unwrap();
            let listeners = sockets.into_iter().map(take_over).collect();
            threads.push(std::thread::spawn(move || {
                let at_once = config.clone().gather_us(0);
                let driver =
                    MioDriver::new(shard, listeners, &options, at_once.settings(), &bell, fleet).unwrap();
                let make = |_| Probe { echo, seen: seen.clone(), again: (Duration::ZERO, 0) };
                match ShardLoop::new(driver, setup, &config, make) {
                    Ok(shard) => shard.run(),
                    Err(ending) => ending,
                }
            }));
        }
        Shards { threads, control, stats, postboxes, seen, addresses: self.addresses }
    }
}

/// Running shards.
pub(crate) struct Shards {
    threads: Vec<JoinHandle<Ending>>,
    control: Arc<Control>,
    stats: Vec<Arc<Stats>>,
    postboxes: Arc<[Postbox<Job>]>,
    pub(crate) seen: Receiver<Seen>,
    pub(crate) addresses: Vec<SocketAddr>,
}

/// One shard that echoes at one address.
pub(crate) fn echo_at(address: &str) -> Shards {
    Bound::new(config(&[address]), SocketOptions::default()).start(true)
}

/// A configuration whose shards never wake by themselves.
pub(crate) fn config(listen: &[&str]) -> Config {
    let quiet = Config::new().idle_timeout(None).max_peers(4096);
    listen.iter().fold(quiet, |config, address| config.listen(address.parse().unwrap()))
}

impl Shards {
    pub(crate) fn address(&self) -> SocketAddr {
        self.addresses[0]
    }

    pub(crate) fn run(
        &self,
        shard: usize,
        work: impl FnOnce(&mut Probe, &mut Context<'_, Probe>) + Send + 'static,
    ) {
        assert!(self.postboxes[shard].post(job(work)).is_ok(), "the mailbox has room");
    }

    pub(crate) fn next(&self) -> Seen {
        self.seen.recv_timeout(PATIENCE).expect("the shard saw something")
    }

    /// The next datagram.
    pub(crate) fn next_datagram(&self) -> (Path, Meta, Vec<u8>) {
        match self.next() {
            Seen::Datagram { path, meta, bytes } => (path, meta, bytes),
            other => panic!("a datagram was to come, not {other:?}"),
        }
    }

    fn ring(&self) {
        self.postboxes.iter().for_each(|postbox| postbox.bell().ring());
    }

    /// The counters now, those of the kernel included.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let goal = self.control.refresh() * self.stats.len() as u64;
        self.ring();
        until("the shards answer", || self.control.refreshes() >= goal);
        self.sum()
    }

    fn sum(&self) -> Snapshot {
        let mut total = Snapshot::default();
        self.stats.iter().for_each(|stats| total.add(&stats.snapshot()));
        total
    }

    /// Ends them; every datagram must be accounted for.
    pub(crate) fn stop(mut self) -> Snapshot {
        self.control.stop();
        self.ring();
        for thread in self.threads.drain(..) {
            let ending = thread.join().unwrap();
            assert!(matches!(ending, Ending::Stopped), "{ending:?}");
        }
        let total = self.sum();
        assert_eq!(total.unaccounted(), 0, "{total:?}");
        total
    }
}

pub(crate) fn job(work: impl FnOnce(&mut Probe, &mut Context<'_, Probe>) + Send + 'static) -> Job {
    Job(Box::new(work))
}

/// Waits until something is so.
pub(crate) fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !so() {
        assert!(begin.elapsed() < PATIENCE, "not in {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A plain socket that gives up after [`PATIENCE`].
pub(crate) fn client(address: &str) -> UdpSocket {
    let socket = UdpSocket::bind(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The next datagram and who sent it.
pub(crate) fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut bytes = vec![0; 1 << 16];
    loop {
        match socket.recv_from(&mut bytes) {
            Ok((len, from)) => {
                bytes.truncate(len);
                return (bytes, from);
            }
            // A receive with a timeout is not begun anew by the kernel after a signal (signal(7)), and
            // tests that run programs get SIGCHLD.
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => panic!("an answer was to come: {error}"),
        }
    }
}

/// Bytes that differ by place and by length.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + len) as u8).collect()
}

/// Runs the rest of a test in a network namespace of its own, as root there: gives `true` there. In the
/// test itself it makes the namespace, runs this one test again inside, and gives `false`. Where no
/// namespaces can be made (no `unshare` or `ip`, or user namespaces are forbidden) the test is recorded
/// as skipped.
pub(crate) fn in_namespace(test: &str) -> bool {
    if std::env::var_os(ROLE).is_some() {
        ip("link set lo up");
        return true;
    }
    if let Err(reason) = run("unshare", "-r -n ip link set lo up") {
        skip::record(&reason);
        return false;
    }
    let status = std::process::Command::new("unshare")
        .args(["-r", "-n"])
        .arg(std::env::current_exe().unwrap())
        .args([test, "--exact", "--nocapture"])
        .env(ROLE, "inside")
        .status()
        .unwrap();
    assert!(status.success(), "{test} failed in its namespace");
    false
}

/// Runs `ip` with these arguments.
pub(crate) fn ip(arguments: &str) {
    run("ip", arguments).unwrap();
}

/// Runs a program with these arguments; what it says if it fails.
pub(crate) fn run(program: &str, arguments: &str) -> Result<(), String> {
    let says = |what: &str| format!("{program} {arguments}: {}", what.trim());
    match std::process::Command::new(program).args(arguments.split(' ')).output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(says(&String::from_utf8_lossy(&output.stderr))),
        Err(error) => Err(says(&error.to_string())),
    }
}
