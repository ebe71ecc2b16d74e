//! Addresses and ports that are there and cannot be had now: each refusal says which of them it is.
#![cfg(target_os = "linux")]

mod support;

use std::fs;
use std::net::UdpSocket;
use std::process::Command;

use shardgram_sys::{BindError, ListenerGroup, SocketOptions};

fn refusal(address: &str) -> BindError {
    let address = address.parse().expect(address);
    ListenerGroup::bind(address, 2, &SocketOptions::default()).expect_err("it is refused")
}

fn ip(arguments: &str) {
    let status = Command::new("ip").args(arguments.split_whitespace()).status();
    assert!(status.expect("ip (iproute2)").success(), "ip {arguments}");
}

#[test]
fn an_address_that_is_tentative() {
    if !support::here("[::1]:0") || !support::enter_network_for_addresses() {
        return;
    }
    ip("link add v0 type veth peer name v1");
    ip("addr add fd88::1/64 dev v0");
    // The other end stays down: nobody can be asked, and the address stays tentative.
    ip("link set v0 up");
    let error = refusal("[fd88::1]:9");
    assert!(matches!(error, BindError::AddressTentative { .. }), "{error}");
    ip("addr del fd88::1/64 dev v0");
    assert!(matches!(refusal("[fd88::1]:9"), BindError::AddressNotAvailable { .. }));
}

#[test]
fn a_range_without_a_free_port() {
    if !support::enter_own_network() {
        return support::skip::record("no network namespace of its own for another range of ports");
    }
    fs::write("/proc/sys/net/ipv4/ip_local_port_range", "61000 61000").expect("our namespace");
    let _taken = UdpSocket::bind("127.0.0.1:61000").expect("a free port");
    let error = refusal("127.0.0.1:0");
    assert!(matches!(error, BindError::NoFreePort { .. }), "{error}");
}

#[test]
fn an_interface_that_is_not_there() {
    if support::here("[::1]:0") {
        let error = refusal("[fe80::1%471100]:9");
        assert!(matches!(error, BindError::NoSuchInterface { .. }), "{error}");
    }
}

#[test]
fn a_scope_that_says_nothing() {
    for address in ["[::%1]:9", "[::1%1]:9", "[2001:db8::1%1]:9"] {
        let error = refusal(address);
        assert!(matches!(error, BindError::ScopeWithoutUse { .. }), "{error}");
        assert!(error.to_string().starts_with(address), "{error}");
    }
}
