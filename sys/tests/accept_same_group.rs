//! In the listeners' group a peer has a socket too, and the steering program keeps strangers away from it.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::accept::connected;
use shardgram_sys::{AcceptMode, SocketOptions, flow_shard};
use support::accept::{all_drained, client, listen, loopbacks};

#[test]
fn peers_get_their_sockets_and_strangers_the_listeners() {
    let options = SocketOptions::default();
    for at in loopbacks() {
        for shards in [1, 2] {
            let (local, listeners) = listen(at, shards, &options);
            let peers: Vec<_> = (0..20).map(|_| client(local)).collect();
            let accept = |name| connected(AcceptMode::SameGroup, local, name, &options).expect("accepted");
            let accepted: Vec<_> = peers.iter().map(|(_, name)| accept(*name)).collect();
            for (socket, (peer, name)) in accepted.iter().zip(&peers) {
                assert_eq!(socket.local_addr().expect("local"), local);
                assert_eq!(socket.peer_addr().expect("peer"), *name);
                peer.send_to(b"mine", local).expect("send");
                assert_eq!(support::receive(socket).expect("receive").source, *name);
                socket.send(b"answer").expect("send");
                assert_eq!(support::receive(peer).expect("answer").source, local);
            }
            for (stranger, name) in (0..50).map(|_| client(local)) {
                stranger.send_to(b"strange", local).expect("send");
                let listener = &listeners[usize::from(flow_shard(name, shards))];
                assert_eq!(support::receive(listener).expect("receive").source, name);
            }
            assert!(all_drained(accepted.iter().chain(&listeners)));
        }
    }
}
