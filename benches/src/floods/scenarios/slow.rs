//! A handler that works for every datagram, and more of them than it can bear.

use std::error::Error;
use std::io;
use std::net::{SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use clap::Args;
use shardgram::Backend;

use super::{Common, Met, Stage, describe};
use crate::figures::Quartiles;
use crate::floods::bars::Bars;
use crate::floods::forge::{Sources, Stream};
use crate::floods::generator::Flood;
use crate::floods::handler::{Policy, Serving};
use crate::floods::namespace;
use crate::floods::wire;

/// Datagrams of the flood leave one by one, as long as there are fewer than 50,000 a second.
const STEP: Duration = Duration::from_micros(20);
/// What is more than such a handler can bear.
const MORE: u64 = 250_000;
/// Times its capacity.
const TOO_MUCH: u64 = 3;
/// What the capacity is measured for.
const CALIBRATES: Duration = Duration::from_secs(1);

/// A handler of 10 us a datagram, and a flood.
#[derive(Args, Clone, Debug)]
pub struct Slow {
    /// Microseconds of work for a datagram.
    #[arg(long, default_value_t = 10)]
    pub work_us: u64,
    /// Sources of the flood.
    #[arg(long, default_value_t = 10_000)]
    pub sources: u64,
    /// Honest peers.
    #[arg(long, default_value_t = 100)]
    pub peers: u32,
    /// Seconds of a flood in each round, and of quiet before it.
    #[arg(long, default_value_t = 10)]
    pub seconds: u64,
}

impl Slow {
    fn rehearsal(&self, common: &Common) -> Self {
        let (peers, seconds) = common.choose((10, 1), (self.peers, self.seconds));
        Self { peers, seconds, ..self.clone() }
    }

    fn rounds(common: &Common) -> u32 {
        common.choose(1, common.rounds.max(1))
    }

    fn serving(&self, common: &Common, connect: bool) -> Serving {
        let serving = common.serving(Policy::Everybody);
        Serving { work_us: self.work_us, connect, ..serving }
    }

    fn sources(&self) -> Sources {
        Sources::Many { sources: self.sources, twice: false }
    }

    /// Datagrams a second that such a server handles when there are always more.
    fn capacity(&self, common: &Common) -> Result<u64, Box<dyn Error>> {
        let mut stage = Stage::new(common, &self.serving(common, false))?;
        let count = MORE * CALIBRATES.as_secs() * 2;
        let mut flood = stage.forged(self.sources(), wire::NOISE, MORE, count, STEP)?;
        // Its queue is full first.
        stage.generator.run(CALIBRATES / 2, Some(&mut flood))?;
        let (begin, before) = (Instant::now(), stage.served.report()?.get("delivered"));
        flood.go_on();
        stage.generator.run(CALIBRATES, Some(&mut flood))?;
        let after = stage.served.report()?.get("delivered");
        let capacity = (after - before) as f64 / begin.elapsed().as_secs_f64();
        if capacity < 1.0 { Err("the server handles nothing".into()) } else { Ok(capacity as u64) }
    }

    /// Half of its capacity, and three times that.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn run(&self, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
        let this = self.rehearsal(common);
        bars.of(format!("slow, {}", common.backend));
        let capacity = this.capacity(common)?;
        bars.note("capacity", format!("{capacity} datagrams a second"));
        this.half(common, bars, capacity)?;
        if common.backend == Backend::Uring {
            this.too_much(common, bars, capacity)?;
        } else {
            bars.note("three times its capacity", "no sockets of peers with this driver");
        }
        Ok(())
    }

    fn half(&self, common: &Common, bars: &mut Bars, capacity: u64) -> Result<(), Box<dyn Error>> {
        bars.of(format!("slow, {}, half of its capacity", common.backend));
        let mut stage = Stage::new(common, &self.serving(common, false))?;
        let peers = stage.establish(self.peers, Policy::Everybody)?;
        stage.settle(&peers)?;
        let time = Duration::from_secs(self.seconds);
        let rate = capacity / 2;
        let (mut ratios, mut before) = (Vec::new(), stage.served.report()?);
        for round in 0..Self::rounds(common) {
            stage.resume(&peers);
            stage.generator.run(time, None)?;
            let quiet = stage.settle(&peers)?;
            let mut flood = stage.forged(self.sources(), wire::NOISE, rate, rate * self.seconds, STEP)?;
            stage.resume(&peers);
            stage.generator.run_flood(&mut flood, |_| {})?;
            let flooded = stage.settle(&peers)?;
            let after = stage.served.report()?;
            describe(bars, &flood, &before, &after);
            before = after;
            bars.note(&format!("round {round}, quiet"), quiet.describe());
            bars.note(&format!("round {round}, flooded"), flooded.describe());
            ratios.push(flooded.at(0.99) / quiet.at(0.99).max(1.0));
        }
        let ratios = Quartiles::of(&ratios);
        bars.note("p99 flooded over quiet", format!("{ratios:.2}"));
        bars.at_most("p99 flooded over quiet, median", ratios.median(), 2.0, "times");
        Ok(())
    }

    fn too_much(&self, common: &Common, bars: &mut Bars, capacity: u64) -> Result<(), Box<dyn Error>> {
        bars.of(format!("slow, {}, three times its capacity", common.backend));
        let (rate, mut worst) = (TOO_MUCH * capacity, 0.0_f64);
        for round in 0..Self::rounds(common) {
            let mut stage = Stage::new(common, &Serving { connect: true, ..self.serving(common, true) })?;
            let peers = stage.establish(self.peers, Policy::Everybody)?;
            let before = stage.served.report()?;
            stage.count_anew(&peers);
            let mut flood = stage.forged(self.sources(), wire::NOISE, rate, rate * self.seconds, STEP)?;
            let (met, after) = flooded(&mut stage, &peers, &mut flood)?;
            describe(bars, &flood, &before, &after);
            bars.note("peers with sockets of their own", before.get("promoted"));
            bars.note(&format!("round {round}, connected peers"), met.describe());
            worst = worst.max(met.lost_percent());
        }
        bars.at_least("connected peers' answers, in the worst round", 100.0 - worst, 99.0, "%");
        Ok(())
    }

    /// One connected peer that sends three times what the server can bear.
    ///
    /// # Errors
    /// If it cannot be run.
    pub fn connected_flood(&self, common: &Common, bars: &mut Bars) -> Result<(), Box<dyn Error>> {
        let this = self.rehearsal(common);
        bars.of(format!("connected-flood, {}", common.backend));
        if common.backend != Backend::Uring {
            bars.note("not run", "no sockets of peers with this driver");
            return Ok(());
        }
        let capacity = this.capacity(common)?;
        bars.note("capacity", format!("{capacity} datagrams a second"));
        let (rate, mut lost) = (TOO_MUCH * capacity, 0);
        for round in 0..Self::rounds(common) {
            let mut stage = Stage::new(common, &this.serving(common, true))?;
            let peers = stage.establish(this.peers, Policy::Everybody)?;
            let attacker = attacker(stage.served.address())?;
            stage.generator.run(Duration::from_millis(200), None)?;
            let before = stage.served.report()?;
            stage.count_anew(&peers);
            let stream = Stream::own(attacker, wire::NOISE, u32::MAX);
            let mut flood = Flood::new(stream, rate, rate * this.seconds, STEP);
            let (met, after) = flooded(&mut stage, &peers, &mut flood)?;
            describe(bars, &flood, &before, &after);
            bars.note("peers with sockets of their own", before.get("promoted"));
            bars.note(&format!("round {round}, the others"), met.describe());
            lost += met.asked - met.answered;
        }
        bars.at_most("lost by the others, in all rounds", lost as f64, 0.0, "");
        Ok(())
    }
}

/// A peer that is to get a socket of its own. It reads no answers.
fn attacker(to: SocketAddrV4) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((namespace::client(u32::MAX), 0))?;
    socket.connect(to)?;
    socket.set_nonblocking(true)?;
    socket.send(&wire::request(wire::ASK, u32::MAX, 0))?;
    Ok(socket)
}

fn flooded(
    stage: &mut Stage,
    peers: &std::ops::Range<usize>,
    flood: &mut Flood,
) -> io::Result<(Met, crate::floods::handler::Report)> {
    stage.generator.run_flood(flood, |_| {})?;
    let met = stage.settle(peers)?;
    Ok((met, stage.served.report()?))
}
