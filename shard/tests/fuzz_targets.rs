//! The fuzz targets, on pseudo-random bytes: what libFuzzer does in `.ci/fuzz` with an eye on coverage, this
//! does everywhere.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, clippy::unwrap_used, reason = "a test program")]

#[path = "../../fuzz/src/lib.rs"]
mod targets;

/// How many inputs each target gets.
const INPUTS: usize = if cfg!(miri) { 30 } else { 20_000 };
const LONGEST: usize = 900;

/// A small generator (xorshift64*), seeded by the clock or by `SHARDGRAM_SEED`.
struct Random(u64);

impl Random {
    fn seeded(target: &str) -> Self {
        let seed = std::env::var("SHARDGRAM_SEED").ok().and_then(|seed| seed.parse().ok());
        let clock = || std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(1, |time| time.as_nanos() as u64);
        let seed: u64 = if cfg!(miri) { 1 } else { seed.unwrap_or_else(clock) };
        println!("replay: SHARDGRAM_SEED={seed} cargo test -p shardgram-shard --test fuzz_targets {target}");
        Self(seed | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    /// Bytes of any length, in parts that are lengths, families and kinds more often than chance would have it.
    fn bytes(&mut self) -> Vec<u8> {
        let len = (self.next() >> 32) as usize % LONGEST;
        let mut bytes = Vec::new();
        while bytes.len() < len {
            let number = self.next() >> 8;
            match self.next() >> 61 {
                0 => bytes.extend((number as usize % 64).to_ne_bytes()),
                1 => bytes.extend((number as u32 % 64).to_ne_bytes()),
                2 => bytes.extend([0; 8]),
                3 => bytes.extend([0xff; 4]),
                _ => bytes.extend(number.to_ne_bytes()),
            }
        }
        bytes.truncate(len);
        bytes
    }
}

fn try_out(name: &str, target: fn(&[u8])) {
    let mut random = Random::seeded(name);
    target(&[]);
    for _ in 0..INPUTS {
        target(&random.bytes());
    }
}

#[test]
fn recv_header() {
    try_out("recv_header", targets::recv_header);
}

#[test]
fn control_messages() {
    try_out("control_messages", targets::control_messages);
}

#[test]
fn sockaddr() {
    try_out("sockaddr", targets::sockaddr);
}

#[test]
fn completion() {
    try_out("completion", targets::completion);
}

#[test]
fn ownership() {
    try_out("ownership", targets::ownership);
}
