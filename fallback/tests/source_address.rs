//! Answers leave from the address that was written to.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, SocketAddr};

use support::{client, echo_at, receive};

#[test]
fn a_wildcard_answers_from_each_address() {
    let shards = echo_at("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    for ip in ["127.0.0.1", "127.0.0.2", "127.3.2.1"] {
        let to = SocketAddr::new(ip.parse().expect("address"), shards.address().port());
        client.send_to(b"hello", to).expect("send");
        assert_eq!(receive(&client), (b"hello".to_vec(), to));
        assert_eq!(shards.next_datagram().0.local, to);
    }
    shards.stop();
}

#[test]
fn a_wildcard_of_ipv6_does_so_too() {
    if !support::here("[::]:0") {
        return;
    }
    let shards = echo_at("[::]:0");
    let client = client("[::1]:0");
    let to = SocketAddr::new("::1".parse().expect("address"), shards.address().port());
    client.send_to(b"hello", to).expect("send");
    assert_eq!(receive(&client), (b"hello".to_vec(), to));
    assert_eq!(shards.next_datagram().0.local, to);
    shards.stop();
}

#[test]
fn a_specific_listener_is_its_own_local_address() {
    let shards = echo_at("127.0.0.2:0");
    let client = client("127.0.0.1:0");
    client.send_to(b"hello", shards.address()).expect("send");
    assert_eq!(receive(&client).1, shards.address());
    assert_eq!(shards.next_datagram().0.local, shards.address());
    shards.stop();
}

#[test]
fn a_broadcast_is_answered_from_an_address_of_the_host() {
    let shards = echo_at("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    client.set_broadcast(true).expect("broadcast");
    let to = SocketAddr::from(([127, 255, 255, 255], shards.address().port()));
    client.send_to(b"anyone", to).expect("send");
    let (bytes, from) = receive(&client);
    assert_eq!((bytes, from.port()), (b"anyone".to_vec(), to.port()));
    assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(shards.next_datagram().0.local, from);
    shards.stop();
}
