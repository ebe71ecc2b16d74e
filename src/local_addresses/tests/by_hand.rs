//! Groups without the threads that tend them, so that the time is the test's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use shardgram_sys::{BindError, ListenerGroup, ListenerSocket, SocketOptions, WantedAddress};

use super::super::groups::{Groups, Tell};
use super::SHARDS;

/// The groups of one wildcard, and shards that close at once what is removed.
pub(super) struct ByHand {
    groups: Groups,
    pub(super) shards: Shards,
}

#[derive(Default)]
pub(super) struct Shards {
    pub(super) open: BTreeMap<IpAddr, Vec<ListenerSocket>>,
    /// What was removed, and whether the host has lost it.
    pub(super) removed: Vec<(IpAddr, bool)>,
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
        assert!(self.open.remove(&ip).is_some(), "{ip} has a group");
        self.removed.push((ip, lost));
    }

    fn refused(&mut self, address: SocketAddr, error: &BindError) {
        panic!("{address}: {error}");
    }
}

impl ByHand {
    pub(super) fn under(wildcard: IpAddr, cap: usize, options: SocketOptions, now: Instant) -> Self {
        let wildcard = ListenerGroup::bind((wildcard, 0).into(), SHARDS, &options).expect("a port");
        let mut groups = Groups::new(cap, options);
        groups.beside(0, wildcard);
        let mut this = Self { groups, shards: Shards::default() };
        this.list(now);
        this
    }

    /// Lists the host's addresses, and does what is to be done.
    pub(super) fn list(&mut self, now: Instant) {
        self.groups.update(now).expect("a list");
        self.settle(now);
    }

    pub(super) fn ask(&mut self, ip: IpAddr, often: bool, now: Instant) {
        self.groups.ask(WantedAddress { listen: 0, ip, often }, now, &mut self.shards);
        self.settle(now);
    }

    fn settle(&mut self, now: Instant) {
        self.groups.settle(now, &mut self.shards);
        while let Ok(ended) = self.groups.endings().try_recv() {
            self.groups.ended(ended, now);
            self.groups.settle(now, &mut self.shards);
        }
    }

    /// Something has come to an address by one shard.
    pub(super) fn count(&self, ip: IpAddr, shard: usize) {
        self.shards.open[&ip][shard].usage.as_ref().expect("a local address").count();
    }

    pub(super) fn has(&self, ip: IpAddr) -> bool {
        self.shards.open.contains_key(&ip)
    }
}
