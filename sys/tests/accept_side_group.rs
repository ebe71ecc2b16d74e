//! Beside the listeners' group a peer has a socket that gets what it sends, and nothing else.
#![cfg(target_os = "linux")]

mod support;

use std::net::{SocketAddr, UdpSocket};

use shardgram_sys::accept::connected;
use shardgram_sys::{AcceptMode, SocketOptions, flow_shard};
use support::accept::{all_drained, client, listen, loopbacks, side_group};

/// Every datagram of `from` comes out of `socket`.
fn assert_gets(socket: &UdpSocket, from: &UdpSocket, to: SocketAddr) {
    for payload in [&b"one"[..], b"", b"three"] {
        from.send_to(payload, to).expect("send");
        let received = support::receive(socket).expect("receive");
        assert_eq!(received.payload, payload);
        assert_eq!(received.source, from.local_addr().expect("name"));
    }
}

#[test]
fn peers_get_their_sockets_and_strangers_the_listeners() {
    if !side_group() {
        return;
    }
    let options = SocketOptions::default();
    for at in loopbacks() {
        for shards in [1, 2] {
            let (local, listeners) = listen(at, shards, &options);
            let peers: Vec<_> = (0..20).map(|_| client(local)).collect();
            let accept = |name| connected(AcceptMode::SideGroup, local, name, &options).expect("accepted");
            let accepted: Vec<_> = peers.iter().map(|(_, name)| accept(*name)).collect();
            for (socket, (peer, name)) in accepted.iter().zip(&peers) {
                assert_eq!(socket.local_addr().expect("local"), local);
                assert_eq!(socket.peer_addr().expect("peer"), *name);
                let family = support::int_option(socket, libc::SOL_SOCKET, libc::SO_DOMAIN).expect("family");
                assert_eq!(family, if local.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 });
                assert_gets(socket, peer, local);
                // The answer comes from the address the peer wrote to.
                socket.send(b"answer").expect("send");
                assert_eq!(support::receive(peer).expect("answer").source, local);
            }
            // Strangers have the peers' address and other ports.
            for (stranger, name) in (0..20).map(|_| client(local)) {
                assert_gets(&listeners[usize::from(flow_shard(name, shards))], &stranger, local);
            }
            assert!(all_drained(accepted.iter().chain(&listeners)));
        }
    }
}

#[test]
fn a_peer_whose_socket_is_closed_is_back_with_the_listeners() {
    if !side_group() {
        return;
    }
    let options = SocketOptions::default();
    for at in loopbacks() {
        let (local, listeners) = listen(at, 2, &options);
        let (peer, name) = client(local);
        for _ in 0..3 {
            let accepted = connected(AcceptMode::SideGroup, local, name, &options).expect("accepted");
            assert_gets(&accepted, &peer, local);
            drop(accepted);
            assert_gets(&listeners[usize::from(flow_shard(name, 2))], &peer, local);
        }
    }
}

#[test]
fn it_works_beside_the_wildcard_too() {
    if !side_group() {
        return;
    }
    let options = SocketOptions::default();
    for (wildcard, at) in [("0.0.0.0:0", "127.0.0.1"), ("[::]:0", "::1")] {
        if !support::here(wildcard) {
            continue;
        }
        let mut group = shardgram_sys::ListenerGroup::bind(wildcard.parse().expect(wildcard), 2, &options)
            .expect("wildcard");
        let _kept = group.take_sockets();
        let mut beside = group.bind_beside(at.parse().expect(at), 0, &options).expect("beside");
        let (local, listeners) = (beside.local_addr(), beside.take_sockets());
        let (peer, name) = client(local);
        let accepted = connected(AcceptMode::SideGroup, local, name, &options).expect("accepted");
        assert_gets(&accepted, &peer, local);
        let (stranger, name) = client(local);
        assert_gets(&listeners[usize::from(flow_shard(name, 2))], &stranger, local);
    }
}
