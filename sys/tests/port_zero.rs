//! Port 0 gives all shards one free port.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::{ListenerGroup, SocketOptions};

#[test]
fn all_shards_have_the_port_that_was_found() {
    for address in
        ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].into_iter().filter(|address| support::here(address))
    {
        let address = address.parse().expect(address);
        for shards in [1, 2, 5, 64] {
            let mut group = ListenerGroup::bind(address, shards, &SocketOptions::default()).expect("group");
            assert_ne!(group.local_addr().port(), 0);
            assert_eq!(group.local_addr().ip(), address.ip());
            assert_eq!(group.is_wildcard(), address.ip().is_unspecified());
            assert_eq!(group.shards(), shards);
            let sockets = group.take_sockets();
            assert_eq!(sockets.len(), usize::from(shards));
            for socket in &sockets {
                assert_eq!(socket.local_addr().expect("name"), group.local_addr());
            }
            assert!(group.take_sockets().is_empty());
        }
    }
}

#[test]
fn many_groups_never_share_a_port() {
    let address = "127.0.0.1:0".parse().expect("address");
    let bind = |_| ListenerGroup::bind(address, 2, &SocketOptions::default()).expect("group");
    let groups: Vec<_> = (0..200).map(bind).collect();
    let mut ports: Vec<u16> = groups.iter().map(|group| group.local_addr().port()).collect();
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), groups.len());
}
