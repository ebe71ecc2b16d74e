//! Peers are connected one after the other while other flows send as fast as they can.
//!
//! `cargo run --release -p shardgram-benches --bin accept_storm`
//!
//! At a rate, where those get sockets who send most: `-- --tier adaptive --per-second 5000 --load 100000 --peers 300000`
//!
//! Two shards connect every new peer, and close the oldest when there are as many as they keep. A peer sends four
//! datagrams at once, four when 16 more have come, and four when 64 have, so that some come by the listener and
//! some by the peer's own socket. 64 flows, of IPv4 half of them from the peers' own address, flood meanwhile. Each
//! datagram says which flow it is of and its number in it: none may be lost beyond what the kernel says it
//! dropped, none delivered to another's peer, none after a later one of its flow.

use std::collections::VecDeque;
use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{Accept, AcceptChoice, Backend, Config, Context, Datagram, Handle, Handler, PeerId};
use shardgram::{Server, Snapshot, TierPolicy};
use shardgram_benches::flows::{self, Faults, Flood, Flow};

const NEW: u8 = b'n';
const OTHER: u8 = b'o';
const OTHERS: u32 = 64;
const BURST: u64 = 4;
/// When a peer sends again: after so many others have come.
const AGAIN: [usize; 2] = [16, 64];
/// How far the client is ahead of the server, and how long it waits for it then: what the kernel drops never
/// comes.
const AHEAD: u64 = 256;
const PATIENCE: Duration = Duration::from_millis(2);
/// How long anything may take that is expected to happen.
const LONGEST: Duration = Duration::from_secs(300);

/// Connects new peers under full load.
#[derive(Parser)]
struct Options {
    /// Peers that come, of each family, and that are connected where every new one is.
    #[arg(long, default_value_t = 50_000)]
    peers: u64,
    /// Peers that stay connected.
    #[arg(long, default_value_t = 1_000)]
    connected: u32,
    /// auto, side-group or same-group.
    #[arg(long, default_value = "auto")]
    accept: AcceptChoice,
    /// Who gets a socket: every new peer (listener), or who sends most (adaptive).
    #[arg(long, default_value = "listener")]
    tier: TierPolicy,
    /// New peers a second; else as fast as the server takes them.
    #[arg(long)]
    per_second: Option<u64>,
    /// Datagrams a second of the other flows; else as many as they can.
    #[arg(long)]
    load: Option<u64>,
    /// A twentieth of it.
    #[arg(long)]
    quick: bool,
}

#[derive(Default)]
struct Seen {
    faults: Faults,
    /// New peers that came.
    met: AtomicU64,
}

struct Storm {
    seen: Arc<Seen>,
    connects: bool,
    keep: usize,
    connected: VecDeque<PeerId>,
}

impl Handler for Storm {
    type Peer = Flow;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Flow> {
        match flows::parse(first) {
            Some((NEW, flow, _)) if self.connects => Accept::Connect(Flow::new(flow)),
            Some((NEW | OTHER, flow, _)) => Accept::Peer(Flow::new(flow)),
            _ => Accept::Drop("nobody here writes that"),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (Some(peer), Some((kind, flow, number))) = (cx.peers.get_mut(from), flows::parse(&datagram))
        else {
            return;
        };
        // Its first datagram may be one that the kernel dropped. Whoever came has to go again: a peer that stays would
        // be taken for another one when its port is used again.
        let is_new = peer.is_new();
        peer.came(flow, number, &self.seen.faults);
        if kind == NEW && is_new {
            self.seen.met.fetch_add(1, Ordering::Relaxed);
            self.connected.push_back(from);
            if self.connected.len() > self.keep
                && let Some(oldest) = self.connected.pop_front()
            {
                cx.io.close(oldest);
            }
        }
    }
}

/// A peer of the client: its socket, and how many datagrams it has sent.
struct Client {
    flow: u32,
    socket: UdpSocket,
    sent: u64,
}

impl Client {
    fn burst(&mut self, to: SocketAddr) -> std::io::Result<()> {
        for _ in 0..BURST {
            self.sent += 1;
            self.socket.send_to(&flows::bytes(NEW, self.flow, self.sent), to)?;
        }
        Ok(())
    }
}

/// Has new peers come until enough are connected; how many datagrams they sent.
fn storm(options: &Options, server: &Handle<()>, seen: &Seen, to: SocketAddr) -> Result<u64, Box<dyn Error>> {
    let end = Instant::now() + LONGEST;
    // Newest first. Their ports are used again only when the server has long closed their peers.
    let mut clients: VecDeque<Client> = VecDeque::new();
    let (mut sent, mut created, start) = (0, 0_u32, Instant::now());
    let goes_on = |created: u32| match options.tier {
        TierPolicy::Adaptive => u64::from(created) < options.peers,
        _ => !created.is_multiple_of(64) || server.stats().promoted < options.peers,
    };
    while goes_on(created) {
        let socket = UdpSocket::bind((to.ip(), 0))?;
        clients.push_front(Client { flow: OTHERS + created, socket, sent: 0 });
        created += 1;
        for at in std::iter::once(0).chain(AGAIN) {
            if let Some(client) = clients.get_mut(at) {
                client.burst(to)?;
                sent += BURST;
            }
        }
        clients.truncate(4 * options.connected as usize + AGAIN[1]);
        let met = || seen.met.load(Ordering::Relaxed);
        let (before, waiting) = (met(), Instant::now());
        if let Some(per_second) = options.per_second {
            flows::pace(start, created.into(), per_second);
        }
        while u64::from(created) > met() + AHEAD && met() < before + 16 && waiting.elapsed() < PATIENCE {
            std::thread::yield_now();
        }
        if Instant::now() > end {
            return Err("it takes too long".into());
        }
    }
    Ok(sent)
}

/// What came of it.
struct Outcome {
    stats: Snapshot,
    sent: u64,
    seen: Arc<Seen>,
    took: Duration,
}

fn family(options: &Options, ipv6: bool) -> Result<Outcome, Box<dyn Error>> {
    let ip = flows::loopback(ipv6);
    let config = Config::new().listen((ip, 0).into()).shards(2).backend(Backend::Uring);
    let config = config.accept(options.accept).max_connected(2 * options.connected).tier(options.tier);
    let seen = Arc::new(Seen::default());
    let (of_handlers, keep) = (Arc::clone(&seen), options.connected as usize / 2);
    let connects = options.tier != TierPolicy::Adaptive;
    let server = Server::bind(config)?.spawn(move |_| Storm {
        seen: Arc::clone(&of_handlers),
        connects,
        keep,
        connected: VecDeque::new(),
    })?;
    let to = server.local_addrs()[0];
    let others: Result<Vec<_>, std::io::Error> = (0..OTHERS)
        .map(|flow| {
            let elsewhere = !ipv6 && flow % 2 == 1;
            let ip = if elsewhere { Ipv4Addr::new(127, 0, 0, 2).into() } else { ip };
            Ok((flow, UdpSocket::bind((ip, 0))?))
        })
        .collect();
    let flood = Flood::start(1, OTHER, others?, to, options.load);
    let begin = Instant::now();
    let sent = storm(options, &server, &seen, to);
    let took = begin.elapsed();
    let sent = flood.stop()? + sent?;
    let end = Instant::now() + Duration::from_secs(10);
    while Instant::now() < end {
        let stats = server.stats();
        if stats.received + stats.kernel_dropped >= sent {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let stats = server.drain(Duration::from_secs(10))?.total;
    Ok(Outcome { stats, sent, seen, took })
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.peers /= 20;
    }
    println!(
        "family  accepts      sent  received  kernel drops  lost  misdelivered  reordered  foreign  \
         timed out  us/accept  seconds"
    );
    let mut faults = 0;
    for ipv6 in [false, true] {
        let Outcome { stats, sent, seen, took } = family(&options, ipv6)?;
        let misdelivered = seen.faults.misdelivered.load(Ordering::Relaxed);
        let reordered = seen.faults.reordered.load(Ordering::Relaxed);
        let lost = sent as i64 - (stats.received + stats.kernel_dropped) as i64;
        println!(
            "{:6} {:8} {sent:9} {:9} {:13} {lost:5} {misdelivered:13} {reordered:10} {:8} {:10} {:10.1} {:8.1}",
            if ipv6 { "IPv6" } else { "IPv4" },
            stats.promoted,
            stats.received,
            stats.kernel_dropped,
            stats.redispatched,
            stats.handovers_timed_out,
            stats.promotion_ns as f64 / 1e3 / stats.promoted.max(1) as f64,
            took.as_secs_f64(),
        );
        let other = stats.unaccounted().unsigned_abs() + stats.promotions_failed + stats.refused.len() as u64;
        faults += lost.unsigned_abs() + misdelivered + reordered + other;
    }
    println!("{}", if faults == 0 { "met: nothing lost, misdelivered or reordered" } else { "missed" });
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
