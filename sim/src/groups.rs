//! Who hears what is sent to many: multicast groups that sockets joined, and broadcasts.
//!
//! A node has one interface, whatever it is called, and is in one network with all others, so a datagram reaches every
//! member however many hops it may take. Its sender hears it too, if it is a member. While a node has no address of a
//! family its interface is down for that: it hears nothing then, and stays in its groups.

use std::net::{IpAddr, Ipv4Addr};

use shardgram_core::{JoinError, Membership};

/// A socket in a group.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Member {
    socket: u32,
    group: IpAddr,
    source: Option<IpAddr>,
}

/// In the order in which they joined, so that every run hears in the same order.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    members: Vec<Member>,
}

impl Groups {
    /// A socket of a node with these addresses joins a group.
    pub(crate) fn join(
        &mut self,
        socket: u32,
        host: &[IpAddr],
        membership: &Membership,
    ) -> Result<(), JoinError> {
        has_interface(host, membership)?;
        self.add(socket, membership.group(), membership.source())
    }

    /// It leaves one.
    pub(crate) fn part(
        &mut self,
        socket: u32,
        host: &[IpAddr],
        membership: &Membership,
    ) -> Result<(), JoinError> {
        has_interface(host, membership)?;
        self.leave(socket, membership.group(), membership.source())
    }

    /// Whatever the socket.
    pub(crate) fn add(
        &mut self,
        socket: u32,
        group: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<(), JoinError> {
        let conflicts = |one: &Member| {
            let either_any = one.source.is_none() || source.is_none();
            (one.socket, one.group) == (socket, group) && (either_any || one.source == source)
        };
        if self.members.iter().any(conflicts) {
            return Err(JoinError::AlreadyJoined);
        }
        self.members.push(Member { socket, group, source });
        Ok(())
    }

    pub(crate) fn leave(
        &mut self,
        socket: u32,
        group: IpAddr,
        source: Option<IpAddr>,
    ) -> Result<(), JoinError> {
        let member = Member { socket, group, source };
        let at = self.members.iter().position(|one| *one == member).ok_or(JoinError::NotJoined)?;
        self.members.remove(at);
        Ok(())
    }

    /// A socket is closed.
    pub(crate) fn forget(&mut self, socket: u32) {
        self.members.retain(|one| one.socket != socket);
    }

    /// The sockets that joined a group and hear this sender, each once.
    pub(crate) fn hearers(&self, group: IpAddr, from: IpAddr) -> impl Iterator<Item = u32> {
        let hears = move |one: &&Member| one.group == group && one.source.is_none_or(|source| source == from);
        // Of one socket at most one source is this sender.
        self.members.iter().filter(hears).map(|one| one.socket)
    }
}

/// Whether a host with these addresses has the interface that is named, if one is.
fn has_interface(host: &[IpAddr], membership: &Membership) -> Result<(), JoinError> {
    match membership.interface() {
        Some(one) if one.as_address().is_some_and(|ip| !host.contains(&ip)) => {
            Err(JoinError::UnknownInterface(one))
        }
        _ => Ok(()),
    }
}

/// Whether a datagram to this address is for many.
#[inline]
pub(crate) fn is_for_many(ip: IpAddr) -> bool {
    ip.is_multicast() || is_broadcast(ip)
}

/// Of broadcast addresses there is the limited one (RFC 919 section 7).
#[inline]
pub(crate) fn is_broadcast(ip: IpAddr) -> bool {
    ip == IpAddr::V4(Ipv4Addr::BROADCAST)
}
