//! A send that fails is told to its peer, and to nobody else.
#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;

use shardgram_core::{Endpoint, PeerError, Via};
use shardgram_sys::SocketOptions;
use support::{Bound, Seen, Shards, client, config, echo_at, here, in_namespace, ip, receive, run, skip};

/// Sends a datagram from a new endpoint.
fn send(shards: &Shards, to: &str) {
    let to: SocketAddr = to.parse().expect("address");
    shards.run(0, move |_, cx| {
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).expect("peer");
        cx.io.send(peer, b"hello").expect("queued");
    });
}

fn still_echoes(shards: &Shards) {
    let client = client("127.0.0.1:0");
    let to = SocketAddr::from(([127, 0, 0, 1], shards.address().port()));
    client.send_to(b"still there?", to).expect("send");
    assert_eq!(receive(&client), (b"still there?".to_vec(), to));
    shards.next_datagram();
}

#[test]
fn a_broadcast_is_forbidden() {
    let shards = echo_at("127.0.0.1:0");
    send(&shards, "127.255.255.255:9");
    assert_eq!(shards.next(), Seen::Error(PeerError::Forbidden));
    still_echoes(&shards);
    let counters = shards.stop();
    assert_eq!((counters.send_failed_other, counters.sent()), (1, 1));
}

#[test]
fn each_kind_of_route_has_its_error() {
    if !in_namespace("each_kind_of_route_has_its_error") {
        return;
    }
    ip("route add unreachable 198.51.100.0/25");
    ip("route add prohibit 198.51.100.128/25");
    ip("route add blackhole 203.0.113.0/24");
    ip("route add throw 192.0.2.0/24");
    let shards = echo_at("127.0.0.1:0");
    let cases = [
        ("198.51.100.1:9", PeerError::Unreachable),
        ("198.51.100.200:9", PeerError::Forbidden),
        ("203.0.113.1:9", PeerError::Other { errno: 22 }),
        ("192.0.2.1:9", PeerError::Unreachable),
        ("[2001:db8::1]:9", PeerError::Unreachable),
        ("10.0.0.1:9", PeerError::Unreachable),
    ];
    let mut unreachable = 0;
    for (to, error) in cases.into_iter().filter(|case| here(case.0)) {
        unreachable += u64::from(error == PeerError::Unreachable);
        send(&shards, to);
        assert_eq!(shards.next(), Seen::Error(error), "{to}");
    }
    still_echoes(&shards);
    let counters = shards.stop();
    assert_eq!((counters.send_failed_unreachable, counters.send_failed_other), (unreachable, 2));
}

#[test]
fn an_address_that_is_gone_is_unreachable() {
    if !in_namespace("an_address_that_is_gone_is_unreachable") {
        return;
    }
    ip("addr add 10.9.9.9/32 dev lo");
    let shards = echo_at("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    let to = SocketAddr::from(([10, 9, 9, 9], shards.address().port()));
    client.send_to(b"hello", to).expect("send");
    assert_eq!(receive(&client).1, to);
    let (path, _, _) = shards.next_datagram();
    ip("addr del 10.9.9.9/32 dev lo");
    shards.run(0, move |_, cx| cx.io.answer(path, b"are you there?").expect("queued"));
    shards.run(0, |_, cx| {
        let (peer, ()) = cx.peers.iter().next().expect("a peer");
        cx.io.send(peer, b"are you there?").expect("queued");
    });
    assert_eq!(shards.next(), Seen::Error(PeerError::Unreachable), "told once: the answer has no peer");
    still_echoes(&shards);
    assert_eq!(shards.stop().send_failed_unreachable, 2);
}

#[test]
fn a_full_socket_is_no_peers_fault() {
    if !in_namespace("a_full_socket_is_no_peers_fault") {
        return;
    }
    ip("link add out type veth peer name in");
    ip("addr add 10.8.0.1/24 dev out");
    ip("link set out up");
    ip("link set in up");
    ip("neigh replace 10.8.0.2 lladdr 02:00:00:00:00:02 dev out nud permanent");
    if let Err(reason) = run("tc", "qdisc add dev out root tbf rate 8kbit burst 1600 limit 1000000") {
        return skip::record(&reason);
    }
    let config = config(&["127.0.0.1:0"]).send_socket_bytes(8192);
    let shards = Bound::new(config, SocketOptions::default()).start(true);
    shards.run(0, |_, cx| {
        let to = "10.8.0.2:9".parse().expect("address");
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).expect("peer");
        for _ in 0..200 {
            cx.io.send(peer, &[7; 1000]).expect("queued");
        }
    });
    still_echoes(&shards);
    assert!(shards.seen.try_recv().is_err(), "the peer hears nothing");
    let counters = shards.stop();
    assert!(counters.send_failed_full > 50, "{counters:?}");
    assert_eq!(counters.submitted, 201);
    assert_eq!(counters.sent(), 201 - counters.send_failed_full);
}
