//! How soon a shard goes on receiving once its receive buffers, which had run out, are back.
//!
//! `cargo run --release -p shardgram-benches --bin enobufs`
//!
//! A shard of eight buffers answers every datagram in place. In each cycle a callback stalls while a burst of
//! many times eight datagrams arrives. When it goes on the buffers run out again and again: a turn's replies lie in
//! all of them, and are back when the next turn has sent them. What is timed, by the wall clock, is the time from
//! one callback to the next: the longest in a cycle is one from the last datagram in the old buffers to the first in
//! those that came back. Where the scheduler gave the core to somebody else in between, that time is listed apart
//! and not judged. The round trip of the first datagram after the burst is for information.
#![allow(unsafe_code, reason = "how often a thread was interrupted is a system call")]

use std::net::UdpSocket;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use shardgram::{Accept, Backend, Config, Context, Datagram, Handler, PeerId, Server};

const CYCLES: usize = 1_000;
const BUFFERS: u16 = 8;
const BURST: u8 = 64;
const BAR: Duration = Duration::from_millis(1);
const STALL: &[u8] = b"stall";

struct Stalls {
    /// Says that it stalls, and is told to go on.
    stalled: Sender<()>,
    go_on: Arc<Mutex<Receiver<()>>>,
    /// Told the longest times between two callbacks of a burst.
    longest: Sender<Longest>,
    last: Option<(Instant, i64)>,
    so_far: Longest,
}

/// The longest times between two callbacks: with the core to itself, and with others on it in between.
#[derive(Clone, Copy, Default)]
struct Longest {
    own: Duration,
    shared: Duration,
}

/// How often this thread was interrupted for others (getrusage(2), `ru_nivcsw`).
fn interruptions() -> i64 {
    // SAFETY: `rusage` is made of integers, for which all-zero bytes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel writes one rusage to a live one.
    unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut usage) };
    usage.ru_nivcsw
}

impl Stalls {
    /// One more callback of a burst.
    fn step(&mut self) {
        let (now, interrupted) = (Instant::now(), interruptions());
        if let Some((last, before)) = self.last.replace((now, interrupted)) {
            let slot = if before == interrupted { &mut self.so_far.own } else { &mut self.so_far.shared };
            *slot = (*slot).max(now - last);
        }
    }
}

impl Handler for Stalls {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        if &datagram[..] == STALL {
            let _ = self.stalled.send(());
            let _ = self.go_on.lock().map(|go_on| go_on.recv());
            (self.so_far, self.last) = (Longest::default(), None);
            self.step();
        } else if let [n] = datagram[..] {
            self.step();
            if n == BURST - 1 {
                let _ = self.longest.send(self.so_far);
            }
        }
        let _ = cx.io.reply(datagram, len);
    }
}

fn quantiles(name: &str, times: &mut [Duration]) -> Duration {
    if times.is_empty() {
        println!("{name}: none");
        return Duration::ZERO;
    }
    times.sort();
    let at = |share: usize| times[(times.len() - 1) * share / 1000];
    let above = times.iter().filter(|time| **time > BAR).count();
    println!(
        "{name}: median {:?}, 99 % {:?}, longest {:?}; {above} above {BAR:?}",
        at(500),
        at(990),
        at(1000)
    );
    at(1000)
}

fn run() -> Result<bool, Box<dyn std::error::Error>> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let config = Config::new().listen(([127, 0, 0, 1], 0).into()).backend(Backend::Uring);
    let mut config = config.receive_buffers(BUFFERS);
    if let [_, .., server] = cores[..] {
        config = config.cores([server.id]);
    }
    let (stalled, is_stalled) = channel();
    let (open, go_on) = channel();
    let (longest, longest_of_burst) = channel();
    let go_on = Arc::new(Mutex::new(go_on));
    let server = Server::bind(config)?.spawn(move |_| Stalls {
        stalled: stalled.clone(),
        go_on: Arc::clone(&go_on),
        longest: longest.clone(),
        last: None,
        so_far: Longest::default(),
    })?;
    // Only now, since a thread that is pinned finds no other core to give the shard.
    cores.first().map(|core| core_affinity::set_for_current(*core));
    let client = UdpSocket::bind("127.0.0.1:0")?;
    client.connect(server.local_addrs()[0])?;
    client.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut buffer = [0; 16];
    let (mut gaps, mut trips) = (Vec::with_capacity(CYCLES), Vec::with_capacity(CYCLES));
    for _ in 0..CYCLES {
        client.send(STALL)?;
        is_stalled.recv()?;
        for n in 0..BURST {
            client.send(&[n])?;
        }
        open.send(())?;
        for _ in 0..=BURST {
            client.recv(&mut buffer)?;
        }
        gaps.push(longest_of_burst.recv()?);
        let sent = Instant::now();
        client.send(b"after the burst")?;
        client.recv(&mut buffer)?;
        trips.push(sent.elapsed());
    }
    let stats = server.drain(Duration::from_secs(5))?.total;
    println!(
        "{CYCLES} cycles of {BURST} datagrams into {BUFFERS} buffers: they ran out {} times",
        stats.buffers_exhausted
    );
    let mut own: Vec<_> = gaps.iter().map(|gap: &Longest| gap.own).collect();
    let mut shared: Vec<_> = gaps.iter().map(|gap| gap.shared).filter(|gap| !gap.is_zero()).collect();
    let longest = quantiles("from one callback to the next", &mut own);
    quantiles("the same, interrupted by others", &mut shared);
    quantiles("round trip after the burst", &mut trips);
    let lost = (CYCLES as u64 * (u64::from(BURST) + 2)) - stats.sent();
    Ok(longest <= BAR && lost == 0 && stats.buffers_exhausted >= CYCLES as u64)
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => {
            println!("met");
            ExitCode::SUCCESS
        }
        Ok(false) => {
            println!("missed");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("enobufs: {error}");
            ExitCode::from(2)
        }
    }
}
