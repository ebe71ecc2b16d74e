//! Every datagram sent is received or counted as dropped.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::SocketOptions;
use support::{Bound, client, config, until};

const SENT: u64 = 20_000;

#[test]
fn received_and_dropped_make_all() {
    let config = config(&["127.0.0.1:0"]).receive_socket_bytes(4096);
    let shards = Bound::new(config, SocketOptions::default()).start(true);
    let client = client("127.0.0.1:0");
    for _ in 0..SENT {
        client.send_to(&[7; 100], shards.address()).expect("send");
    }
    until("all are accounted for", || {
        let now = shards.snapshot();
        now.received + now.kernel_dropped >= SENT
    });
    let counters = shards.stop();
    assert_eq!(counters.received + counters.kernel_dropped, SENT, "{counters:?}");
    assert!(counters.kernel_dropped > 0, "a buffer this small drops some");
    assert_eq!(counters.delivered, counters.received);
    assert_eq!(counters.submitted, counters.queued);
}

#[test]
fn a_panic_loses_one_datagram() {
    let bound = Bound::new(config(&["127.0.0.1:0"]), SocketOptions::default());
    let client = client("127.0.0.1:0");
    // All wait when the shard begins, so they come in one batch with the one that stops the turn.
    for number in 0..20u8 {
        let text = if number == 10 { b"panic".to_vec() } else { vec![number] };
        client.send_to(&text, bound.addresses[0]).expect("send");
    }
    let shards = bound.start(true);
    for number in (0..20u8).filter(|&n| n != 10) {
        assert_eq!(support::receive(&client).0, [number]);
    }
    let counters = shards.stop();
    assert_eq!((counters.received, counters.restarts), (20, 1));
}
