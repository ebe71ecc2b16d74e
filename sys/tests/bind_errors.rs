//! Each refusal has its own error, and the message says what to do.
#![cfg(target_os = "linux")]

mod support;

use std::io;
use std::sync::Arc;

use shardgram_sys::{BindError, ListenerGroup, SocketOptions, socket};

fn refusal(address: &str, shards: u16) -> BindError {
    ListenerGroup::bind(address.parse().expect(address), shards, &SocketOptions::default())
        .expect_err(address)
}

#[test]
fn no_shards() {
    assert!(matches!(refusal("127.0.0.1:0", 0), BindError::NoShards));
}

#[test]
fn broadcast_and_multicast_addresses() {
    for address in ["255.255.255.255:0", "127.255.255.255:0", "224.0.0.251:5353", "[ff02::fb]:5353"] {
        let error = refusal(address, 1);
        assert!(matches!(error, BindError::NotUnicast { .. }), "{address}: {error}");
    }
}

#[test]
fn a_link_local_address_without_its_interface() {
    assert!(matches!(refusal("[fe80::1]:0", 1), BindError::ScopeMissing { .. }));
}

#[test]
fn an_address_of_another_host() {
    for address in ["192.0.2.1:0", "[2001:db8::1]:0"].into_iter().filter(|address| support::here(address)) {
        let error = refusal(address, 1);
        assert!(matches!(error, BindError::AddressNotAvailable { .. }), "{address}: {error}");
        assert!(error.to_string().contains(address) && error.to_string().contains("`ip addr`"), "{error}");
    }
}

#[test]
fn a_privileged_port() {
    let everyones = || support::sysctl("net/ipv4/ip_unprivileged_port_start") <= 80;
    // Containers often let everyone have low ports; a new network namespace begins with the default.
    if everyones() && (!support::enter_own_network() || everyones()) {
        support::skip::record("net.ipv4.ip_unprivileged_port_start lets everyone have low ports");
        return;
    }
    support::without_privileges(|| {
        let error = refusal("127.0.0.1:80", 2);
        assert!(matches!(error, BindError::PermissionDenied { .. }), "{error}");
    });
}

#[test]
fn a_hook_that_fails() {
    let options = SocketOptions {
        hook: Some(Arc::new(|_, _| Err(io::Error::other("no such mark")))),
        ..SocketOptions::default()
    };
    let error = ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 1, &options).expect_err("hook");
    assert!(matches!(error, BindError::Hook { .. }), "{error}");
    assert!(error.to_string().contains("no such mark"), "{error}");
}

#[test]
fn an_endpoint_of_the_other_family() {
    let (bind, peer) = ("127.0.0.1:0".parse().expect("bind"), "[::1]:9".parse().expect("peer"));
    let error = socket::endpoint(Some(bind), peer, &SocketOptions::default()).expect_err("families");
    assert!(matches!(error, BindError::FamilyMismatch { .. }), "{error}");
}
