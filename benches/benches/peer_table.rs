//! Micro benches of the peer table: what it costs to find, and to replace, one of so many peers.
//!
//! Each look-up is of another path, picked at random, so with many peers its lines of cache are not there. Making
//! the path to look for is part of the time, about two nanoseconds.

mod common;

use std::net::{Ipv6Addr, SocketAddr};

use common::Numbers;
use divan::{Bencher, black_box};
use shardgram_core::Path;
use shardgram_core::bench_support::PeerTable;
use shardgram_core::datagram::SocketId;

const PEERS: [u64; 4] = [1, 1_000, 100_000, 1_000_000];

fn main() {
    divan::main();
}

fn v4(number: u64) -> Path {
    let remote = SocketAddr::from(((0x0a00_0000 | number as u32).to_be_bytes(), 4_000));
    Path { local: SocketAddr::from(([10, 0, 0, 1], 9)), remote, socket: SocketId::listener(0) }
}

fn v6(number: u64) -> Path {
    let host = |number: u64| Ipv6Addr::from_bits(0x2001_0db8 << 96 | u128::from(number));
    Path {
        local: SocketAddr::from((host(0), 9)),
        remote: SocketAddr::from((host(1 << 32 | number), 4_000)),
        socket: SocketId::listener(0),
    }
}

fn filled(peers: u64, path: fn(u64) -> Path) -> PeerTable {
    let mut table = PeerTable::new(peers as usize);
    for number in 0..peers {
        table.insert(path(number)).expect("room");
    }
    table
}

/// Looks up paths with these numbers, and wants them to be known or not.
fn look_up(bencher: Bencher<'_, '_>, peers: u64, first: u64, path: fn(u64) -> Path) {
    let table = filled(peers, path);
    let mut numbers = Numbers::default();
    assert_eq!(table.find(&path(first)).is_some(), first == 0);
    bencher.bench_local(|| table.find(black_box(&path(first + numbers.below(peers)))));
}

#[divan::bench(args = PEERS)]
fn known_v4(bencher: Bencher<'_, '_>, peers: u64) {
    look_up(bencher, peers, 0, v4);
}

#[divan::bench(args = PEERS)]
fn known_v6(bencher: Bencher<'_, '_>, peers: u64) {
    look_up(bencher, peers, 0, v6);
}

#[divan::bench(args = PEERS)]
fn unknown_v4(bencher: Bencher<'_, '_>, peers: u64) {
    look_up(bencher, peers, peers, v4);
}

#[divan::bench(args = PEERS)]
fn unknown_v6(bencher: Bencher<'_, '_>, peers: u64) {
    look_up(bencher, peers, peers, v6);
}

/// A peer goes and another comes, in a table that is full.
fn replace(bencher: Bencher<'_, '_>, peers: u64, path: fn(u64) -> Path) {
    let mut table = PeerTable::new(peers as usize);
    let mut ids: Vec<_> = (0..peers).map(|number| table.insert(path(number)).expect("room")).collect();
    let (mut numbers, mut next) = (Numbers::default(), peers);
    bencher.bench_local(|| {
        let id = &mut ids[numbers.below(peers) as usize];
        assert!(table.remove(*id));
        // Of every address the last 24 bits differ, so an address comes again only after 16 million others.
        *id = table.insert(path(next & 0xff_ffff)).expect("room");
        next += 1;
    });
}

#[divan::bench(args = PEERS)]
fn remove_and_insert_v4(bencher: Bencher<'_, '_>, peers: u64) {
    replace(bencher, peers, v4);
}

#[divan::bench(args = PEERS)]
fn remove_and_insert_v6(bencher: Bencher<'_, '_>, peers: u64) {
    replace(bencher, peers, v6);
}
