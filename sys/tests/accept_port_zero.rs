//! A socket connected to port 0 would take everything from that host, so there is none.
#![cfg(target_os = "linux")]

mod support;

use std::net::SocketAddr;

use shardgram_sys::accept::connected;
use shardgram_sys::{AcceptMode, BindError, SocketOptions};

fn refusal(local: &str, peer: &str) -> [BindError; 2] {
    let (local, peer): (SocketAddr, SocketAddr) = (local.parse().expect(local), peer.parse().expect(peer));
    // A hook that is called means that a socket was made.
    let hook: shardgram_sys::SocketHook = std::sync::Arc::new(|_, _| panic!("a socket was made"));
    let options = SocketOptions { hook: Some(hook), ..SocketOptions::default() };
    [AcceptMode::SideGroup, AcceptMode::SameGroup]
        .map(|mode| connected(mode, local, peer, &options).expect_err("it is refused"))
}

#[test]
fn the_peers_port_is_refused() {
    for (local, peer) in [("127.0.0.1:9", "127.0.0.1:0"), ("[::1]:9", "[::1]:0")] {
        for error in refusal(local, peer) {
            assert!(matches!(error, BindError::PeerPortZero { .. }), "{error}");
            assert_eq!(error.errno(), libc::EINVAL);
            assert!(error.to_string().contains(peer), "{error}");
        }
    }
}

#[test]
fn the_local_address_must_be_one() {
    for (local, peer) in [("127.0.0.1:0", "127.0.0.1:9"), ("0.0.0.0:9", "127.0.0.1:9"), ("[::]:9", "[::1]:9")]
    {
        for error in refusal(local, peer) {
            assert!(matches!(error, BindError::NotSpecific { .. }), "{error}");
        }
    }
}

#[test]
fn families_and_forms_must_fit() {
    for error in refusal("127.0.0.1:9", "[::1]:9") {
        assert!(matches!(error, BindError::FamilyMismatch { .. }), "{error}");
    }
    for error in refusal("[::ffff:127.0.0.1]:9", "[::1]:9")
        .into_iter()
        .chain(refusal("[::1]:9", "[::ffff:127.0.0.1]:9"))
    {
        assert!(matches!(error, BindError::MappedAddress { .. }), "{error}");
    }
    for error in
        refusal("[fe80::1]:9", "[fe80::2%1]:9").into_iter().chain(refusal("[fe80::1%1]:9", "[fe80::2]:9"))
    {
        assert!(matches!(error, BindError::ScopeMissing { .. }), "{error}");
    }
}
