//! With a budget of one datagram a turn, no socket starves.

mod support;

use shardgram_sys::SocketOptions;
use support::{Bound, client, config};

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
