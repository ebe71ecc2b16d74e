//! What the network says of a connected socket's peer is queued, taken out, and leaves nothing behind; nothing
//! forged breaks the parser.
#![cfg(target_os = "linux")]

mod support;

use std::io::ErrorKind;
use std::net::UdpSocket;

use shardgram_sys::accept::{connected, take_errors};
use shardgram_sys::{AcceptMode, ErrorOrigin, NetworkError, SocketOptions};
use support::accept::{client, listen, loopbacks, side_group};

/// The sockets of a listener, and one connected to a peer that is there no more.
fn deserted(at: std::net::SocketAddr, mode: AcceptMode) -> (Vec<UdpSocket>, UdpSocket) {
    let (local, listeners) = listen(at, 1, &SocketOptions::default());
    let (peer, name) = client(local);
    let socket = connected(mode, local, name, &SocketOptions::default()).expect("connected");
    drop(peer);
    (listeners, socket)
}

fn modes() -> Vec<AcceptMode> {
    match side_group() {
        true => vec![AcceptMode::SideGroup, AcceptMode::SameGroup],
        false => vec![AcceptMode::SameGroup],
    }
}

/// Sends until so many have left: one that meets the error of an earlier one does not.
fn send(socket: &UdpSocket, count: usize) {
    let mut left = 0;
    while left < count {
        match socket.send(b"anybody?") {
            Ok(_) => left += 1,
            Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionRefused),
        }
    }
}

#[test]
fn a_refusal_is_queued_with_its_type_and_code() {
    for at in loopbacks() {
        for mode in modes() {
            let (_listeners, socket) = deserted(at, mode);
            assert_eq!(take_errors(&socket, 10), []);
            send(&socket, 3);
            let (origin, kind, code) =
                if at.is_ipv4() { (ErrorOrigin::Icmp, 3, 3) } else { (ErrorOrigin::Icmpv6, 1, 4) };
            let refused = NetworkError { origin, errno: libc::ECONNREFUSED, kind, code, info: 0 };
            assert_eq!(take_errors(&socket, 10), [refused; 3], "{mode}");
            assert!(socket.take_error().expect("SO_ERROR").is_none(), "and none is pending");
            assert_eq!(take_errors(&socket, 10), []);
        }
    }
}

#[test]
fn what_is_left_says_so_again() {
    for at in loopbacks() {
        let (_listeners, socket) = deserted(at, modes()[0]);
        send(&socket, 10);
        for left in [6, 2] {
            assert_eq!(take_errors(&socket, 4).len(), 4);
            let error = socket.recv(&mut [0; 8]).expect_err("it is told before anything is waited for");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{left} are left");
        }
        assert_eq!(take_errors(&socket, 4).len(), 2);
        socket.set_nonblocking(true).expect("fcntl");
        let error = socket.recv(&mut [0; 8]).expect_err("nothing comes");
        assert_eq!(error.kind(), ErrorKind::WouldBlock);
    }
}

#[test]
fn a_send_that_is_too_long_is_queued_as_this_host_s() {
    let at = "127.0.0.1:0".parse().expect("address");
    let (local, _listeners) = listen(at, 1, &SocketOptions::default());
    let (peer, name) = client(local);
    let socket = connected(modes()[0], local, name, &SocketOptions::default()).expect("connected");
    let error = socket.send(&[0; 65_520]).expect_err("longer than IPv4 carries");
    assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
    let said = take_errors(&socket, 10);
    assert!(
        matches!(said[..], [NetworkError { origin: ErrorOrigin::Local, errno: libc::EMSGSIZE, info, .. }] if info > 0),
        "{said:?}"
    );
    socket.send(b"short").expect("it goes on");
    assert_eq!(peer.recv(&mut [0; 8]).expect("it comes"), 5);
}

/// A control message of an error queue as the kernel lays it out: a header, `struct sock_extended_err`, and the
/// address of who said it.
fn message(level: i32, kind: i32, origin: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(48usize.to_ne_bytes());
    bytes.extend(level.to_ne_bytes());
    bytes.extend(kind.to_ne_bytes());
    bytes.extend((libc::EMSGSIZE as u32).to_ne_bytes());
    bytes.extend([origin, 3, 4, 0]);
    bytes.extend(1_400u32.to_ne_bytes());
    bytes.resize(48, 0);
    bytes
}

#[test]
fn other_things_of_the_queue_are_no_errors() {
    let errno = libc::EMSGSIZE;
    let said = NetworkError { origin: ErrorOrigin::Icmp, errno, kind: 3, code: 4, info: 1_400 };
    let icmp = message(libc::SOL_IP, libc::IP_RECVERR, libc::SO_EE_ORIGIN_ICMP);
    assert_eq!(NetworkError::parse(&icmp), Some(said));
    let stamp = message(libc::SOL_IP, libc::IP_RECVERR, libc::SO_EE_ORIGIN_TIMESTAMPING);
    assert_eq!(NetworkError::parse(&stamp), None);
    let before = message(libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS, 0);
    assert_eq!(NetworkError::parse(&before), None);
    assert_eq!(NetworkError::parse(&[before, icmp].concat()), Some(said), "others come first");
    assert_eq!(NetworkError::parse(&[]), None);
}

#[test]
fn random_bytes_and_cuts_never_panic() {
    let whole = message(libc::SOL_IPV6, libc::IPV6_RECVERR, libc::SO_EE_ORIGIN_ICMP6);
    for cut in 0..whole.len() {
        assert_eq!(NetworkError::parse(&whole[..cut]), None, "cut at {cut}");
    }
    let mut random = support::Random::seeded("--test network_errors");
    for _ in 0..100_000 {
        let mut bytes = [message(libc::SOL_IP, libc::IP_RECVERR, 2), whole.clone()].concat();
        for _ in 0..1 + random.below(8) {
            let at = random.below(bytes.len());
            random.fill(&mut bytes[at..=at]);
        }
        let (start, len) = (random.below(8), random.below(88));
        let _ = NetworkError::parse(&bytes[start..start + len]);
    }
}
