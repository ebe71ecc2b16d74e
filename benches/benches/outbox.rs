//! Micro benches of the outbox: what it costs to queue a turn's datagrams and to end the turn. Times are of whole
//! turns, the counter says datagrams for each second.

mod common;

use std::net::SocketAddr;

use common::Numbers;
use divan::counter::ItemsCount;
use divan::{Bencher, black_box};
use shardgram_core::bench_support::{PeerTable, Queue};
use shardgram_core::datagram::{RxSlice, SocketId};
use shardgram_core::{Path, PeerId};

/// Datagrams of a turn.
const TURN: u32 = 256;
/// Datagrams of a train.
const TRAIN: u32 = 64;
const LEN: u32 = 64;

fn main() {
    divan::main();
}

struct Bed {
    table: PeerTable,
    peers: Vec<(PeerId, Path)>,
    queue: Queue,
}

fn bed(peers: u32) -> Bed {
    let mut table = PeerTable::new(peers as usize);
    let path = |number: u32| Path {
        local: SocketAddr::from(([10, 0, 0, 1], 9)),
        remote: SocketAddr::from(((0x0a00_0000 | number).to_be_bytes(), 4_000)),
        socket: SocketId::listener(0),
    };
    let peers = (0..peers).map(|number| (table.insert(path(number)).expect("room"), path(number))).collect();
    Bed { table, peers, queue: Queue::new((TURN * LEN) as usize, TURN as usize) }
}

/// Where the datagram with this number lies in receive buffers that hold a train each.
fn received(number: u32) -> RxSlice {
    RxSlice { buffer: number / TRAIN, start: number % TRAIN * LEN, len: LEN }
}

/// Copies, each to another peer.
#[divan::bench(args = [1_000, 100_000])]
fn singles_to_many(bencher: Bencher<'_, '_>, peers: u32) {
    let Bed { mut table, peers, mut queue } = bed(peers);
    let mut numbers = Numbers::default();
    let payload = [7; LEN as usize];
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        let first = numbers.below(peers.len() as u64) as usize;
        for (peer, path) in peers.iter().cycle().skip(first).take(TURN as usize) {
            assert!(queue.copy(&mut table, *peer, path, black_box(&payload)));
        }
        queue.clear();
    });
}

/// Copies that join in trains.
#[divan::bench]
fn trains_to_one(bencher: Bencher<'_, '_>) {
    let Bed { mut table, peers, mut queue } = bed(1);
    let (peer, path) = peers[0];
    let payload = [7; LEN as usize];
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        for _ in 0..TURN {
            assert!(queue.copy(&mut table, peer, &path, black_box(&payload)));
        }
        assert_eq!(queue.trains() as u32, TURN / TRAIN);
        queue.clear();
    });
}

/// Copies to four peers in turn, each of which gets one train.
#[divan::bench]
fn trains_to_four_in_turn(bencher: Bencher<'_, '_>) {
    let Bed { mut table, peers, mut queue } = bed(TURN / TRAIN);
    let payload = [7; LEN as usize];
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        for (peer, path) in peers.iter().cycle().take(TURN as usize) {
            assert!(queue.copy(&mut table, *peer, path, black_box(&payload)));
        }
        assert_eq!(queue.trains() as u32, TURN / TRAIN);
        queue.clear();
    });
}

/// Replies out of receive buffers of one datagram each.
#[divan::bench]
fn replies_to_many(bencher: Bencher<'_, '_>) {
    let Bed { mut table, peers, mut queue } = bed(TURN);
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        for (buffer, (peer, path)) in (0..).zip(&peers) {
            let at = RxSlice { buffer, start: 0, len: LEN };
            assert!(queue.reply(&mut table, *peer, path, black_box(at)));
        }
        queue.clear();
    });
}

/// Replies to each datagram of received trains: what lies side by side leaves as one piece.
#[divan::bench]
fn replies_out_of_trains(bencher: Bencher<'_, '_>) {
    let Bed { mut table, peers, mut queue } = bed(1);
    let (peer, path) = peers[0];
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        for number in 0..TURN {
            assert!(queue.reply(&mut table, peer, &path, black_box(received(number))));
        }
        assert_eq!(queue.trains() as u32, TURN / TRAIN);
        queue.clear();
    });
}

/// Received trains that go back as they are.
#[divan::bench]
fn whole_trains(bencher: Bencher<'_, '_>) {
    let Bed { mut table, peers, mut queue } = bed(1);
    let (peer, path) = peers[0];
    bencher.counter(ItemsCount::new(TURN)).bench_local(|| {
        for buffer in 0..TURN / TRAIN {
            let at = RxSlice { buffer, start: 0, len: TRAIN * LEN };
            assert!(queue.reply_train(&mut table, peer, &path, black_box(at), TRAIN as usize));
        }
        queue.clear();
    });
}
