//! Peers are accepted and closed in random order, for long: what it costs stays what it was, and nothing grows.
//!
//! `cargo run --release -p shardgram-benches --bin churn -- --seed 7`
//!
//! A client of many sockets picks one at random, again and again: if its peer is not there, it comes, and gets a
//! socket of its own; if it is there, it is closed. So about half of them are connected at any time. A
//! peer comes again at the same address only when its last socket is closed, which takes some 10 ms,
//! so the client goes on with others meanwhile.

use std::collections::HashMap;
use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{Accept, AcceptChoice, Backend, Config, Context, Datagram, Handle, Handler, PeerId, Server};
use shardgram_benches::figures::Quartiles;
use shardgram_benches::{flows, process};

/// Operations between two looks at the counters.
const SLICE: u64 = 500;
/// How long a client that was closed stays away.
const RESTS: Duration = Duration::from_millis(50);
/// How long the server may lag behind.
const PATIENCE: Duration = Duration::from_secs(30);

/// Accepts and closes peers in random order.
#[derive(Parser)]
struct Options {
    /// Accepts in all.
    #[arg(long, default_value_t = 500_000)]
    accepts: u64,
    /// Sockets of the client.
    #[arg(long, default_value_t = 2_000)]
    clients: usize,
    /// IPv6 instead of IPv4.
    #[arg(long)]
    ipv6: bool,
    /// auto, side-group or same-group.
    #[arg(long, default_value = "auto")]
    accept: AcceptChoice,
    /// What the order is drawn from.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail if an accept costs so much more in the last tenth than in the first.
    #[arg(long, default_value_t = 1.3)]
    bar: f64,
    /// A twentieth of it.
    #[arg(long)]
    quick: bool,
}

/// Connects who comes, and closes who comes again.
struct Revolving;

impl Handler for Revolving {
    type Peer = bool;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<bool> {
        Accept::Connect(true)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        if cx.peers.get_mut(from).is_some_and(|fresh| !std::mem::take(fresh)) {
            cx.io.close(from);
        }
    }
}

/// Numbers in an order that a seed tells (PCG, XSH RR 64/32).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        let state = self.0;
        self.0 = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let mixed = (((state >> 18) ^ state) >> 27) as u32;
        mixed.rotate_right((state >> 59) as u32) as usize % limit
    }
}

/// What there was at one moment.
#[derive(Clone, Copy, Debug)]
struct State {
    resident_kib: u64,
    descriptors: usize,
    sockets: usize,
    connected: u64,
}

fn state(server: &Handle<()>, at: SocketAddr) -> State {
    State {
        resident_kib: process::resident_kib(),
        descriptors: process::descriptors(),
        sockets: process::sockets_at(at),
        connected: server.stats().connected(),
    }
}

/// Waits until the server has received what was sent.
fn catch_up(server: &Handle<()>, sent: u64) -> Result<shardgram::Snapshot, Box<dyn Error>> {
    let end = Instant::now() + PATIENCE;
    loop {
        let stats = server.stats();
        if stats.received + stats.kernel_dropped >= sent {
            return Ok(stats);
        }
        if Instant::now() > end {
            return Err(format!("{} of {sent} datagrams came", stats.received).into());
        }
        std::thread::yield_now();
    }
}

/// Waits until no socket is on its way out any more.
fn settle(server: &Handle<()>, at: SocketAddr, listeners: usize) -> State {
    let end = Instant::now() + PATIENCE;
    loop {
        let state = state(server, at);
        // Looking at the kernel's sockets takes a while, in which others may have gone.
        let steady = state.descriptors == process::descriptors();
        if (steady && state.sockets as u64 == state.connected + listeners as u64) || Instant::now() > end {
            return state;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

struct Run {
    /// Nanoseconds of an accept, by slice.
    costs: Vec<f64>,
    early: State,
    late: State,
    seconds: f64,
    kernel_dropped: u64,
}

fn run(options: &Options) -> Result<(Run, bool), Box<dyn Error>> {
    let ip = flows::loopback(options.ipv6);
    let most = options.clients as u32 + 64;
    let config = Config::new().listen((ip, 0).into()).backend(Backend::Uring).accept(options.accept);
    let config = config.max_connected(most).max_connected_per_address(most).idle_timeout(None);
    let server = Server::bind(config)?.spawn(|_| Revolving)?;
    let at = server.local_addrs()[0];
    let clients: Result<Vec<_>, _> = (0..options.clients).map(|_| UdpSocket::bind((ip, 0))).collect();
    let clients = clients?;
    let listeners = process::sockets_at(at);
    let before = state(&server, at);
    let (mut random, mut sent, mut last) = (Random(options.seed), 0, (0, 0));
    let (mut costs, mut early) = (Vec::new(), None);
    let mut resting: HashMap<usize, Instant> = HashMap::new();
    let begin = Instant::now();
    while last.0 < options.accepts {
        for _ in 0..SLICE {
            let client = random.below(clients.len());
            if resting.get(&client).is_some_and(|since| since.elapsed() < RESTS) {
                continue;
            }
            resting.insert(client, Instant::now());
            clients[client].send_to(b"in or out", at)?;
            sent += 1;
        }
        let stats = catch_up(&server, sent)?;
        let accepts = stats.promoted - last.0;
        if accepts >= SLICE / 4 {
            costs.push((stats.promotion_ns - last.1) as f64 / accepts as f64);
            last = (stats.promoted, stats.promotion_ns);
        }
        if early.is_none() && stats.promoted >= options.accepts / 10 {
            early = Some(settle(&server, at, listeners));
        }
    }
    let seconds = begin.elapsed().as_secs_f64();
    let late = settle(&server, at, listeners);
    let early = early.unwrap_or(late);
    // Everybody goes.
    let total = server.drain(Duration::from_secs(30))?.total;
    let left = (process::sockets_at(at), process::descriptors());
    let gone = left.0 == 0 && left.1 <= before.descriptors && total.promoted == total.demoted;
    if !gone {
        eprintln!("left at the end: {} sockets, {} descriptors of {}", left.0, left.1, before.descriptors);
    }
    Ok((Run { costs, early, late, seconds, kernel_dropped: total.kernel_dropped }, gone))
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.accepts /= 20;
    }
    let (run, gone) = run(&options)?;
    let Run { costs, early, late, seconds, kernel_dropped } = run;
    let tenth = (costs.len() / 10).max(1);
    // Not the first: while the population grows, the bind has fewer sockets to walk past.
    let second = (tenth.min(costs.len() - 1))..(2 * tenth).min(costs.len());
    let first = Quartiles::of(&costs[second]);
    let last = Quartiles::of(&costs[costs.len() - tenth..]);
    let ratio = last.median() / first.median();
    println!(
        "{} accepts with seed {}, {seconds:.1} s, {kernel_dropped} dropped",
        options.accepts, options.seed
    );
    println!("ns an accept, second tenth: {first}");
    println!("ns an accept, last tenth:   {last}");
    println!("ratio {ratio:.3} (bar {})", options.bar);
    println!("                     after a tenth    at the end");
    println!("resident KiB         {:13} {:13}", early.resident_kib, late.resident_kib);
    println!("descriptors          {:13} {:13}", early.descriptors, late.descriptors);
    println!("connected peers      {:13} {:13}", early.connected, late.connected);
    println!("sockets in the kernel{:13} {:13}", early.sockets, late.sockets);
    // Descriptors are those of the connected peers and a constant.
    let others = |state: State| state.descriptors as i64 - state.connected as i64;
    let in_kernel = |state: State| state.sockets as i64 - state.connected as i64;
    let grew = late.resident_kib > early.resident_kib + 4 * 1024
        || others(late) > others(early)
        || in_kernel(late) > in_kernel(early);
    let met = ratio <= options.bar && !grew && gone;
    println!("{}", if met { "met" } else { "missed" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
