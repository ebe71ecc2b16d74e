//! What connected peers cost others: CPU of a datagram with few and with many of them.
//!
//! `cargo run --release -p shardgram-benches --bin connected_cost -- --rounds 9`
//!
//! Servers with few and with many connected peers stand side by side in this process, one shard each on the same
//! core, and the client, on another core, drives one after the other, round by round, so that a processor that
//! changes its speed changes both alike. A step of the client sends 64 datagrams and then waits for as many
//! answers. Three questions:
//!
//! - **idle**: ten connected peers send, beside 0 and beside 990 that are silent.
//! - **spread**: all connected peers send in turn, of 10 and of 1,000.
//! - **strangers**: sources that the server answers without state send, beside 0 and 4,000 connected peers.
//!
//! On loopback the kernel looks a socket up in the context of who sends, so the client's CPU counts too: "server" is
//! the time of the shard's thread, "both" adds that of the client's.

use std::error::Error;
use std::net::{SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{Accept, AcceptChoice, Backend, Config, Context, Datagram, Handle, Handler, PeerId, Server};
use shardgram_benches::figures::Quartiles;
use shardgram_benches::{flows, process};

/// Datagrams of a step.
const STEP: usize = 64;
const STRANGER: u8 = b's';
/// Sources of strangers.
const STRANGERS: usize = 64;
/// Bars of the ratios: known peers, and strangers.
const KNOWN_BAR: f64 = 1.15;
const STRANGER_BAR: f64 = 1.1;

/// Compares the cost of a datagram with few and many connected peers.
#[derive(Parser)]
struct Options {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Datagrams of a round.
    #[arg(long, default_value_t = 40_000)]
    datagrams: usize,
    /// The servers' core; the client's is 0.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// auto, side-group or same-group.
    #[arg(long, default_value = "auto")]
    accept: AcceptChoice,
    /// Three rounds of a tenth.
    #[arg(long)]
    quick: bool,
}

/// Answers everybody, connects those who are not strangers.
struct Answers;

impl Handler for Answers {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if first[0] == STRANGER { Accept::Reply(first.len()) } else { Accept::Connect(()) }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len); // a refusal would be missed by the client
    }
}

/// A server and the sockets of those that are connected to it.
struct Side {
    server: Handle<()>,
    at: SocketAddr,
    connected: Vec<UdpSocket>,
}

fn socket(at: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = UdpSocket::bind((at.ip(), 0))?;
    socket.set_read_timeout(Some(Duration::from_secs(5)))?;
    socket.connect(at)?;
    Ok(socket)
}

impl Side {
    fn start(options: &Options, ipv6: bool, peers: usize) -> Result<Self, Box<dyn Error>> {
        let most = peers as u32 + 1;
        let config = Config::new().listen((flows::loopback(ipv6), 0).into()).cores([options.core]);
        let config = config.backend(Backend::Uring).accept(options.accept).idle_timeout(None);
        let config = config.max_connected(most).max_connected_per_address(most);
        let server = Server::bind(config)?.spawn(|_| Answers)?;
        let at = server.local_addrs()[0];
        let mut side = Self { server, at, connected: Vec::new() };
        for _ in 0..peers {
            side.connected.push(socket(at)?);
        }
        // Twice: the second time by the peer's own socket.
        for _ in 0..2 {
            let sockets: Vec<_> = side.connected.iter().collect();
            sockets.chunks(STEP).try_for_each(|chunk| step(b'c', chunk))?;
            let end = Instant::now() + Duration::from_secs(10);
            while side.server.stats().connected() < peers as u64 {
                if Instant::now() > end {
                    return Err(
                        format!("{} of {peers} are connected", side.server.stats().connected()).into()
                    );
                }
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(side)
    }

    /// Nanoseconds of CPU for a datagram and its answer: of the server, and of both ends.
    fn round(&self, kind: u8, flows: &[&UdpSocket], datagrams: usize) -> std::io::Result<Cost> {
        let (server, client) = (process::shards_cpu_ns(), process::my_cpu_ns());
        let mut done = 0;
        let mut turn = flows.iter().copied().cycle();
        while done < datagrams {
            let chosen: Vec<_> = turn.by_ref().take(STEP).collect();
            step(kind, &chosen)?;
            done += STEP;
        }
        let (server, client) = (process::shards_cpu_ns() - server, process::my_cpu_ns() - client);
        let each = |ns: u64| ns as f64 / done as f64;
        Ok(Cost { server: each(server), both: each(server + client) })
    }
}

/// Sends one datagram by each socket, which may be in the list several times, then takes the answers.
fn step(kind: u8, sockets: &[&UdpSocket]) -> std::io::Result<()> {
    for socket in sockets {
        socket.send(&[kind; 64])?;
    }
    sockets.iter().try_for_each(|socket| socket.recv(&mut [0; 128]).map(drop))
}

#[derive(Clone, Copy)]
struct Cost {
    server: f64,
    both: f64,
}

/// Runs something on a thread that is pinned to the client's core. The caller stays free, since servers that
/// are started from a pinned thread may have no other core.
fn on_core_0<R: Send>(what: impl FnOnce() -> R + Send) -> R {
    std::thread::scope(|scope| {
        let pinned = scope.spawn(|| {
            core_affinity::set_for_current(core_affinity::CoreId { id: 0 });
            what()
        });
        pinned.join().expect("it does not panic")
    })
}

/// Rounds with few and with many, in turn.
fn compare(
    options: &Options,
    what: &str,
    bar: f64,
    few: (&Side, &[&UdpSocket]),
    many: (&Side, &[&UdpSocket]),
    kind: u8,
) -> std::io::Result<bool> {
    let (mut costs, mut server, mut both) = ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
    for round in 0..options.rounds {
        let run =
            |(side, flows): (&Side, &[&UdpSocket])| on_core_0(|| side.round(kind, flows, options.datagrams));
        let (a, b) = if round % 2 == 0 {
            let a = run(few)?;
            (a, run(many)?)
        } else {
            let b = run(many)?;
            (run(few)?, b)
        };
        costs[0].push(a.server);
        costs[1].push(b.server);
        server.push(b.server / a.server);
        both.push(b.both / a.both);
    }
    let [few, many] = costs.map(|costs| Quartiles::of(&costs).median());
    let (server, both) = (Quartiles::of(&server), Quartiles::of(&both));
    let met = server.median() <= bar && both.median() <= bar;
    println!(
        "{what:28} {few:6.0} ns {many:6.0} ns  server {server:.3}\n{:48}  both   {both:.3}  bar {bar}: {}",
        "",
        if met { "met" } else { "missed" }
    );
    Ok(met)
}

fn family(options: &Options, ipv6: bool) -> Result<bool, Box<dyn Error>> {
    let name = if ipv6 { "IPv6" } else { "IPv4" };
    let all = |side: &Side| side.connected.iter().map(UdpSocket::try_clone).collect::<Result<Vec<_>, _>>();
    let mut met = true;
    {
        let (few, many) = (Side::start(options, ipv6, 10)?, Side::start(options, ipv6, 1_000)?);
        let (of_few, of_many) = (all(&few)?, all(&many)?);
        let (of_few, of_many): (Vec<_>, Vec<_>) = (of_few.iter().collect(), of_many.iter().collect());
        let what = format!("{name} idle: 10 of 10, 1000");
        met &= compare(options, &what, KNOWN_BAR, (&few, &of_few), (&many, &of_many[..10]), b'c')?;
        let what = format!("{name} spread: 10, 1000");
        met &= compare(options, &what, KNOWN_BAR, (&few, &of_few), (&many, &of_many), b'c')?;
    }
    let (none, many) = (Side::start(options, ipv6, 0)?, Side::start(options, ipv6, 4_000)?);
    let strangers = |side: &Side| (0..STRANGERS).map(|_| socket(side.at)).collect::<Result<Vec<_>, _>>();
    let (of_none, of_many) = (strangers(&none)?, strangers(&many)?);
    let (of_none, of_many): (Vec<_>, Vec<_>) = (of_none.iter().collect(), of_many.iter().collect());
    let what = format!("{name} strangers: 0, 4000");
    met &= compare(options, &what, STRANGER_BAR, (&none, &of_none), (&many, &of_many), STRANGER)?;
    Ok(met)
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.rounds = 3;
        options.datagrams /= 10;
    }
    println!("CPU of a datagram and its answer, medians of {} rounds; ratios round by round", options.rounds);
    let mut met = true;
    for ipv6 in [false, true] {
        met &= family(&options, ipv6)?;
    }
    println!("{}", if met { "met" } else { "missed" });
    Ok(if met { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
