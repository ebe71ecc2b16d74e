//! Path-MTU handling is set, and a connected socket knows its path's MTU.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;

use shardgram_core::PathMtu;
use shardgram_sys::accept::{connected, path_mtu};
use shardgram_sys::socket::set_path_mtu;
use shardgram_sys::{SocketOptions, accept_support};
use support::accept::{address, client, enter_network_with_a_cable, ip, listen, loopbacks};

#[test]
fn each_mode_is_set_by_family() {
    let families = [
        ("127.0.0.1:0", libc::SOL_IP, libc::IP_MTU_DISCOVER),
        ("[::1]:0", libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
    ];
    for (address, level, name) in families.into_iter().filter(|family| support::here(family.0)) {
        let socket = UdpSocket::bind(address).expect(address);
        let mode = || support::int_option(&socket, level, name).expect("option");
        let fresh = mode();
        for (asked, value) in [
            (PathMtu::System, fresh),
            (PathMtu::Refuse, libc::IP_PMTUDISC_DO),
            (PathMtu::Probe, libc::IP_PMTUDISC_PROBE),
            (PathMtu::Fragment, libc::IP_PMTUDISC_DONT),
            (PathMtu::System, libc::IP_PMTUDISC_DONT),
        ] {
            set_path_mtu(&socket, level == libc::SOL_IPV6, asked).expect("set");
            assert_eq!(mode(), value, "{address} {asked}");
        }
    }
}

#[test]
fn the_path_over_loopback() {
    let (mode, options) = (accept_support().mode, SocketOptions::default());
    let device = std::fs::read_to_string("/sys/class/net/lo/mtu").expect("an MTU");
    let device: usize = device.trim().parse().expect("a number");
    for at in loopbacks() {
        let (local, _listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        assert_eq!(path_mtu(&peer).expect_err("not connected").raw_os_error(), Some(libc::ENOTCONN));
        let socket = connected(mode, local, name, &options).expect("accepted");
        // The length in an IPv4 header includes the header, that in an IPv6 header does not.
        let most = if local.is_ipv4() { 65_535 } else { 65_535 + 40 };
        assert_eq!(path_mtu(&socket).expect("an MTU"), device.min(most));
    }
}

#[test]
fn the_path_over_a_cable_whose_mtu_changes() {
    let mode = accept_support().mode;
    if !enter_network_with_a_cable() {
        return;
    }
    for (at, neighbour) in [("10.77.0.1:0", "10.77.0.9:9"), ("[fd77::1]:0", "[fd77::9]:9")] {
        let options = SocketOptions::default();
        let (local, _listeners) = listen(address(at), 1, &options);
        let socket = connected(mode, local, address(neighbour), &options).expect("accepted");
        for mtu in [1500, 1300, 1400] {
            ip(&format!("link set v0 mtu {mtu}"));
            // A send looks up the route again if it has changed.
            support::until("the socket knows", || {
                socket.send(b"a datagram").expect("send");
                path_mtu(&socket).expect("an MTU") == mtu
            });
        }
    }
}
