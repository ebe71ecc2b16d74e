//! A fixed amount of work for an echo server on the simulator, for `.ci/instructions` to count what it costs.
//!
//! ```text
//! cargo run --release -p shardgram-sim --example echo_instructions -- singles 10
//! ```
//!
//! It prints how many datagrams were echoed. A run of twice the rounds begins as the shorter one does, so the
//! difference of two runs is rounds and nothing else: no start, no peer that is made.

use std::error::Error;
use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId, ReceivedTrain};
use shardgram_sim::{LinkConfig, Sim, SocketKey};

/// Bytes of a datagram. Nobody copies them between receiving and sending, so the count does not depend on it.
const LEN: usize = 64;
/// Time for a round: everything sent is back long before.
const ROUND: Duration = Duration::from_millis(1);
const SEED: u64 = 1;

/// What is sent in a round.
struct Scenario {
    name: &'static str,
    peers: u16,
    /// Datagrams of each peer, in one train if there are several.
    datagrams: usize,
    /// Whether the handler takes trains as they are.
    whole: bool,
}

const SCENARIOS: [Scenario; 4] = [
    Scenario { name: "lone", peers: 1, datagrams: 1, whole: false },
    Scenario { name: "singles", peers: 1_000, datagrams: 1, whole: false },
    Scenario { name: "trains", peers: 16, datagrams: 64, whole: false },
    Scenario { name: "whole_trains", peers: 16, datagrams: 64, whole: true },
];

/// Echoes; train by train if `WHOLE`, else datagram by datagram.
struct Echo<const WHOLE: bool>;

impl<const WHOLE: bool> Handler for Echo<WHOLE> {
    type Peer = ();
    type Timer = ();
    type Message = ();

    const WHOLE_TRAINS: bool = WHOLE;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }

    fn on_train(&mut self, cx: &mut Context<'_, Self>, _: PeerId, train: ReceivedTrain<'_>) {
        let _ = cx.io.reply_train(train);
    }
}

/// Waits for a whole second of the clock. The simulator's time begins at the real one, and sums and comparisons of
/// instants take some instructions more or less where they cross a second. What an instant has beyond its last second
/// nothing tells but its `Debug` output.
fn whole_second() -> Result<(), Box<dyn Error>> {
    const SECOND_NS: u64 = 1_000_000_000;
    const NEAR_NS: u64 = 2_000_000;
    loop {
        let text = format!("{:?}", Instant::now());
        let digits = text.rsplit(|c: char| !c.is_ascii_digit()).find(|word| !word.is_empty());
        let ns: u64 = digits.ok_or("no nanoseconds in an instant")?.parse()?;
        if ns < NEAR_NS {
            return Ok(());
        }
        sleep(Duration::from_nanos(SECOND_NS.saturating_sub(ns)));
    }
}

fn run<const WHOLE: bool>(scenario: &Scenario, rounds: usize) -> Result<u64, Box<dyn Error>> {
    whole_second()?;
    let mut sim = Sim::new(SEED);
    sim.link(LinkConfig::new().trains(true));
    let target: SocketAddr = "10.0.0.1:7".parse()?;
    let server = sim.server(&[target.ip()], &Config::new().listen(target), |_| Echo::<WHOLE>)?;
    let address = |peer| SocketAddr::from(([10, 0, 1, 1], 10_000 + peer));
    let clients: Vec<SocketKey> = (0..scenario.peers).map(|peer| sim.socket(address(peer))).collect();
    let payload = vec![7; LEN * scenario.datagrams];
    let mut echoed = 0;
    // The first round makes the peers.
    for _ in 0..=rounds {
        for client in &clients {
            sim.send_train(*client, target, &payload, LEN);
        }
        sim.run_for(ROUND);
        for client in &clients {
            echoed += std::iter::from_fn(|| sim.receive(*client)).count();
        }
    }
    let stats = sim.stats(&server);
    let sent = (rounds + 1) * clients.len() * scenario.datagrams;
    if echoed != sent || stats.delivered != sent as u64 {
        return Err(format!("of {sent} datagrams {echoed} came back: {stats:?}").into());
    }
    Ok(stats.delivered)
}

fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: echo_instructions lone|singles|trains|whole_trains ROUNDS";
    let (name, rounds) = (std::env::args().nth(1).ok_or(usage)?, std::env::args().nth(2).ok_or(usage)?);
    let scenario = SCENARIOS.iter().find(|scenario| scenario.name == name).ok_or(usage)?;
    let rounds = rounds.parse()?;
    let datagrams =
        if scenario.whole { run::<true>(scenario, rounds) } else { run::<false>(scenario, rounds) };
    println!("{}", datagrams?);
    Ok(())
}
