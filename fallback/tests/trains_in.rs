//! Datagrams and trains longer than the limit are cut and say so; others arrive whole.
#![cfg(target_os = "linux")]

mod support;

use std::io::IoSlice;
use std::net::{SocketAddr, UdpSocket};
use std::time::SystemTime;

use shardgram_core::{Config, Ecn, Meta};
use shardgram_sys::{Heading, SocketOptions, send_message};
use support::{Bound, Shards, client, config, echo_at, pattern, receive};

const LIMIT: usize = 1000;

fn limited() -> Shards {
    Bound::new(config(&["127.0.0.1:0"]).max_datagram(LIMIT as u32), SocketOptions::default()).start(true)
}

/// Sends a train in one call, so that it arrives as one.
fn send_train(socket: &UdpSocket, bytes: &[u8], segment: usize, to: SocketAddr) {
    shardgram_sys::send_train(socket, to, None, segment as u16, &[IoSlice::new(bytes)]).expect("a train");
}

#[test]
fn a_long_datagram_is_cut() {
    let shards = limited();
    let client = client("127.0.0.1:0");
    let sizes = [LIMIT - 1, LIMIT, LIMIT + 1, 9000, 65_507];
    for size in sizes {
        client.send_to(&pattern(size), shards.address()).expect("send");
        let (_, meta, bytes) = shards.next_datagram();
        assert_eq!(bytes, pattern(size)[..size.min(LIMIT)], "{size} bytes");
        assert_eq!(meta.truncated_from, (size > LIMIT).then_some(size));
        assert_eq!(receive(&client).0, bytes, "the answer is what the handler had");
    }
    assert_eq!(shards.stop().truncated, 3);
}

#[test]
fn a_train_arrives_as_one() {
    let shards = echo_at("127.0.0.1:0");
    let client = client("127.0.0.1:0");
    let bytes = pattern(20 * 1200 + 7);
    send_train(&client, &bytes, 1200, shards.address());
    let mut rests = Vec::new();
    for part in bytes.chunks(1200) {
        let (_, meta, got) = shards.next_datagram();
        assert_eq!(got, part);
        rests.push(meta.rest_of_train);
        assert_eq!(receive(&client).0, part, "each datagram of it is answered, in order");
    }
    assert_eq!(rests, (0..=20).rev().collect::<Vec<_>>());
    let counters = shards.stop();
    assert_eq!((counters.received, counters.received_bytes), (21, bytes.len() as u64));
}

#[test]
fn a_train_of_long_datagrams_is_cut_one_by_one() {
    let shards = limited();
    let client = client("127.0.0.1:0");
    let (segment, last) = (LIMIT + 200, LIMIT - 100);
    let bytes = pattern(5 * segment + last);
    send_train(&client, &bytes, segment, shards.address());
    for part in bytes.chunks(segment) {
        let (_, meta, got) = shards.next_datagram();
        assert_eq!(got, part[..part.len().min(LIMIT)]);
        assert_eq!(meta.truncated_from, (part.len() > LIMIT).then_some(part.len()));
        assert_eq!(receive(&client).0, got);
    }
    let counters = shards.stop();
    assert_eq!((counters.received, counters.truncated), (6, 5));
}

#[test]
fn a_cut_train_outlives_a_budget_of_one() {
    let config = config(&["127.0.0.1:0"]).max_datagram(LIMIT as u32).turn_budget(1);
    let shards = Bound::new(config, SocketOptions::default()).start(true);
    let client = client("127.0.0.1:0");
    let bytes = pattern(10 * (LIMIT + 1));
    for _ in 0..3 {
        send_train(&client, &bytes, LIMIT + 1, shards.address());
    }
    for round in 0..3 {
        for part in bytes.chunks(LIMIT + 1) {
            assert_eq!(receive(&client).0, part[..LIMIT], "round {round}");
        }
    }
    assert_eq!(shards.stop().truncated, 30);
}

/// What is told of a datagram and of each of a train, all of which were marked as CE.
fn told(listen: &str, from: &str, reports: impl Fn(Config) -> Config) -> [Meta; 3] {
    let shards = Bound::new(reports(config(&[listen])), SocketOptions::default()).start(true);
    let client = client(from);
    let to = SocketAddr::new(client.local_addr().expect("address").ip(), shards.address().port());
    // What is queued before the driver began has no interface.
    client.send_to(b"begun?", to).expect("send");
    shards.next_datagram();

    let send = |segment, bytes: &[u8]| {
        let heading = Heading { to, from: None, segment, traffic_class: Some(3) };
        send_message(&client, &heading, &[IoSlice::new(bytes)]).expect("send");
    };
    send(None, b"marked");
    send(Some(6), b"markedmarked");
    let metas = [0; 3].map(|_| {
        let (_, meta, bytes) = shards.next_datagram();
        assert_eq!(bytes, b"marked");
        meta
    });
    shards.stop();
    metas
}

#[test]
fn ecn_time_and_interface_are_told() {
    let families = [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        ("[::]:0", "[::1]:0"),
    ];
    for (listen, from) in families.into_iter().filter(|family| support::here(family.0)) {
        for (ecn, times) in [(false, false), (true, false), (false, true), (true, true)] {
            let metas = told(listen, from, |config| config.ecn(ecn).receive_timestamps(times));
            let case = format!("{listen} {ecn} {times}: {metas:?}");
            let mark = if ecn { Ecn::Ce } else { Ecn::NotEct };
            assert!(metas.iter().all(|meta| meta.ecn == mark), "{case}");
            assert!(metas.iter().all(|meta| meta.interface != 0), "{case}");
            // There is no room for the control messages of a train if all are asked for.
            let train = if ecn && times { [0, 0, 0] } else { [0, 1, 0] };
            assert_eq!(metas.map(|meta| meta.rest_of_train), train, "{case}");
            let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            for meta in metas {
                assert_eq!(meta.kernel_time.is_some(), times, "{case}");
                let age = meta.kernel_time.map(|time| now.abs_diff(time));
                assert!(age.is_none_or(|age| age < support::PATIENCE), "{age:?}");
            }
        }
    }
}

#[test]
fn a_train_to_a_wildcard_says_where_it_was_sent_to() {
    let families = [("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"), ("[::]:0", "[::1]:0", "::1")];
    for (listen, from, ip) in families.into_iter().filter(|family| support::here(family.0)) {
        let shards = echo_at(listen);
        let client = client(from);
        let to = SocketAddr::new(ip.parse().expect("address"), shards.address().port());
        send_train(&client, &pattern(3000), 1000, to);
        for part in pattern(3000).chunks(1000) {
            let (path, _, bytes) = shards.next_datagram();
            assert_eq!((path.local, &*bytes), (to, part));
            assert_eq!(receive(&client), (part.to_vec(), to));
        }
        shards.stop();
    }
}
