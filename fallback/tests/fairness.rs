//! With a budget of one datagram a turn, no socket starves.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use shardgram_sys::SocketOptions;
use support::{Bound, client, config, receive};

const SOCKETS: usize = 8;
const EACH: usize = 20;

fn bound() -> Bound {
    Bound::new(config(&["127.0.0.1:0"; SOCKETS]).turn_budget(1), SocketOptions::default())
}

#[test]
fn full_sockets_take_turns() {
    let bound = bound();
    let client = client("127.0.0.1:0");
    for address in bound.addresses.clone() {
        for _ in 0..EACH {
            client.send_to(b"x", address).expect("send");
        }
    }
    let shards = bound.start(false);
    let order: Vec<u16> = (0..SOCKETS * EACH)
        .map(|_| shards.next_datagram().0.socket.as_listener().expect("listener"))
        .collect();
    for round in order.chunks(SOCKETS) {
        let mut round = round.to_vec();
        round.sort_unstable();
        assert_eq!(round, (0..SOCKETS as u16).collect::<Vec<_>>(), "each once a round: {order:?}");
    }
    shards.stop();
}

#[test]
fn a_flood_on_one_socket_leaves_the_others_theirs() {
    let shards = bound().start(true);
    let over = Arc::new(AtomicBool::new(false));
    let flood = {
        let (over, to) = (Arc::clone(&over), shards.addresses[0]);
        std::thread::spawn(move || {
            let client = client("127.0.0.1:0");
            while !over.load(Ordering::Relaxed) {
                client.send_to(b"flood", to).expect("send");
            }
        })
    };
    let client = client("127.0.0.1:0");
    for round in 0..20u32 {
        for &address in &shards.addresses[1..] {
            client.send_to(&round.to_be_bytes(), address).expect("send");
            assert_eq!(receive(&client), (round.to_be_bytes().to_vec(), address));
        }
    }
    over.store(true, Ordering::Relaxed);
    flood.join().expect("flood");
    shards.stop();
}
