//! Datagrams longer than the path's MTU are fragmented, not refused, unless their owner says so.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use shardgram_core::{PathMtu, PeerError};
use shardgram_sys::SocketOptions;
use shardgram_sys::socket::set_path_mtu;
use support::{Bound, Seen, client, config, echo_at, here, in_namespace, ip, pattern, receive};

#[test]
fn long_datagrams_cross_a_short_mtu() {
    if !in_namespace("long_datagrams_cross_a_short_mtu") {
        return;
    }
    ip("link set lo mtu 1500");
    for address in
        ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].into_iter().filter(|address| here(address))
    {
        let shards = echo_at(address);
        let mut to = shards.address();
        let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let client = client(from);
        to.set_ip(client.local_addr().expect("address").ip());
        for size in [1472, 9000, 65_507] {
            client.send_to(&pattern(size), to).expect("send");
            assert_eq!(receive(&client).0, pattern(size), "{size} bytes to {address}");
        }
        shards.stop();
    }
}

#[test]
fn a_hook_that_forbids_it_is_obeyed() {
    if !in_namespace("a_hook_that_forbids_it_is_obeyed") {
        return;
    }
    ip("link set lo mtu 1500");
    for address in ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| here(address)) {
        let hook = Arc::new(|socket: &socket2::Socket, at: std::net::SocketAddr| {
            set_path_mtu(socket, at.is_ipv6(), PathMtu::Refuse)
        });
        let options = SocketOptions { hook: Some(hook), ..SocketOptions::default() };
        let shards = Bound::new(config(&[address]), options).start(true);
        let client = client(address);
        for size in [1_400, 9_000] {
            client.send_to(&pattern(size), shards.address()).expect("send");
            shards.next_datagram();
        }
        assert_eq!(receive(&client).0, pattern(1_400), "{address}");
        let error = PeerError::TooLong { mtu: None };
        assert_eq!(shards.next(), Seen::Error(error), "{address}");
        assert_eq!(shards.stop().send_failed_too_long, 1);
    }
}
