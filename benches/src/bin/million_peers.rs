//! Fills the peer table with a million peers and looks at the longest turn and at the memory.
//!
//! `cargo run --release -p shardgram-benches --bin million_peers`
//!
//! The shard loop is the real one; the driver hands it 64 datagrams a turn, each from a new source, so
//! that nothing but the loop and the table is timed. A turn is timed by the thread's CPU clock, which
//! leaves out what other processes take, and by the wall clock.
#![allow(unsafe_code, reason = "the thread's CPU clock is a system call")]

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::control::Control;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{Arrival, Capabilities, Driver, Sink, Turned, Wait};
use shardgram_core::mailbox::mailboxes;
use shardgram_core::outbox::{Outbox, TrainLimits};
use shardgram_core::shard_loop::{Secrets, Setup, ShardLoop, Turn};
use shardgram_core::{Accept, Config, Context, Datagram, Endpoint, Handler, Meta, ShardInfo, Stats};

const PEERS: u32 = 1_000_000;
const BUDGET: u32 = 64;
const LONGEST_TURN: Duration = Duration::from_millis(2);
const MOST_MEMORY_KIB: u64 = 300 * 1024;

/// Hands over datagrams from ever new sources.
struct Strangers {
    next: u32,
    payload: [u8; 64],
}

impl Driver for Strangers {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(TrainLimits::SINGLE)
    }

    fn now(&self) -> Instant {
        Instant::now()
    }

    fn open(&mut self, _: SocketId, _: &Endpoint) -> Result<SocketAddr, i32> {
        Err(libc::EINVAL)
    }

    fn close(&mut self, _: SocketId) {}

    fn wake(&mut self, _: u16) {}

    fn turn(&mut self, _: &Outbox, _: &mut Backlog, _: Wait) -> std::io::Result<Turned> {
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, _: usize, sink: &mut impl Sink) -> usize {
        for _ in 0..budget {
            let ip = std::net::Ipv4Addr::from(0x0a00_0000 + self.next / 50_000);
            let remote = (ip, 1024 + (self.next % 50_000) as u16).into();
            let (socket, bytes) = (SocketId::listener(0), &mut self.payload[..]);
            let meta = Meta::default();
            sink.datagram(Arrival {
                socket,
                remote,
                local: None,
                meta,
                segment: 0,
                bytes,
                buffer: 0,
                start: 0,
            });
            self.next += 1;
        }
        budget
    }

    fn has_more(&self) -> bool {
        true
    }

    fn kernel_dropped(&mut self) -> u64 {
        0
    }
}

struct Guestbook;

impl Handler for Guestbook {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }
}

fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: writes to a local variable.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

fn main() -> ExitCode {
    let config = Config::new().max_peers(PEERS).turn_budget(BUDGET);
    let (postboxes, mut mailboxes) = mailboxes(1, 16);
    let setup = Setup {
        info: ShardInfo::new(0, 1),
        listeners: Arc::new(["10.255.0.1:9".parse().expect("an address")]),
        mailbox: mailboxes.remove(0),
        postboxes,
        control: Arc::new(Control::default()),
        stats: Arc::new(Stats::default()),
        secrets: Secrets { table: (1, 2), cookies: (3, 4) },
        resolver: None,
        own: Arc::default(),
        start: Instant::now(),
    };
    let stats = Arc::clone(&setup.stats);
    let before = resident_kib();
    let driver = Strangers { next: 0, payload: [0; 64] };
    let Ok(mut shard) = ShardLoop::new(driver, setup, &config, |_| Guestbook) else {
        eprintln!("the shard does not start");
        return ExitCode::FAILURE;
    };
    let mut turns = Vec::with_capacity((PEERS / BUDGET) as usize);
    for _ in 0..PEERS / BUDGET {
        let (cpu, wall) = (cpu_time(), Instant::now());
        if matches!(shard.turn(), Turn::Ended(_)) {
            eprintln!("the shard ended");
            return ExitCode::FAILURE;
        }
        turns.push((cpu_time() - cpu, wall.elapsed()));
    }
    let memory = resident_kib() - before;
    let opened = stats.snapshot().peers();
    let longest = turns.iter().map(|t| t.0).max().unwrap_or_default();
    let longest_wall = turns.iter().map(|t| t.1).max().unwrap_or_default();
    let mean = turns.iter().map(|t| t.0).sum::<Duration>() / turns.len() as u32 / BUDGET;
    println!("{opened} peers, {BUDGET} a turn: {mean:?} of CPU each");
    println!("longest turn {longest:?} of CPU, {longest_wall:?} by the wall clock (bar {LONGEST_TURN:?})");
    println!(
        "{} MiB resident, {} bytes a peer (bar {} MiB)",
        memory >> 10,
        memory * 1024 / opened,
        MOST_MEMORY_KIB >> 10
    );
    let met = opened == u64::from(PEERS) && longest <= LONGEST_TURN && memory <= MOST_MEMORY_KIB;
    println!("{}", if met { "met" } else { "missed" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
