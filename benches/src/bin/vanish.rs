//! Thousands of peers with sockets of their own are closed at once while the server sends each of them something in every
//! turn, again and again: the server stands, and the others miss nothing.
//!
//! `cargo run --release -p shardgram-benches --bin vanish`
//!
//! What is sent to a port that is closed comes back as an ICMP error, which the next send to that peer tells and is then
//! refused for: every peer that vanished costs the turn two sends where the others cost one. The longest time between
//! two turns of the fan-out says what that comes to.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{
    Accept, AcceptChoice, Backend, Config, Context, Datagram, Handle, Handler, Origin, PeerError, PeerId,
    Server, Snapshot,
};
use shardgram_benches::flows;
use shardgram_benches::pps::system;
use socket2::SockRef;

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(60);
/// Clients that come at once, so that the listener has room for what they say.
const AT_ONCE: usize = 64;
/// The least time between two turns of the fan-out, so that whoever stays can read what comes.
const PACE: Duration = Duration::from_millis(2);
/// What a client says to stay when the others are closed.
const STAYS: u8 = b's';
const GOES: u8 = b'g';

/// Closes thousands of connected peers at once, under fan-out.
#[derive(Parser)]
struct Options {
    /// Peers that are closed at once.
    #[arg(long, default_value_t = 3_000)]
    peers: usize,
    /// Peers that stay.
    #[arg(long, default_value_t = 50)]
    others: usize,
    /// How often.
    #[arg(long, default_value_t = 50)]
    rounds: u32,
    /// Datagrams to each peer in a turn of the fan-out. Their lengths differ, so they make no train.
    #[arg(long, default_value_t = 2)]
    datagrams: usize,
    /// Of equal length, so they do.
    #[arg(long)]
    trains: bool,
    /// Turns of the fan-out before the close, and after it.
    #[arg(long, default_value_t = 10)]
    turns: u64,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    ipv6: bool,
    /// auto, side-group or same-group.
    #[arg(long, default_value = "auto")]
    accept: AcceptChoice,
    /// A tenth of the rounds.
    #[arg(long)]
    quick: bool,
}

/// What the handler shows.
#[derive(Default)]
struct Shown {
    turns: AtomicU64,
    longest_ns: AtomicU64,
    refused: AtomicU64,
    other_errors: AtomicU64,
}

/// What it is told.
#[derive(Clone, Copy)]
enum Tell {
    /// The fan-out begins, or ends.
    Run(bool),
    /// Those that are to go are closed.
    CloseGone,
}

struct Peer {
    stays: bool,
    next: u64,
}

struct Fan {
    shown: Arc<Shown>,
    peers: Vec<PeerId>,
    lengths: Vec<usize>,
    runs: bool,
    last: Option<Instant>,
}

impl Handler for Fan {
    type Peer = Peer;
    type Timer = ();
    type Message = Tell;

    fn accept(&mut self, _: &mut Context<'_, Self>, datagram: &mut Datagram<'_>) -> Accept<Peer> {
        Accept::Connect(Peer { stays: datagram.first() == Some(&STAYS), next: 0 })
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _: Datagram<'_>) {
        if cx.peers.get_mut(peer).is_some_and(|state| state.next == 0) {
            let state = cx.peers.get_mut(peer);
            state.into_iter().for_each(|state| state.next = 1);
            self.peers.push(peer);
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, tell: Tell) {
        match tell {
            Tell::Run(runs) => {
                (self.runs, self.last) = (runs, None);
                if runs {
                    let _ = cx.io.set_timer(cx.io.now(), ());
                }
            }
            Tell::CloseGone => {
                let Self { peers, .. } = self;
                peers.retain(|peer| {
                    let stays = cx.peers.get_mut(*peer).is_some_and(|state| state.stays);
                    if !stays {
                        cx.io.close(*peer);
                    }
                    stays
                });
            }
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        if !self.runs {
            return;
        }
        let now = cx.io.now();
        if let Some(last) = self.last.replace(now) {
            self.shown.longest_ns.fetch_max((now - last).as_nanos() as u64, Ordering::Relaxed);
        }
        for peer in &self.peers {
            let Some(state) = cx.peers.get_mut(*peer) else { continue };
            for len in &self.lengths {
                let mut bytes = vec![0; *len];
                bytes[..8].copy_from_slice(&state.next.to_be_bytes());
                if cx.io.send(*peer, &bytes).is_ok() {
                    state.next += 1;
                }
            }
        }
        self.shown.turns.fetch_add(1, Ordering::Relaxed);
        let _ = cx.io.set_timer(now + PACE, ());
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let Shown { refused, other_errors, .. } = &*self.shown;
        let counter = if error == PeerError::Refused { refused } else { other_errors };
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What those that stay got.
#[derive(Default)]
struct Got {
    datagrams: AtomicU64,
    missed: AtomicU64,
    stop: AtomicBool,
}

/// Reads what comes to those that stay, and looks for gaps.
fn read(others: &[UdpSocket], got: &Got) {
    let mut nexts = vec![1_u64; others.len()];
    let mut bytes = [0; 2_048];
    let mut last = false;
    while !last {
        // Once more after the end, for what is still in the sockets.
        last = got.stop.load(Ordering::Acquire);
        let mut any = false;
        for (socket, next) in others.iter().zip(&mut nexts) {
            while let Ok(len) = socket.recv(&mut bytes) {
                any = true;
                let number = bytes[..len].first_chunk().map_or(0, |number| u64::from_be_bytes(*number));
                got.missed.fetch_add(number.abs_diff(*next), Ordering::Relaxed);
                *next = number + 1;
                got.datagrams.fetch_add(1, Ordering::Relaxed);
            }
        }
        if !any && !last {
            std::thread::sleep(Duration::from_micros(200));
        }
    }
}

fn client(at: SocketAddr, receive_bytes: usize) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind(SocketAddr::new(at.ip(), 0))?;
    socket.connect(at)?;
    socket.set_nonblocking(true)?;
    if receive_bytes > 0 {
        SockRef::from(&socket).set_recv_buffer_size(receive_bytes)?;
    }
    Ok(socket)
}

struct Bed {
    server: Handle<Tell>,
    shown: Arc<Shown>,
    got: Arc<Got>,
}

impl Bed {
    /// Waits until something is so; an error if it does not come about, or the server has ended.
    fn until(&self, what: &str, mut holds: impl FnMut(&Snapshot) -> bool) -> Result<(), Box<dyn Error>> {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.server.stats()) {
            if Instant::now() > end {
                return Err(format!("{what}: it did not come about: {}", self.server.stats()).into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Has clients in that say so, a few at a time, each with a socket of its own.
    fn let_in(&self, clients: &[UdpSocket], say: u8, connected: u64) -> Result<(), Box<dyn Error>> {
        for few in clients.chunks(AT_ONCE) {
            let all = self.server.stats().delivered + few.len() as u64;
            few.iter().try_for_each(|client| client.send(&[say]).map(drop))?;
            self.until("all are heard", |stats| stats.delivered >= all)?;
        }
        self.until("all have sockets of their own", |stats| stats.connected() == connected)
    }

    fn turns(&self, turns: u64) -> Result<(), Box<dyn Error>> {
        let until = self.shown.turns.load(Ordering::Relaxed) + turns;
        self.until("the fan-out goes on", |_| self.shown.turns.load(Ordering::Relaxed) >= until)
    }

    fn tell(&self, tell: Tell) -> Result<(), Box<dyn Error>> {
        self.server.tell(0, tell).map_err(|_| "the server takes no message".into())
    }

    /// The longest time between two turns of the fan-out since this was asked last, in milliseconds.
    fn longest_ms(&self) -> f64 {
        self.shown.longest_ns.swap(0, Ordering::Relaxed) as f64 / 1e6
    }
}

fn round(bed: &Bed, options: &Options, round: u32, at: SocketAddr) -> Result<(), Box<dyn Error>> {
    let others = options.others as u64;
    let clients: Result<Vec<_>, _> = (0..options.peers).map(|_| client(at, 0)).collect();
    let clients = clients?;
    bed.let_in(&clients, GOES, others + options.peers as u64)?;
    let before = bed.server.stats();
    let refused = bed.shown.refused.load(Ordering::Relaxed);
    bed.tell(Tell::Run(true))?;
    bed.turns(options.turns)?;
    let quiet_ms = bed.longest_ms();
    drop(clients);
    bed.turns(options.turns)?;
    let vanished_ms = bed.longest_ms();
    bed.tell(Tell::Run(false))?;
    bed.tell(Tell::CloseGone)?;
    bed.until("those that vanished are closed", |stats| stats.connected() == others)?;
    let stats = bed.server.stats();
    println!(
        "{round:5} {:9} {:11} {:12} {:7} {quiet_ms:9.1} {vanished_ms:12.1}",
        stats.submitted - before.submitted,
        stats.send_failed() - before.send_failed(),
        bed.shown.refused.load(Ordering::Relaxed) - refused,
        bed.got.missed.load(Ordering::Relaxed),
    );
    Ok(())
}

fn rounds(bed: &Bed, options: &Options, at: SocketAddr) -> Result<(), Box<dyn Error>> {
    println!("round submitted send_failed peers' errors missed quiet (ms) vanished (ms)");
    (1..=options.rounds).try_for_each(|nth| round(bed, options, nth, at))
}

fn start(options: &Options) -> Result<(Bed, SocketAddr, JoinHandle<()>), Box<dyn Error>> {
    let most = (options.peers + options.others) as u32 + 64;
    let config = Config::new().listen((flows::loopback(options.ipv6), 0).into()).backend(Backend::Uring);
    let config = config.max_connected(most).max_connected_per_address(most).accept(options.accept);
    let config = config.idle_timeout(None).outbox_datagrams(most * options.datagrams as u32);
    let shown = Arc::<Shown>::default();
    let theirs = Arc::clone(&shown);
    let longer = if options.trains { 0 } else { 16 };
    let lengths: Vec<usize> = (0..options.datagrams).map(|nth| 100 + nth * longer).collect();
    let server = Server::bind(config)?.spawn(move |_| Fan {
        shown: Arc::clone(&theirs),
        peers: Vec::new(),
        lengths: lengths.clone(),
        runs: false,
        last: None,
    })?;
    let at = server.local_addrs()[0];
    let bed = Bed { server, shown, got: Arc::default() };
    let others: Result<Vec<_>, _> = (0..options.others).map(|_| client(at, 1 << 20)).collect();
    let others = others?;
    bed.let_in(&others, STAYS, options.others as u64)?;
    let got = Arc::clone(&bed.got);
    let reader = std::thread::spawn(move || read(&others, &got));
    Ok((bed, at, reader))
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.rounds = (options.rounds / 10).max(1);
    }
    system::raise_descriptors();
    let (bed, at, reader) = start(&options)?;
    let outcome = rounds(&bed, &options, at);
    let Bed { server, shown, got } = bed;
    let report = server.drain(Duration::from_secs(30));
    got.stop.store(true, Ordering::Release);
    reader.join().map_err(|_| "the reader panicked")?;
    // What befell the server says more than that something did not come about.
    let total = report?.total;
    outcome?;
    let outcomes = total.sent() + total.send_failed() + total.send_waiting;
    let others = options.others as u64;
    let (datagrams, missed) = (got.datagrams.load(Ordering::Relaxed), got.missed.load(Ordering::Relaxed));
    let sent = shown.turns.load(Ordering::Relaxed) * others * options.datagrams as u64;
    println!("those that stay: {datagrams} of {sent} datagrams came, {missed} missed");
    println!("counters: submitted {}, outcomes {outcomes}; {}", total.submitted, total);
    let met = datagrams == sent
        && missed == 0
        && total.submitted == outcomes
        && total.unaccounted() == 0
        && total.send_failed() == total.send_failed_refused
        && shown.other_errors.load(Ordering::Relaxed) == 0;
    println!("{}", if met { "met" } else { "missed" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
