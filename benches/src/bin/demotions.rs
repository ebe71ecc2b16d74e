//! Peers lose their sockets again and again while they send as fast as they can.
//!
//! `cargo run --release -p shardgram-benches --bin demotions`
//!
//! One shard promotes its peers, and demotes each as soon as something has come by its own socket. Each
//! datagram says its number in its flow: none may be lost beyond what the kernel says it dropped.

use std::error::Error;
use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Parser;
use shardgram::{Accept, AcceptChoice, Backend, Config, Context, Datagram, Drain, Handler, PeerId};
use shardgram::{Server, Snapshot, Tier};
use shardgram_benches::flows::{self, Faults, Flood, Flow};

/// How long anything may take that is expected to happen.
const LONGEST: Duration = Duration::from_secs(300);

/// Demotes peers under their own flood.
#[derive(Parser)]
struct Options {
    /// Demotions, of each family.
    #[arg(long, default_value_t = 10_000)]
    demotions: u64,
    /// Peers that flood, from one thread.
    #[arg(long, default_value_t = 4)]
    flows: u32,
    /// The server's core; the client's is 0.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// auto, side-group or same-group.
    #[arg(long, default_value = "auto")]
    accept: AcceptChoice,
    /// Let nobody move, for so many seconds: what is out of order then was so before it came.
    #[arg(long, value_name = "SECONDS")]
    control: Option<u64>,
    /// A twentieth of it.
    #[arg(long)]
    quick: bool,
}

struct Restless {
    faults: Arc<Faults>,
    peers: Vec<PeerId>,
    calm: bool,
}

impl Handler for Restless {
    /// Whether something came by the peer's own socket since it was promoted.
    type Peer = (Flow, bool);
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Self::Peer> {
        match flows::parse(first) {
            Some((_, flow, _)) => Accept::Peer((Flow::new(flow), false)),
            None => Accept::Drop("nobody here writes that"),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (Some((peer, used)), Some((_, flow, number))) = (cx.peers.get_mut(from), flows::parse(&datagram))
        else {
            return;
        };
        peer.came(flow, number, &self.faults);
        *used |= cx.io.tier(from) == Some(Tier::Connected);
        if !self.peers.contains(&from) {
            self.peers.push(from);
        }
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        for &peer in self.peers.iter().filter(|_| !self.calm) {
            let Some((_, used)) = cx.peers.get_mut(peer) else { continue };
            if cx.io.tier(peer) == Some(Tier::Listener) {
                cx.io.promote(peer);
            } else if std::mem::take(used) {
                cx.io.demote(peer);
            }
        }
    }

    fn on_drain(&mut self, _: &mut Context<'_, Self>, _: Instant) -> Drain {
        self.calm = true;
        Drain::WhenIdle
    }
}

/// What came of it.
struct Outcome {
    stats: Snapshot,
    sent: u64,
    seen: Arc<Faults>,
    took: Duration,
}

fn family(options: &Options, ipv6: bool) -> Result<Outcome, Box<dyn Error>> {
    let ip = flows::loopback(ipv6);
    let config = Config::new().listen((ip, 0).into()).backend(Backend::Uring).accept(options.accept);
    let config = config.cores([options.core]);
    let faults = Arc::new(Faults::default());
    let (of_handlers, calm) = (Arc::clone(&faults), options.control.is_some());
    let make = move |_| Restless { faults: Arc::clone(&of_handlers), peers: Vec::new(), calm };
    let server = Server::bind(config)?.spawn(make)?;
    let to = server.local_addrs()[0];
    let sockets: Result<Vec<_>, std::io::Error> =
        (0..options.flows).map(|flow| Ok((flow, UdpSocket::bind((ip, 0))?))).collect();
    let flood = Flood::start(0, b'f', sockets?, to, None);
    let begin = Instant::now();
    let enough = || match options.control {
        Some(seconds) => begin.elapsed() > Duration::from_secs(seconds),
        None => server.stats().demoted >= options.demotions,
    };
    while !enough() {
        std::thread::sleep(Duration::from_millis(5));
        if begin.elapsed() > LONGEST {
            return Err("it takes too long".into());
        }
    }
    let took = begin.elapsed();
    let sent = flood.stop()?;
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let stats = server.stats();
        if stats.received + stats.kernel_dropped >= sent || Instant::now() > end {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    let stats = server.drain(Duration::from_secs(10))?.total;
    Ok(Outcome { stats, sent, seen: faults, took })
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    let mut options = Options::parse();
    if options.quick {
        options.demotions /= 20;
    }
    println!(
        "family  demotions      sent  received  kernel drops  lost  misdelivered  reordered  timed out  \
         seconds"
    );
    let mut faults = 0;
    for ipv6 in [false, true] {
        let Outcome { stats, sent, seen, took } = family(&options, ipv6)?;
        let misdelivered = seen.misdelivered.load(Ordering::Relaxed);
        let lost = sent as i64 - (stats.received + stats.kernel_dropped) as i64;
        println!(
            "{:6} {:10} {sent:9} {:9} {:13} {lost:5} {misdelivered:13} {:10} {:10} {:8.1}",
            if ipv6 { "IPv6" } else { "IPv4" },
            stats.demoted,
            stats.received,
            stats.kernel_dropped,
            seen.reordered.load(Ordering::Relaxed),
            stats.handovers_timed_out,
            took.as_secs_f64(),
        );
        let other = stats.unaccounted().unsigned_abs() + stats.dropped_closed;
        faults += lost.unsigned_abs() + misdelivered + other;
    }
    println!("{}", if faults == 0 { "met: nothing lost" } else { "missed" });
    Ok(if faults == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
