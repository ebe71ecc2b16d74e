//! The kernel lists the sockets of a port that are connected to nobody, and says whose they are.
#![cfg(target_os = "linux")]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use shardgram_sys::bound_sockets::{BoundSocket, list, take_own};
use socket2::{Domain, SockRef, Socket, Type};

fn at_port_of(at: SocketAddr) -> io::Result<BTreeMap<u64, BoundSocket>> {
    let mut all = BTreeMap::new();
    list(at.is_ipv6(), at.port(), |socket| all.extend([(socket.inode, socket)])).map(|()| all)
}

/// Those of this process at an address.
fn own(at: SocketAddr) -> Vec<BoundSocket> {
    let own = take_own(&mut at_port_of(at).expect("it is listed")).expect("proc is mounted");
    own.into_iter().filter(|socket| socket.ip == at.ip().to_canonical()).collect()
}

fn bound(at: &str) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind(at).expect("a port");
    let at = socket.local_addr().expect("an address");
    (socket, at)
}

/// Whether there is a list; records a skip where there is none.
fn is_there() -> bool {
    let at = ([127, 0, 0, 1], 9).into();
    at_port_of(at).inspect_err(|error| support::skip::record(&format!("no list of sockets: {error}"))).is_ok()
}

#[test]
fn a_socket_is_listed_while_it_is_connected_to_nobody() {
    if !is_there() {
        return;
    }
    for any in ["127.0.0.1:0", "[::1]:0"] {
        if !support::here(any) {
            continue;
        }
        let (socket, at) = bound(any);
        let listed = own(at);
        assert_eq!(listed.len(), 1, "{listed:?}");
        assert_eq!((listed[0].port, listed[0].interface), (at.port(), 0));
        let holder = listed[0].holder();
        assert_eq!(holder.process.map(|(id, _)| id), Some(std::process::id()));
        socket.connect(at).expect("itself");
        assert_eq!(own(at), [], "it is connected");
    }
}

#[test]
fn what_a_socket_is_bound_to_is_told() {
    if !is_there() {
        return;
    }
    let (socket, at) = bound("127.0.0.1:0");
    SockRef::from(&socket).bind_device(Some(b"lo")).expect("the interface");
    assert_ne!(own(at)[0].interface, 0);
    let mapped = "[::ffff:127.0.0.1]:0";
    if !support::here(mapped) {
        return;
    }
    let both = Socket::new(Domain::IPV6, Type::DGRAM, None).expect("a socket");
    both.set_only_v6(false).expect("both families");
    both.bind(&mapped.parse::<SocketAddr>().expect("an address").into()).expect("a port");
    let at = both.local_addr().expect("a name").as_socket().expect("an address");
    assert_eq!(own(at)[0].ip, IpAddr::from([127, 0, 0, 1]), "of IPv4, though the socket is of IPv6");
}
