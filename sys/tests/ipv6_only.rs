//! IPv6 sockets never take IPv4.
#![cfg(target_os = "linux")]

mod support;

use std::net::{SocketAddr, UdpSocket};

use shardgram_sys::{BindError, ListenerGroup, SocketOptions, socket};
use socket2::SockRef;

#[test]
fn every_ipv6_socket_is_ipv6_only() {
    if !support::here("[::]:0") {
        return;
    }
    for address in ["[::]:0", "[::1]:0"] {
        let mut group = ListenerGroup::bind(address.parse().expect(address), 3, &SocketOptions::default())
            .expect("group");
        for member in group.take_sockets() {
            assert!(SockRef::from(&member).only_v6().expect("IPV6_V6ONLY"));
        }
    }
    let peer = "[::1]:9".parse().expect("address");
    let client = socket::endpoint(None, peer, &SocketOptions::default()).expect("endpoint");
    assert!(SockRef::from(&client).only_v6().expect("IPV6_V6ONLY"));
}

#[test]
fn ipv4_datagrams_pass_the_ipv6_wildcard_by() {
    if !support::here("[::]:0") {
        return;
    }
    let options = SocketOptions::default();
    let v6 = ListenerGroup::bind("[::]:0".parse().expect("address"), 1, &options).expect("IPv6");
    let port = v6.local_addr().port();
    // An IPv4 client learns that nobody listens there.
    let client = UdpSocket::bind("127.0.0.1:0").expect("client");
    client.connect(("127.0.0.1", port)).expect("connect");
    client.set_read_timeout(Some(std::time::Duration::from_secs(10))).expect("timeout");
    client.send(b"anyone?").expect("send");
    let refused = client.recv(&mut [0; 8]).expect_err("no answer");
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);
}

#[test]
fn a_mapped_address_is_refused_by_name() {
    let address: SocketAddr = "[::ffff:127.0.0.1]:0".parse().expect("address");
    let error = ListenerGroup::bind(address, 1, &SocketOptions::default()).expect_err("mapped");
    assert!(matches!(error, BindError::MappedAddress { .. }), "{error}");
}
