//! Groups whose sockets a socket hook binds to an interface, which goes and returns before anybody has looked.

use std::sync::Arc;
use std::time::Instant;

use shardgram_sys::SocketOptions;
use shardgram_sys::interfaces::bound_interface;

use super::by_hand::ByHand;
use super::{SHARDS, address, ip, on_a_host};

#[test]
fn they_are_bound_again() {
    on_a_host("made_anew::they_are_bound_again", || {
        let (ours, now) = (address("10.77.0.1"), Instant::now());
        let options = SocketOptions {
            hook: Some(Arc::new(|socket, _| socket.bind_device(Some(b"v0")))),
            ..SocketOptions::default()
        };
        let mut host = ByHand::under(address("0.0.0.0"), 64, options, now);
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
