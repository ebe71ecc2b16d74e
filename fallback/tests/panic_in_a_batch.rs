//! A panic over one of many datagrams that were received at once loses that one.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::SocketOptions;
use support::{Bound, client, config};

#[test]
fn a_panic_loses_one_datagram() {
    let bound = Bound::new(config(&["127.0.0.1:0"]), SocketOptions::default());
    let [client, another] = [(); 2].map(|()| client("127.0.0.1:0"));
    // All wait when the shard begins, so they come in one batch with the one that stops the turn.
    for number in 0..20u8 {
        let (client, text) = if number == 10 { (&another, &b"panic"[..]) } else { (&client, &[number][..]) };
        client.send_to(text, bound.addresses[0]).expect("send");
    }
    let shards = bound.start(true);
    for number in (0..20u8).filter(|&n| n != 10) {
        assert_eq!(support::receive(&client).0, [number]);
    }
    let counters = shards.stop();
    assert_eq!((counters.received, counters.restarts), (20, 1));
}
