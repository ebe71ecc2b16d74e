//! A port that anybody else holds is refused, also where that socket would share it.
#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;

use shardgram_sys::{BindError, ListenerGroup, SocketOptions};
use socket2::{Domain, Socket, Type};

fn hold(address: SocketAddr, reuse_port: bool, reuse_address: bool) -> (Socket, u16) {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None).expect("socket");
    if address.is_ipv6() {
        socket.set_only_v6(true).expect("IPV6_V6ONLY");
    }
    socket.set_reuse_port(reuse_port).expect("SO_REUSEPORT");
    socket.set_reuse_address(reuse_address).expect("SO_REUSEADDR");
    socket.bind(&address.into()).expect("bind");
    let port = socket.local_addr().expect("name").as_socket().expect("address").port();
    (socket, port)
}

fn assert_in_use(address: SocketAddr, why: &str) {
    for shards in [1, 2] {
        match ListenerGroup::bind(address, shards, &SocketOptions::default()) {
            Err(BindError::AddressInUse { address: refused, .. }) => assert_eq!(refused, address),
            other => panic!("{why}, {shards} shards: {other:?}"),
        }
    }
}

#[test]
fn a_port_held_in_this_process_is_refused() {
    for (reuse_port, reuse_address) in [(false, false), (true, false), (false, true), (true, true)] {
        for (held, wanted) in [
            ("127.0.0.1:0", "127.0.0.1"),
            ("127.0.0.1:0", "0.0.0.0"),
            ("0.0.0.0:0", "127.0.0.1"),
            ("0.0.0.0:0", "0.0.0.0"),
            ("[::1]:0", "::1"),
            ("[::1]:0", "::"),
            ("[::]:0", "::1"),
        ]
        .into_iter()
        .filter(|(held, _)| support::here(held))
        {
            let (_socket, port) = hold(held.parse().expect(held), reuse_port, reuse_address);
            let address = SocketAddr::new(wanted.parse().expect(wanted), port);
            let why = format!("{held} held with reuse port {reuse_port}, address {reuse_address}");
            assert_in_use(address, &why);
        }
    }
}

#[test]
fn a_second_group_is_refused() {
    let group = ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 2, &SocketOptions::default())
        .expect("group");
    assert_in_use(group.local_addr(), "a group of this process has the port");
}

#[test]
fn a_refused_bind_leaves_nothing_bound() {
    // Where possible on a network of its own: the port that gets free here, or is hoped to be free
    // there, could otherwise be taken by whatever else runs.
    support::enter_own_network();
    let (socket, port) = hold("127.0.0.1:0".parse().expect("address"), true, false);
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    assert_in_use(address, "held");
    drop(socket);
    let (_again, _) = hold(address, false, false);
}

#[test]
fn ports_are_per_address_and_family() {
    support::enter_own_network();
    let group = |address: SocketAddr| ListenerGroup::bind(address, 2, &SocketOptions::default());
    let first = group("127.0.0.1:0".parse().expect("address")).expect("group");
    let port = first.local_addr().port();
    let _second = group(SocketAddr::from(([127, 0, 0, 2], port))).expect("another address");
    if !support::here("[::]:0") {
        return;
    }
    let wildcard = group("0.0.0.0:0".parse().expect("address")).expect("group");
    let port = wildcard.local_addr().port();
    let _other_family =
        group(SocketAddr::from(([0; 8], port))).expect("the IPv6 wildcard beside the IPv4 one");
}
