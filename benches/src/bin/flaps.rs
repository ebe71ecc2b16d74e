//! Addresses, and an interface with its addresses, go and return while more is sent to them than is handled.
//!
//! `unshare -r -n cargo run --release -p shardgram-benches --bin flaps`
//!
//! In a network namespace of its own, since it takes addresses from the host. Two shards listen on a wildcard. After each
//! return an address is to be served within a second, and after all no flow may reach another shard than the one that owns
//! it: `forwarded` counts those that did. The longest turn says what it costs a shard that the host's addresses change, if it
//! has many: `-- --backend mio --host-addresses 10000 --rate 2000`

use std::error::Error;
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{Accept, Backend, Config, Context, Datagram, Handle, Handler, Server};
use shardgram_benches::flows;

const PORT: u16 = 9_000;
/// What goes by itself, and what goes with its interface.
const ON_LOOPBACK: &str = "10.9.9.1";
const ON_INTERFACE: &str = "10.9.8.1";
/// Returns of each: the last one, which the load says, and the last one from which something was handled.
static RETURNED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
static SERVED: [AtomicU64; 2] = [const { AtomicU64::new(0) }; 2];
const PROBE: &[u8] = b"probe";
const PROBES: usize = 1_000;
const IN_TIME: Duration = Duration::from_secs(1);

/// Flaps under load.
#[derive(Parser)]
struct Options {
    /// Flaps of an address.
    #[arg(long, default_value_t = 200)]
    addresses: usize,
    /// Flaps of an interface.
    #[arg(long, default_value_t = 50)]
    interfaces: usize,
    /// The longest time that one is away, in milliseconds.
    #[arg(long, default_value_t = 3_000)]
    gap_ms: u64,
    /// Addresses that this host has beside those, which a server has to list again whenever one comes or goes.
    #[arg(long, default_value_t = 0)]
    host_addresses: u32,
    /// Datagrams a second, at most; else as many as can be sent.
    #[arg(long)]
    rate: Option<u64>,
    /// uring or mio.
    #[arg(long, default_value = "uring")]
    backend: Backend,
    /// Of a run that is to be made again.
    #[arg(long)]
    seed: Option<u64>,
    /// A twentieth of it.
    #[arg(long)]
    quick: bool,
}

/// Random numbers of a seed: SplitMix64.
struct Draws(u64);

impl Draws {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end.max(1)
    }
}

struct Slow;

impl Handler for Slow {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if &first[..] == PROBE {
            return Accept::Reply(PROBE.len());
        }
        if let Ok([which, number @ ..]) = <[u8; 9]>::try_from(&first[..]) {
            SERVED[usize::from(which & 1)].fetch_max(u64::from_ne_bytes(number), Ordering::Relaxed);
        }
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_micros(30) {}
        Accept::Done
    }
}

fn ip(arguments: &str) -> Result<(), Box<dyn Error>> {
    let status = Command::new("ip").args(arguments.split(' ')).status()?;
    if status.success() { Ok(()) } else { Err(format!("ip {arguments}: {status}").into()) }
}

/// Gives the loopback interface so many more addresses.
fn have_addresses(count: u32) -> Result<(), Box<dyn Error>> {
    let mut command = Command::new("ip").args(["-batch", "-"]).stdin(Stdio::piped()).spawn()?;
    let mut input = command.stdin.take().ok_or("no input")?;
    for n in 0..count {
        writeln!(
            input,
            "addr add {}/32 dev lo",
            Ipv4Addr::from_bits(Ipv4Addr::new(10, 64, 0, 0).to_bits() + n)
        )?;
    }
    drop(input);
    let status = command.wait()?;
    if status.success() { Ok(()) } else { Err(format!("ip -batch: {status}").into()) }
}

/// Whether a new flow is answered.
fn answers(to: &str) -> bool {
    let ask = || {
        let socket = UdpSocket::bind((to, 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(100)))?;
        socket.send_to(PROBE, (to, PORT))?;
        socket.recv(&mut [0; 16])
    };
    ask().is_ok()
}

/// How long it takes until something is handled that was sent after a return.
fn until_served(interface: bool) -> Duration {
    let (which, start) = (usize::from(interface), Instant::now());
    let returned = RETURNED[which].fetch_add(1, Ordering::Relaxed) + 1;
    while SERVED[which].load(Ordering::Relaxed) < returned && start.elapsed() < 30 * IN_TIME {
        sleep(Duration::from_millis(1));
    }
    start.elapsed()
}

/// Sends until it is told to end, from as many flows as an address has.
fn load(ended: &AtomicBool, rate: Option<u64>) -> std::io::Result<()> {
    let sockets: Vec<_> = (0..8).map(|_| UdpSocket::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    let (start, mut sent) = (Instant::now(), 0);
    while !ended.load(Ordering::Relaxed) {
        sent += sockets.len() as u64;
        if let Some(rate) = rate {
            flows::pace(start, sent, rate);
        }
        for (at, socket) in sockets.iter().enumerate() {
            let (which, mut load) = (at % 2, [0; 9]);
            load[0] = which as u8;
            load[1..].copy_from_slice(&RETURNED[which].load(Ordering::Relaxed).to_ne_bytes());
            // There is no way to what has gone.
            let _ = socket.send_to(&load, ([ON_LOOPBACK, ON_INTERFACE][which], PORT));
        }
    }
    Ok(())
}

fn come(interface: bool) -> Result<(), Box<dyn Error>> {
    if !interface {
        return ip(&format!("addr add {ON_LOOPBACK}/24 dev lo"));
    }
    ip("link add v0 type veth peer name v1")?;
    ip(&format!("addr add {ON_INTERFACE}/24 dev v0"))?;
    ip("link set v1 up")?;
    ip("link set v0 up")
}

fn go(interface: bool) -> Result<(), Box<dyn Error>> {
    if interface { ip("link del v0") } else { ip(&format!("addr del {ON_LOOPBACK}/24 dev lo")) }
}

/// How many datagrams of new flows reached another shard than their own, of those that came.
fn forwarded(server: &Handle<()>, to: &str) -> (u64, usize) {
    let before = server.stats().forwarded_out;
    let answered = (0..PROBES).filter(|_| answers(to)).count();
    (server.stats().forwarded_out - before, answered)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let options = Options::parse();
    let part = if options.quick { 20 } else { 1 };
    let seed = options.seed.unwrap_or_else(|| RandomState::new().hash_one(0));
    println!("--seed {seed}");
    let mut draws = Draws(seed);
    ip("link set lo up")?;
    have_addresses(options.host_addresses)?;
    let config = Config::new().listen(([0, 0, 0, 0], PORT).into()).shards(2).receive_socket_bytes(1 << 18);
    let server = Server::bind(config.backend(options.backend))?.spawn(|_| Slow)?;
    come(false)?;
    come(true)?;

    let ended = AtomicBool::new(false);
    let mut slowest = Duration::ZERO;
    std::thread::scope(|scope| -> Result<(), Box<dyn Error>> {
        let loading = scope.spawn(|| load(&ended, options.rate));
        let mut flap = || {
            for (interface, flaps) in [(false, options.addresses), (true, options.interfaces)] {
                for _ in 0..flaps.div_ceil(part) {
                    go(interface)?;
                    sleep(Duration::from_millis(1 + draws.below(options.gap_ms)));
                    come(interface)?;
                    slowest = slowest.max(until_served(interface));
                }
            }
            Ok::<_, Box<dyn Error>>(())
        };
        let flapped = flap();
        ended.store(true, Ordering::Relaxed);
        loading.join().map_err(|_| "the load panicked")??;
        flapped
    })?;
    // Those that were bound a moment ago may still be told to a shard.
    sleep(IN_TIME);
    let ends = [ON_LOOPBACK, ON_INTERFACE].map(|at| forwarded(&server, at));
    for ((forwarded, answered), at) in ends.iter().zip([ON_LOOPBACK, ON_INTERFACE]) {
        println!("{at}: {answered} of {PROBES} answered, {forwarded} forwarded");
    }
    println!("served {} ms after a return at the latest", slowest.as_millis());
    let total = server.drain(Duration::from_secs(10))?.total;
    println!("{total}");
    println!("longest turn {:.1} ms", total.longest_turn as f64 / 1e6);
    let well = ends.iter().all(|end| *end == (0, PROBES)) && slowest <= IN_TIME && total.unaccounted() == 0;
    Ok(if well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
