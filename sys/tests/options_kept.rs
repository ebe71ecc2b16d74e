//! A library that sets options as it likes changes none of a socket, which no longer blocks and has packet info.
#![cfg(target_os = "linux")]

mod support;

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::OnceLock;

use shardgram_sys::socket::keeping_options;

#[test]
fn what_a_call_sets_is_not_set() {
    let v4 = [
        (libc::SOL_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_PROBE),
        (libc::SOL_UDP, libc::UDP_GRO, 1),
        (libc::SOL_SOCKET, libc::SO_TIMESTAMPNS, 1),
    ];
    let v6 = [
        (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_PROBE),
        (libc::SOL_IPV6, libc::IPV6_DONTFRAG, 1),
        (libc::SOL_UDP, libc::UDP_GRO, 1),
    ];
    let information = [(libc::SOL_IP, libc::IP_PKTINFO), (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO)];
    let families = [("127.0.0.1:0", v4, information[0]), ("[::1]:0", v6, information[1])];
    for (address, options, (level, name)) in families.into_iter().filter(|one| support::here(one.0)) {
        let socket = UdpSocket::bind(address).expect(address);
        let set = |socket: &UdpSocket| {
            for (level, name, value) in options {
                support::set_option(socket, level, name, &value.to_ne_bytes())?;
                assert_eq!(support::int_option(socket, level, name)?, value, "{address} option {name}");
            }
            assert_eq!(support::int_option(socket, libc::SOL_SOCKET, libc::SO_PROTOCOL)?, libc::IPPROTO_UDP);
            Ok(())
        };
        let before =
            options.map(|(level, name, _)| support::int_option(&socket, level, name).expect("option"));
        let known = OnceLock::new();
        keeping_options(&socket, &known, set).expect("kept");
        let after =
            options.map(|(level, name, _)| support::int_option(&socket, level, name).expect("option"));
        assert_eq!(before, after, "{address}");
        assert_eq!(support::int_option(&socket, level, name).expect("option"), 1, "{address}");
        assert_eq!(socket.recv(&mut [0]).expect_err("nothing came").kind(), ErrorKind::WouldBlock);
        // What was made is known from then on.
        let next = UdpSocket::bind(address).expect(address);
        keeping_options(&next, &known, |_| panic!("it was made before")).expect("kept");
        assert_eq!(support::int_option(&next, level, name).expect("option"), 1, "{address}");
    }
}
