//! Where listeners are bound to an interface, peers' sockets are too.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::sync::Arc;

use shardgram_sys::accept::{connected, retire};
use shardgram_sys::interfaces::local_addresses;
use shardgram_sys::{AcceptMode, SocketOptions, flow_shard};
use support::accept::{address, all_drained, client, enter_network_with_a_cable, listen, side_group};

/// Accepts a few peers at an address of the interface `index` and looks who gets what.
fn assert_apart(at: SocketAddr, index: u32, options: &SocketOptions) {
    let (local, listeners) = listen(at, 2, options);
    let peers: Vec<_> = (0..10).map(|_| client(local)).collect();
    let accept = |name| connected(AcceptMode::SideGroup, local, name, options).expect("accepted");
    let accepted: Vec<_> = peers.iter().map(|(_, name)| accept(*name)).collect();
    for (socket, (peer, name)) in accepted.iter().zip(&peers) {
        let bound_to = support::int_option(socket, libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX);
        assert_eq!(bound_to.expect("an interface").cast_unsigned(), index);
        assert_eq!(socket.local_addr().expect("local"), local);
        peer.send_to(b"mine", local).expect("send");
        assert_eq!(support::receive(socket).expect("receive").source, *name);
    }
    for (stranger, name) in (0..20).map(|_| client(local)) {
        stranger.send_to(b"strange", local).expect("send");
        let listener = &listeners[usize::from(flow_shard(name, 2))];
        assert_eq!(support::receive(listener).expect("receive").source, name);
    }
    assert!(all_drained(accepted.iter().chain(&listeners)));
    for (socket, (peer, name)) in accepted.iter().zip(&peers) {
        retire(socket).expect("retire");
        peer.send_to(b"for the listener", local).expect("send");
        let listener = &listeners[usize::from(flow_shard(*name, 2))];
        assert_eq!(support::receive(listener).expect("receive").source, *name);
    }
    assert!(all_drained(&accepted));
}

#[test]
fn a_link_local_address() {
    if !side_group() || !enter_network_with_a_cable() {
        return;
    }
    let link_local = || {
        let all = local_addresses().expect("addresses");
        all.into_iter().find_map(|one| match one.address {
            IpAddr::V6(ip) if one.name == "v0" && ip.is_unicast_link_local() => {
                Some(SocketAddrV6::new(ip, 0, 0, one.index))
            }
            _ => None,
        })
    };
    // The kernel makes sure first that nobody else has the address.
    let usable = || link_local().is_some_and(|name| std::net::UdpSocket::bind(name).is_ok());
    support::until("the interface has a link-local address", usable);
    let at = link_local().expect("an address");
    assert_apart(at.into(), at.scope_id(), &SocketOptions::default());
}

#[test]
fn an_interface_of_the_hooks_choice() {
    if !side_group() {
        return;
    }
    for at in ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|at| support::here(at)) {
        let options = SocketOptions {
            hook: Some(Arc::new(|socket, _| socket.bind_device(Some(b"lo")))),
            ..SocketOptions::default()
        };
        assert_apart(address(at), 1, &options);
    }
}

#[test]
fn other_addresses_are_free_of_it() {
    if !side_group() || !enter_network_with_a_cable() {
        return;
    }
    for at in ["10.77.0.1:0", "[fd77::1]:0"] {
        assert_apart(address(at), 0, &SocketOptions::default());
    }
}
