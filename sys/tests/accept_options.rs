//! A peer's socket has the options that were asked for, whatever family it was opened in.
#![cfg(target_os = "linux")]

mod support;

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::sync::{Arc, Mutex};

use shardgram_core::PathMtu;
use shardgram_sys::accept::{connected, send_queue_limit};
use shardgram_sys::socket::{set_traffic_class, traffic_class};
use shardgram_sys::{AcceptMode, BindError, SocketHook, SocketOptions};
use support::accept::{client, listen, loopbacks, side_group};
use support::int_option;

const BUFFER: usize = 96 * 1024;

/// The modes that work here, with each address.
fn ways() -> Vec<(AcceptMode, SocketAddr)> {
    let modes = if side_group() {
        &[AcceptMode::SideGroup, AcceptMode::SameGroup][..]
    } else {
        &[AcceptMode::SameGroup]
    };
    modes.iter().flat_map(|mode| loopbacks().map(move |at| (*mode, at))).collect()
}

#[test]
fn buffers_trains_and_flags() {
    let options = SocketOptions {
        receive_buffer: BUFFER,
        send_buffer: 2 * BUFFER,
        receive_trains: true,
        packet_info: true,
        ..SocketOptions::default()
    };
    for (mode, at) in ways() {
        let (local, _listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        let of_socket = |option| int_option(&socket, libc::SOL_SOCKET, option).expect("option");
        assert_eq!(of_socket(libc::SO_RCVBUF), 2 * BUFFER as i32);
        assert_eq!(send_queue_limit(&socket).expect("limit"), 4 * BUFFER);
        assert_eq!((of_socket(libc::SO_REUSEPORT), of_socket(libc::SO_REUSEADDR)), (1, 0));
        let level = if local.is_ipv4() {
            (libc::SOL_IP, libc::IP_PKTINFO)
        } else {
            (libc::SOL_IPV6, libc::IPV6_RECVPKTINFO)
        };
        assert_eq!(int_option(&socket, level.0, level.1).expect("packet info"), 0, "it has one address");
        assert_flags(&socket);

        // Two segments leave as one, and come in as one.
        support::set_option(&peer, libc::SOL_UDP, libc::UDP_SEGMENT, &600u32.to_ne_bytes())
            .expect("UDP_SEGMENT");
        peer.send_to(&[7; 1200], local).expect("send");
        let received = support::receive(&socket).expect("receive");
        assert_eq!((received.payload.len(), received.control.segment_size), (1200, Some(600)));
    }
}

#[test]
fn marks_times_and_path_mtu() {
    let on = SocketOptions {
        ecn: true,
        receive_timestamps: true,
        path_mtu: PathMtu::Refuse,
        ..SocketOptions::default()
    };
    for (mode, at) in ways() {
        let (level, mtu) = match at {
            SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_MTU_DISCOVER),
            SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
        };
        for options in [SocketOptions::default(), on.clone()] {
            let (local, _listeners) = listen(at, 1, &options);
            let (peer, name) = client(local);
            let socket = connected(mode, local, name, &options).expect("accepted");
            set_traffic_class(&peer, at.is_ipv6(), 0xb8 | 3).expect("a mark");
            peer.send_to(b"marked", local).expect("send");
            let control = support::receive(&socket).expect("receive").control;
            assert_eq!((control.ecn, control.time.is_some()), (options.ecn.then_some(3), options.ecn));
            let refuses = int_option(&socket, level, mtu).expect("option") == libc::IP_PMTUDISC_DO;
            assert_eq!(refuses, options.path_mtu == PathMtu::Refuse, "{mode} {local}");

            let own = traffic_class(&socket, at.is_ipv6()).expect("read");
            set_traffic_class(&socket, at.is_ipv6(), own | 1).expect("set");
            assert_eq!((own, traffic_class(&socket, at.is_ipv6()).expect("read")), (0, 1));
        }
    }
}

#[allow(unsafe_code)]
fn assert_flags(socket: &impl AsRawFd) {
    // SAFETY: fcntl takes no pointer for these requests.
    let (descriptor, file) = unsafe {
        (libc::fcntl(socket.as_raw_fd(), libc::F_GETFD), libc::fcntl(socket.as_raw_fd(), libc::F_GETFL))
    };
    assert_eq!(descriptor & libc::FD_CLOEXEC, libc::FD_CLOEXEC);
    assert_eq!(file & libc::O_NONBLOCK, 0);
}

#[test]
fn buffers_beyond_the_cap_are_cut_down_without_an_error() {
    support::without_privileges(|| {
        let options =
            SocketOptions { receive_buffer: 1 << 30, send_buffer: 1 << 30, ..SocketOptions::default() };
        let (local, _listeners) = listen("127.0.0.1:0".parse().expect("address"), 1, &options);
        let (_peer, name) = client(local);
        // The second one goes the short way.
        for _ in 0..2 {
            let socket = connected(AcceptMode::SameGroup, local, name, &options).expect("accepted");
            let granted = int_option(&socket, libc::SOL_SOCKET, libc::SO_RCVBUF).expect("option");
            let listeners = int_option(&_listeners[0], libc::SOL_SOCKET, libc::SO_RCVBUF).expect("option");
            assert_eq!(granted, listeners);
        }
    });
}

#[test]
fn the_hook_sees_the_socket_before_it_is_bound() {
    for (mode, at) in ways() {
        let calls: Arc<Mutex<Vec<SocketAddr>>> = Arc::default();
        let seen = Arc::clone(&calls);
        let hook: SocketHook = Arc::new(move |socket, address| {
            let name = socket.local_addr()?.as_socket().expect("a name");
            assert_eq!(name.port(), 0, "not bound yet");
            seen.lock().expect("calls").push(address);
            socket.set_reuse_address(true)?;
            // The class of expedited forwarding, and an ECN mark that shows on the other side.
            if address.is_ipv4() { socket.set_tos_v4(0xb8 | 2) } else { socket.set_tclass_v6(0xb8 | 2) }
        });
        let options = SocketOptions { hook: Some(hook), ..SocketOptions::default() };
        let (local, _listeners) = listen(at, 1, &SocketOptions::default());
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        assert_eq!(*calls.lock().expect("calls"), [local]);
        assert_eq!(int_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR).expect("option"), 0);

        let (class, receive) = if local.is_ipv4() {
            ((libc::SOL_IP, libc::IP_TOS), (libc::SOL_IP, libc::IP_RECVTOS))
        } else {
            ((libc::SOL_IPV6, libc::IPV6_TCLASS), (libc::SOL_IPV6, libc::IPV6_RECVTCLASS))
        };
        assert_eq!(int_option(&socket, class.0, class.1).expect("option"), 0xb8 | 2);
        support::set_option(&peer, receive.0, receive.1, &1i32.to_ne_bytes()).expect("option");
        socket.send(b"marked").expect("send");
        assert_eq!(support::receive(&peer).expect("receive").control.ecn, Some(2), "{mode} {local}");
    }
}

#[test]
fn a_hook_that_fails() {
    for (mode, at) in ways() {
        let (local, _listeners) = listen(at, 1, &SocketOptions::default());
        let (_peer, name) = client(local);
        let options = SocketOptions {
            hook: Some(Arc::new(|_, _| Err(io::Error::other("no such mark")))),
            ..SocketOptions::default()
        };
        let error = connected(mode, local, name, &options).expect_err("the hook fails");
        assert!(matches!(error, BindError::Hook { address, .. } if address == local), "{error}");
    }
}
