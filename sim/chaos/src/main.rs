//! Runs seeds.
use std::time::Instant;
fn main() {
    let begin: u64 = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let count: u64 = std::env::args().nth(2).and_then(|a| a.parse().ok()).unwrap_or(100);
    let start = Instant::now();
    let mut reached = shardgram_chaos::Reached::default();
    let (mut steps, mut datagrams, mut failed) = (0, 0, 0);
    for seed in begin..begin + count {
        let report = shardgram_chaos::run(&shardgram_chaos::Plan::of(seed), count == 1);
        for l in &report.lines { println!("{l}"); }
        steps += report.steps;
        datagrams += report.datagrams;
        reached.add(&report.reached);
        if let Some(f) = &report.failure {
            failed += 1;
            if failed < 30 { println!("seed {seed}: {f}"); }
        }
    }
    println!("{count} seeds, {failed} failed, {steps} steps, {datagrams} datagrams, {:?}", start.elapsed());
    if count > 1 { for (n, c) in reached.all() { print!("{n}={c}, "); } println!(); }
}
