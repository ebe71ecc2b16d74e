//! The hook sees every socket, with its options set and before it is bound.
#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use shardgram_sys::{ListenerGroup, SocketOptions, socket};

fn recording(calls: &Arc<Mutex<Vec<SocketAddr>>>) -> SocketOptions {
    let calls = Arc::clone(calls);
    SocketOptions {
        receive_buffer: 64 * 1024,
        hook: Some(Arc::new(move |socket, address| {
            let name = socket.local_addr()?.as_socket().expect("a name");
            assert_eq!(name.port(), 0, "not bound yet");
            assert_eq!(socket.recv_buffer_size()?, 2 * 64 * 1024, "options are set");
            calls.lock().expect("calls").push(address);
            socket.set_tos_v4(0xb8)
        })),
        ..SocketOptions::default()
    }
}

#[test]
fn each_listener_is_seen_once() {
    let calls = Arc::default();
    let options = recording(&calls);
    let asked: SocketAddr = "127.0.0.1:0".parse().expect("address");
    let mut group = ListenerGroup::bind(asked, 3, &options).expect("group");
    // The first one is asked for any port, the others for the one it got.
    assert_eq!(*calls.lock().expect("calls"), [asked, group.local_addr(), group.local_addr()]);
    for member in group.take_sockets() {
        assert_eq!(support::int_option(&member, libc::SOL_IP, libc::IP_TOS).expect("option"), 0xb8);
    }
}

#[test]
fn a_client_endpoint_is_seen_too() {
    let calls = Arc::default();
    let peer = "127.0.0.1:9".parse().expect("address");
    let client = socket::endpoint(None, peer, &recording(&calls)).expect("endpoint");
    assert_eq!(*calls.lock().expect("calls"), ["0.0.0.0:0".parse().expect("address")]);
    assert!(client.local_addr().expect("name").ip().is_unspecified());
    let flags = support::int_option(&client, libc::SOL_IP, libc::IP_PKTINFO).expect("option");
    assert_eq!(flags, 0, "no packet info for clients");
}
