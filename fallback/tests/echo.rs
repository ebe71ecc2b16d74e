//! Datagrams of every size come back as they went.

mod support;

use support::{client, echo_at, pattern, receive};

const SIZES: [usize; 5] = [0, 1, 1472, 9000, 65_507];

fn echoes(listen: &str, from: &str) {
    let shards = echo_at(listen);
    let client = client(from);
    for size in SIZES {
        client.send_to(&pattern(size), shards.address()).expect("send");
        let (bytes, source) = receive(&client);
        assert_eq!((bytes, source), (pattern(size), shards.address()), "{size} bytes");
    }
    let counters = shards.stop();
    assert_eq!(counters.sent(), SIZES.len() as u64);
    assert_eq!((counters.truncated, counters.send_failed()), (0, 0));
}

#[test]
fn ipv4() {
    echoes("127.0.0.1:0", "127.0.0.1:0");
}

#[test]
fn ipv6() {
    if !support::here("[::1]:0") {
        return;
    }
    echoes("[::1]:0", "[::1]:0");
}

#[test]
fn the_longest_of_ipv6() {
    if !support::here("[::1]:0") {
        return;
    }
    let shards = support::Bound::new(
        support::config(&["[::1]:0"]).max_datagram(65_527),
        shardgram_sys::SocketOptions::default(),
    )
    .start(true);
    let client = client("[::1]:0");
    client.send_to(&pattern(65_527), shards.address()).expect("send");
    assert_eq!(receive(&client).0, pattern(65_527));
    shards.stop();
}

#[test]
fn bursts_keep_their_order() {
    let shards = echo_at("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    for round in 0..50u32 {
        let burst = round * 40..(round + 1) * 40;
        for number in burst.clone() {
            client.send_to(&number.to_be_bytes(), shards.address()).expect("send");
        }
        for number in burst {
            assert_eq!(receive(&client).0, number.to_be_bytes());
        }
    }
    assert_eq!(shards.stop().sent(), 2000);
}
