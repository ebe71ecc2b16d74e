//! Groups whose sockets a socket hook binds to an interface, which goes and returns before anybody has looked.

use std::sync::Arc;
use std::time::Instant;

use shardgram_sys::interfaces::bound_interface;
use shardgram_sys::{SocketHook, SocketOptions};

use super::by_hand::ByHand;
use super::{Listening, SHARDS, address, ip, on_a_host};

fn bound_to_v0() -> SocketOptions {
    let hook: SocketHook = Arc::new(|socket, _| socket.bind_device(Some(b"v0")));
    SocketOptions { hook: Some(hook), ..SocketOptions::default() }
}

#[test]
fn they_are_bound_again() {
    on_a_host("made_anew::they_are_bound_again", || {
        let (ours, now) = (address("10.77.0.1"), Instant::now());
        let mut host = ByHand::under(address("0.0.0.0"), 64, bound_to_v0(), now);
        let interfaces = |host: &ByHand| {
            let sockets = host.shards.open[&ours].iter();
            sockets.map(|one| bound_interface(&one.socket)).collect::<Vec<_>>()
        };
        let before = interfaces(&host);
        host.list(now);
        assert!(host.shards.removed.is_empty(), "nothing has happened");
        ip("link del v0");
        ip("link add v0 type veth peer name v1");
        ip("address add 10.77.0.1/24 dev v0");
        host.list(now);
        assert!(host.shards.removed.contains(&(ours, true)), "{:?}", host.shards.removed);
        let after = interfaces(&host);
        assert!(after.len() == usize::from(SHARDS) && after.iter().all(|index| !before.contains(index)));
        host.shards.removed.clear();
        host.list(now);
        assert!(host.shards.removed.is_empty(), "that is all");
    });
}

#[test]
fn it_is_seen_of_an_interface_that_has_no_address() {
    on_a_host("made_anew::it_is_seen_of_an_interface_that_has_no_address", || {
        ip("address flush dev v0");
        let mut running = Listening::with(&bound_to_v0(), 64, &["0.0.0.0:0"]).start();
        let ours = address("127.0.0.1");
        ip("link del v0");
        ip("link add v0 type veth peer name v1");
        running.removed(0, ours);
        running.sockets.iter_mut().for_each(|of_shard| of_shard.retain(|one| one.local.is_none()));
        let added = running.added(0, ours);
        assert!(added.iter().all(|one| bound_interface(&one.socket) != 0));
    });
}
