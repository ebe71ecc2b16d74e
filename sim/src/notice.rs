//! ICMP errors on their way, and what those know who were told.

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

use shardgram_core::PeerError;

/// Marks what arrives as a notice.
pub(crate) const NOTICE: u32 = 1 << 31;
/// Errors that wait in a raw socket, and for a shard.
pub(crate) const MOST_WAITING: usize = 1_024;
/// Path MTUs that are kept in mind.
const MOST_LEARNED: usize = 65_536;
/// How long: as Linux does (`mtu_expires`, ip-sysctl).
const LEARNED_FOR_NS: u64 = 600_000_000_000;

/// An ICMP error on its way.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Notice {
    /// Who sent the datagram it is about, and where that was to go.
    pub(crate) to: SocketAddr,
    pub(crate) about: SocketAddr,
    pub(crate) error: PeerError,
}

#[derive(Debug, Default)]
pub(crate) struct Notices {
    all: Vec<Notice>,
    free: Vec<u32>,
    /// What hosts have learned: the MTU from an address to another, and until when they believe it.
    learned: BTreeMap<(IpAddr, IpAddr), (u16, u64)>,
    /// What raw sockets were told.
    raw: BTreeMap<u32, VecDeque<(SocketAddr, PeerError)>>,
}

impl Notices {
    pub(crate) fn add(&mut self, notice: Notice) -> u32 {
        match self.free.pop() {
            Some(at) => {
                self.all[at as usize] = notice;
                at
            }
            None => {
                self.all.push(notice);
                self.all.len() as u32 - 1
            }
        }
    }

    pub(crate) fn take(&mut self, at: u32) -> Notice {
        self.free.push(at);
        self.all[at as usize]
    }

    /// The MTU a host believes a path to have.
    pub(crate) fn learned(&self, from: IpAddr, to: IpAddr, now_ns: u64) -> Option<u16> {
        self.learned.get(&(from, to)).filter(|(_, until)| *until > now_ns).map(|(mtu, _)| *mtu)
    }

    pub(crate) fn learn(&mut self, from: IpAddr, to: IpAddr, mtu: u16, now_ns: u64) {
        if self.learned.len() >= MOST_LEARNED {
            self.learned.pop_first();
        }
        self.learned.insert((from, to), (mtu, now_ns + LEARNED_FOR_NS));
    }

    /// A raw socket is told something about an address, if it has room.
    pub(crate) fn tell_raw(&mut self, socket: u32, about: SocketAddr, error: PeerError) {
        let heard = self.raw.entry(socket).or_default();
        if heard.len() < MOST_WAITING {
            heard.push_back((about, error));
        }
    }

    /// The next error a raw socket was told of, and about whom.
    pub(crate) fn raw_error(&mut self, socket: u32) -> Option<(SocketAddr, PeerError)> {
        self.raw.get_mut(&socket)?.pop_front()
    }
}
