//! Groups whose sockets a socket hook binds to an interface, which goes and returns before anybody has looked.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use shardgram_sys::interfaces::bound_interface;
use shardgram_sys::{BindError, ListenerGroup, ListenerSocket, SocketOptions};

use super::super::groups::{Groups, Tell};
use super::{SHARDS, address, ip, on_a_host};

/// What it was told, as shards do it: what is removed is closed.
#[derive(Default)]
struct Shards {
    open: BTreeMap<IpAddr, Vec<ListenerSocket>>,
    lost: Vec<IpAddr>,
}

impl Tell for Shards {
    fn has_room(&self) -> bool {
        true
    }

    fn added(&mut self, sockets: Vec<ListenerSocket>) {
        let at = sockets[0].local.expect("a local address").ip();
        assert!(self.open.insert(at, sockets).is_none(), "{at} has a group");
    }

    fn removed(&mut self, _: u16, ip: IpAddr, lost: bool) {
        assert!(self.open.remove(&ip).is_some() && lost, "{ip} has gone with its interface");
        self.lost.push(ip);
    }

    fn refused(&mut self, address: SocketAddr, error: &BindError) {
        panic!("{address}: {error}");
    }
}

#[test]
fn they_are_bound_again() {
    on_a_host("made_anew::they_are_bound_again", || {
        let options = SocketOptions {
            hook: Some(Arc::new(|socket, _| socket.bind_device(Some(b"v0")))),
            ..SocketOptions::default()
        };
        let wildcard = ListenerGroup::bind(([0, 0, 0, 0], 0).into(), SHARDS, &options).expect("a port");
        let mut groups = Groups::new(64, options);
        groups.beside(0, wildcard);
        let mut shards = Shards::default();
        let settle = |groups: &mut Groups, shards: &mut Shards| {
            groups.update(Instant::now()).expect("a list");
            groups.settle(Instant::now(), shards);
            while let Ok(ended) = groups.endings().try_recv() {
                groups.ended(ended, Instant::now());
                groups.settle(Instant::now(), shards);
            }
        };
        let interfaces = |shards: &Shards| {
            let sockets = &shards.open[&address("10.77.0.1")];
            sockets.iter().map(|one| bound_interface(&one.socket)).collect::<Vec<_>>()
        };
        settle(&mut groups, &mut shards);
        let before = interfaces(&shards);
        settle(&mut groups, &mut shards);
        assert!(shards.lost.is_empty(), "nothing has happened");
        ip("link del v0");
        ip("link add v0 type veth peer name v1");
        ip("address add 10.77.0.1/24 dev v0");
        settle(&mut groups, &mut shards);
        assert!(shards.lost.contains(&address("10.77.0.1")), "{:?}", shards.lost);
        let after = interfaces(&shards);
        assert!(after.len() == usize::from(SHARDS) && after.iter().all(|index| !before.contains(index)));
        shards.lost.clear();
        settle(&mut groups, &mut shards);
        assert!(shards.lost.is_empty(), "that is all");
    });
}
