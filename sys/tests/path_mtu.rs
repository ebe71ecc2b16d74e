//! Path-MTU handling goes back to what a fresh socket has.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;

use shardgram_sys::socket::default_path_mtu;

#[test]
fn probe_mode_is_taken_back() {
    let modes = [
        ("127.0.0.1:0", libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        ("[::1]:0", libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        ("[::1]:0", libc::SOL_IPV6, libc::IPV6_DONTFRAG, 1),
    ];
    for (address, level, name, probing) in modes.into_iter().filter(|mode| support::here(mode.0)) {
        let socket = UdpSocket::bind(address).expect(address);
        let fresh = support::int_option(&socket, level, name).expect("option");
        support::set_option(&socket, level, name, &probing.to_ne_bytes()).expect("probe mode");
        default_path_mtu(&socket).expect("default");
        assert_eq!(
            support::int_option(&socket, level, name).expect("option"),
            fresh,
            "{address} option {name}"
        );
    }
}
