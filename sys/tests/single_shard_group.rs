//! A lone listener is a port group: strangers cost the same however many peers are connected.
#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;

use shardgram_sys::steering::attach_flow_hash;
use shardgram_sys::{ListenerGroup, SocketOptions, Steering};
use socket2::{Domain, Socket, Type};

#[test]
fn a_lone_listener_has_a_group() {
    for address in
        ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"].into_iter().filter(|address| support::here(address))
    {
        let address: SocketAddr = address.parse().expect(address);
        let mut group = ListenerGroup::bind(address, 1, &SocketOptions::default()).expect("group");
        assert_eq!(*group.steering(), Steering::FlowHash);
        let listener = group.take_sockets().remove(0);
        // The kernel takes a program for a bound socket only where there is a group.
        attach_flow_hash(&listener, address.is_ipv6(), 1).expect("a group");
    }
}

#[test]
fn the_option_after_the_bind_makes_none() {
    // What the test above would see without the group.
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("bind");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    let error = attach_flow_hash(&socket, false, 1).expect_err("no group");
    assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
}
