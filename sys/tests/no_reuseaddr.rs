//! No member ever has SO_REUSEADDR, which would let others steal datagrams.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use shardgram_sys::{ListenerGroup, SocketOptions};

fn assert_reuse_options(group: &mut ListenerGroup) {
    for member in group.take_sockets() {
        let option = |name| support::int_option(&member, libc::SOL_SOCKET, name).expect("option");
        assert_eq!(option(libc::SO_REUSEADDR), 0);
        assert_eq!(option(libc::SO_REUSEPORT), 1);
    }
}

#[test]
fn members_share_by_port_only() {
    for address in
        ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].into_iter().filter(|address| support::here(address))
    {
        for shards in [1, 4] {
            let address = address.parse().expect(address);
            assert_reuse_options(
                &mut ListenerGroup::bind(address, shards, &SocketOptions::default()).expect("group"),
            );
        }
    }
}

#[test]
fn a_hook_cannot_loosen_it() {
    let options = SocketOptions {
        hook: Some(Arc::new(|socket, _| {
            socket.set_reuse_address(true)?;
            socket.set_reuse_port(true)
        })),
        ..SocketOptions::default()
    };
    let wildcard = "0.0.0.0:0".parse().expect("address");
    let mut group = ListenerGroup::bind(wildcard, 3, &options).expect("group");
    let mut beside = group.bind_beside([127, 0, 0, 1].into(), 0, &options).expect("beside");
    assert!(ListenerGroup::bind(group.local_addr(), 1, &options).is_err(), "still exclusive");
    assert_reuse_options(&mut group);
    assert_reuse_options(&mut beside);
}
