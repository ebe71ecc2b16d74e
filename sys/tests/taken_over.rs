//! Who sets `SO_REUSEADDR` takes a port over on Windows, unless its holder forbids it.
#![cfg(windows)]

use std::net::SocketAddr;

use shardgram_sys::{BindError, ListenerGroup, SocketOptions};
use socket2::{Domain, Socket, Type};

fn reusing(at: SocketAddr) -> std::io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    Ok(socket)
}

#[test]
fn a_listeners_port_cannot_be_taken_over() {
    for address in ["127.0.0.1:0", "0.0.0.0:0"] {
        let address = address.parse().expect("an address");
        let group = ListenerGroup::bind(address, 2, &SocketOptions::default()).expect("a free port");
        reusing(group.local_addr()).expect_err("it is ours alone");
    }
}

#[test]
fn nor_does_a_listener_take_one_over() {
    let holder = reusing(([127, 0, 0, 1], 0).into()).expect("a free port");
    let at = holder.local_addr().expect("its address").as_socket().expect("an internet address");
    let error = ListenerGroup::bind(at, 1, &SocketOptions::default()).expect_err("it is taken");
    assert!(matches!(error, BindError::AddressInUse { .. }), "{error}");
}
