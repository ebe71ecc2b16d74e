//! What the server does, in a process of its own.

use std::io::{BufRead, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use shardgram::{Accept, Backend, Config, Context, Datagram, Handler, Path, PeerId, Server};

use super::{namespace, wire};
use crate::pps::system;
use crate::process;

/// Whom a handler takes for a peer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub enum Policy {
    /// Everybody, and it never validates anyone.
    Everybody,
    /// Whoever brings back a cookie.
    Cookies,
    /// Everybody, and it asks for a proof afterwards; whoever brings back a cookie while the table is crowded.
    Pressure,
    /// Everybody, and it takes every address for proven.
    Trusting,
}

impl Policy {
    /// Whether clients have to prove their address.
    #[must_use]
    pub fn validates(self) -> bool {
        matches!(self, Self::Cookies | Self::Pressure)
    }
}

/// What a server is to be.
#[derive(Args, Clone, Debug)]
pub struct Serving {
    /// uring or mio.
    #[arg(long, default_value = "uring")]
    pub backend: Backend,
    /// The server's core.
    #[arg(long, default_value_t = 1)]
    pub core: usize,
    /// Whom it takes for a peer.
    #[arg(long, value_enum, default_value = "everybody")]
    pub policy: Policy,
    /// Whether peers get sockets of their own.
    #[arg(long)]
    pub connect: bool,
    /// Microseconds of work for a question.
    #[arg(long, default_value_t = 0)]
    pub work_us: u64,
    /// Peers it has room for; the default configuration's unless told.
    #[arg(long)]
    pub max_peers: Option<u32>,
    /// Milliseconds until a silent peer is closed; the default configuration's unless told.
    #[arg(long)]
    pub idle_ms: Option<u64>,
    /// Time every turn by the thread's CPU clock.
    #[arg(long)]
    pub time_turns: bool,
}

impl Serving {
    /// The arguments that say the same.
    #[must_use]
    pub fn arguments(&self) -> Vec<String> {
        let policy = self.policy.to_possible_value().map_or_else(String::new, |v| v.get_name().to_owned());
        let mut all = vec![format!("--backend={}", self.backend), format!("--core={}", self.core)];
        all.extend([format!("--policy={policy}"), format!("--work-us={}", self.work_us)]);
        all.extend(self.max_peers.map(|peers| format!("--max-peers={peers}")));
        all.extend(self.idle_ms.map(|ms| format!("--idle-ms={ms}")));
        all.extend(self.connect.then(|| "--connect".to_owned()));
        all.extend(self.time_turns.then(|| "--time-turns".to_owned()));
        all
    }

    /// The configuration of it: the default one but for what was told.
    #[must_use]
    pub fn config(&self) -> Config {
        let config = Config::new().listen((namespace::SERVER, 0).into()).backend(self.backend);
        let config = if system::pin(self.core) { config.cores([self.core]) } else { config };
        let config = self.max_peers.map_or(config.clone(), |peers| config.max_peers(peers));
        self.idle_ms.map_or(config.clone(), |ms| config.idle_timeout(Some(Duration::from_millis(ms))))
    }
}

/// What a server says of itself.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Report {
    /// Its counters by name.
    pub counters: std::collections::BTreeMap<String, u64>,
    /// The longest turn since it was last asked to forget it, in nanoseconds of its CPU.
    pub longest_turn_ns: u64,
    /// Nanoseconds its shards have spent on a core.
    pub cpu_ns: u64,
}

impl Report {
    /// A counter; 0 if there is none such.
    #[must_use]
    pub fn get(&self, name: &str) -> u64 {
        self.counters.get(name).copied().unwrap_or(0)
    }
}

struct App {
    policy: Policy,
    connect: bool,
    work: Duration,
    /// CPU time at the end of the last turn, and the longest turn so far.
    turns: Option<(u64, Arc<AtomicU64>)>,
}

/// A cookie for that path, as clients get it.
fn challenge(cx: &Context<'_, App>, path: Path) -> [u8; 17] {
    let mut cookie = [wire::COOKIE; 17];
    cookie[1..].copy_from_slice(&cx.io.cookie(path));
    cookie
}

impl App {
    /// A peer, none of whose questions have been counted. Who floods gets no socket of its own: that of a real handler
    /// asks for a proof first.
    fn welcome(&self, first: &[u8]) -> Accept<u64> {
        if self.connect && first.first() != Some(&wire::NOISE) { Accept::Connect(0) } else { Accept::Peer(0) }
    }
}

impl Handler for App {
    type Peer = u64;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u64> {
        let path = first.path();
        if !self.policy.validates() {
            return self.welcome(first);
        }
        match first.first() {
            Some(&wire::PROOF) if cx.io.verify(path, &first[1..]) => self.welcome(first),
            Some(&wire::HELLO) if self.policy == Policy::Pressure && !cx.io.pressure(path).wants_proof() => {
                self.welcome(first)
            }
            Some(&wire::HELLO) => {
                let cookie = challenge(cx, path);
                let _ = cx.io.answer(path, &cookie); // asked again if there was no room
                Accept::Done
            }
            _ => Accept::Drop("no cookie"),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, mut datagram: Datagram<'_>) {
        let path = datagram.path();
        match datagram.first() {
            Some(&wire::HELLO) if self.policy.validates() => {
                let cookie = challenge(cx, path);
                let _ = cx.io.send(from, &cookie); // asked again if there was no room
                return;
            }
            // Verifying validates the peer. One whose cookie is wrong is told nothing.
            Some(&wire::PROOF) if cx.io.verify(path, &datagram[1..]) => datagram[0] = wire::WELCOME,
            Some(&wire::PROOF) => return,
            _ => {
                let Some(counted) = cx.peers.get_mut(from) else { return };
                *counted += 1;
                wire::answer(&mut datagram, *counted);
                if self.policy == Policy::Trusting {
                    cx.io.validated(from);
                }
                let begin = Instant::now();
                while begin.elapsed() < self.work {}
            }
        }
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len); // lost, as the client will find
    }

    fn on_turn_end(&mut self, _: &mut Context<'_, Self>) {
        if let Some((last, longest)) = &mut self.turns {
            let now = system::thread_cpu_ns();
            longest.fetch_max(now - std::mem::replace(last, now), Ordering::Relaxed);
        }
    }

    fn on_start(&mut self, _: &mut Context<'_, Self>) {
        if let Some((last, _)) = &mut self.turns {
            *last = system::thread_cpu_ns();
        }
    }
}

/// Serves until there are no more questions on standard input: `report`, or `forget` the longest turn.
///
/// # Errors
/// If it cannot serve.
pub fn serve(serving: &Serving) -> Result<(), Box<dyn std::error::Error>> {
    system::end_with_parent();
    let server = Server::bind(serving.config())?;
    server.warnings().iter().for_each(|warning| eprintln!("{warning}"));
    let address = server.local_addrs()[0];
    let longest = Arc::new(AtomicU64::new(0));
    let (policy, connect, work) = (serving.policy, serving.connect, Duration::from_micros(serving.work_us));
    let turns = serving.time_turns.then(|| (0, Arc::clone(&longest)));
    let handle = server.spawn(move |_| App { policy, connect, work, turns: turns.clone() })?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{address}")?;
    out.flush()?;
    for line in std::io::stdin().lock().lines() {
        match line?.as_str() {
            "forget" => longest.store(0, Ordering::Relaxed),
            _ => {
                let report = Report {
                    counters: handle.stats().named().into_iter().collect(),
                    longest_turn_ns: longest.load(Ordering::Relaxed),
                    cpu_ns: process::shards_cpu_ns(),
                };
                writeln!(out, "{}", serde_json::to_string(&report)?)?;
                out.flush()?;
            }
        }
    }
    handle.drain(Duration::from_secs(5))?;
    Ok(())
}
