//! Groups that handlers join and leave while they run, and whose datagrams are handled where they arrive.
//!
//! The kernel hands what is sent to many to every socket of the port that hears it, and asks no steering program. So a
//! group is joined with the socket of one shard, and what comes is forwarded to the owner of its sender like everything
//! else. Where every shard joined it each copy stays where it came; peers it makes may then live on a shard that does
//! not own them.
//!
//! What one sender writes to a group and to an address of this host comes by two sockets, in no order.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr};

use crate::contract::driver::Driver;
use crate::types::datagram::{Meta, SocketId};
use crate::types::endpoint::Via;
use crate::types::multicast::{Hearers, JoinError, MAX_MEMBERSHIPS, Membership};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Join,
    Leave,
}

/// What a handler has asked for.
#[derive(Debug)]
struct Request {
    what: What,
    via: Via,
    /// Of an endpoint it may be another's by the time the request is carried out.
    socket: SocketId,
    membership: Membership,
}

/// A request that came to nothing.
pub(crate) type Failed = (Via, Membership, JoinError);

#[derive(Debug)]
pub(crate) struct Groups {
    requests: VecDeque<Request>,
    /// What was joined since the handler began, and which groups of the configuration were left. A fresh handler begins
    /// with those of the configuration.
    joined: Vec<(SocketId, Membership)>,
    left: Vec<(SocketId, Membership)>,
    /// Whether a peer may live on another shard than the one that owns its address, because of a group that every shard
    /// heard: also when the group was left since, for its peers stay.
    pub(crate) any_stayed_here: bool,
    /// Groups of the configuration that every shard hears.
    everywhere: Vec<IpAddr>,
    /// Those that one shard hears.
    alone: Vec<IpAddr>,
    /// Groups that every shard heard and this one has left, as long as something that came by then may wait: each of the
    /// others has its copy, so it is none of the owner's.
    waiting: Vec<IpAddr>,
    /// What failed and the handler was not yet told of.
    pub(crate) failed: VecDeque<Failed>,
    /// Whether every shard's listener gets its copy of a broadcast.
    pub(crate) copies: bool,
    /// Where the datagram at hand was sent to, if it was sent to many. It is not a part of `Meta`, which every datagram has:
    /// carried along there it took 25 instructions more for each.
    pub(crate) current: IpAddr,
}

impl Groups {
    pub(crate) fn new(configured: &[Membership], copies: bool) -> Self {
        let (everywhere, alone): (Vec<_>, Vec<_>) = configured.iter().partition(|one| is_everywhere(one));
        let [everywhere, alone]: [Vec<IpAddr>; 2] =
            [everywhere, alone].map(|all| all.into_iter().map(Membership::group).collect());
        Self {
            requests: VecDeque::new(),
            joined: Vec::new(),
            left: Vec::new(),
            any_stayed_here: !everywhere.is_empty(),
            everywhere,
            alone,
            waiting: Vec::new(),
            failed: VecDeque::new(),
            copies,
            current: Ipv4Addr::UNSPECIFIED.into(),
        }
    }

    /// Where the datagram or train at hand was sent to, if that stands for many hosts.
    pub(crate) fn of(&self, meta: Meta) -> Option<IpAddr> {
        meta.to_many.then_some(self.current)
    }

    /// Whether the datagram at hand, which was sent to many, is handled by the shard that received it.
    pub(crate) fn stays_here(&self) -> bool {
        let joined = |(socket, one): &(SocketId, Membership)| {
            one.group() == self.current && is_everywhere_on(*socket, one)
        };
        self.everywhere.contains(&self.current)
            || self.joined.iter().any(joined)
            || self.waiting.contains(&self.current)
    }

    /// Whether something may wait that came to a group before it was left.
    #[inline]
    pub(crate) fn any_wait(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Everything that had come before groups were left was handed over.
    pub(crate) fn none_wait(&mut self) {
        self.waiting.clear();
    }

    /// Whether every shard is to hear a group of which the configuration, or another membership on this shard's listeners,
    /// says that one does, or the other way round. What was asked for and not carried out yet counts as done.
    fn is_mixed(&self, membership: &Membership) -> bool {
        let (group, everywhere) = (membership.group(), is_everywhere(membership));
        let configured = if everywhere { &self.alone } else { &self.everywhere };
        let others = |one: &Membership| one.group() == group && is_everywhere(one) != everywhere;
        let is_left = |socket: SocketId, one: &Membership, since: usize| {
            let leaves = |request: &Request| {
                request.what == What::Leave
                    && request.socket == socket
                    && request.membership.is_for_the_same(one)
            };
            self.requests.iter().skip(since).any(leaves)
        };
        let joined = |(socket, one): &(SocketId, Membership)| {
            socket.as_listener().is_some() && others(one) && !is_left(*socket, one, 0)
        };
        let asked = |(at, request): (usize, &Request)| {
            let Request { what, socket, membership: one, .. } = request;
            *what == What::Join
                && socket.as_listener().is_some()
                && others(one)
                && !is_left(*socket, one, at + 1)
        };
        configured.contains(&group)
            || self.joined.iter().any(joined)
            || self.requests.iter().enumerate().any(asked)
    }

    /// Has a group joined or left with the next turn, on a socket that is bound to a wildcard address of its family.
    pub(crate) fn ask(
        &mut self,
        what: What,
        via: Via,
        socket: SocketId,
        membership: Membership,
        shards: u16,
    ) -> Result<(), JoinError> {
        // What comes by an endpoint is handled by its shard, whatever the membership says.
        let by_listener = socket.as_listener().is_some();
        if by_listener && shards > 1 && !self.copies && is_everywhere(&membership) {
            return Err(JoinError::no_copies());
        }
        if what == What::Join && by_listener && self.is_mixed(&membership) {
            return Err(JoinError::MixedHearers { group: membership.group() });
        }
        if self.requests.len() >= MAX_MEMBERSHIPS {
            return Err(JoinError::TooMany { limit: MAX_MEMBERSHIPS });
        }
        self.requests.push_back(Request { what, via, socket, membership });
        Ok(())
    }

    /// Joins or leaves what was asked for next, on the socket that `find` says; whether that was done. What failed is noted.
    pub(crate) fn carry_out(
        &mut self,
        find: impl FnOnce(Via) -> Option<SocketId>,
        driver: &mut impl Driver,
    ) -> bool {
        let Some(Request { what, via, membership, .. }) = self.requests.pop_front() else { return true };
        // Its endpoint may have been closed since.
        let Some(socket) = find(via) else { return true };
        let outcome = match what {
            What::Join => driver.join(socket, &membership),
            What::Leave => driver.leave(socket, &membership),
        };
        match outcome {
            Ok(()) => self.done(what, socket, membership),
            Err(error) => {
                self.failed.push_back((via, membership, error));
                return false;
            }
        }
        true
    }

    fn done(&mut self, what: What, socket: SocketId, membership: Membership) {
        if is_everywhere_on(socket, &membership) {
            self.any_stayed_here = true;
            if what == What::Leave {
                self.waits(membership.group());
            }
        }
        // What takes back what the handler did before leads back to the configuration.
        let (done, undone) = match what {
            What::Join => (&mut self.joined, &mut self.left),
            What::Leave => (&mut self.left, &mut self.joined),
        };
        let before = undone.len();
        undone.retain(|(of, one)| !(*of == socket && one.is_for_the_same(&membership)));
        if undone.len() == before {
            done.push((socket, membership));
        }
    }

    /// A group is left that every shard hears. Of as many as may be joined at once the oldest gives way.
    fn waits(&mut self, group: IpAddr) {
        if self.waiting.contains(&group) {
            return;
        }
        if self.waiting.len() >= MAX_MEMBERSHIPS {
            self.waiting.remove(0);
        }
        self.waiting.push(group);
    }

    /// An endpoint is closed: what it had joined went with it.
    pub(crate) fn forget(&mut self, endpoint: SocketId) {
        self.joined.retain(|(socket, _)| *socket != endpoint);
    }

    /// Leaves what a handler that failed had joined, joins what it had left, and forgets what it asked for.
    pub(crate) fn begin_anew(&mut self, driver: &mut impl Driver) {
        self.requests.clear();
        self.failed.clear();
        for (socket, membership) in std::mem::take(&mut self.joined) {
            if is_everywhere_on(socket, &membership) {
                self.waits(membership.group());
            }
            if let Err(error) = driver.leave(socket, &membership) {
                tracing::warn!(%membership, %error, "a group that a failed handler had joined was not left");
            }
        }
        // Afterwards, since a socket cannot have a group for any source and for one.
        for (socket, membership) in self.left.drain(..) {
            if let Err(error) = driver.join(socket, &membership) {
                tracing::warn!(%membership, %error, "a group that a failed handler had left was not joined again");
            }
        }
    }
}

/// What comes by an endpoint is its shard's, whatever the membership says.
fn is_everywhere_on(socket: SocketId, membership: &Membership) -> bool {
    socket.as_listener().is_some() && is_everywhere(membership)
}

fn is_everywhere(membership: &Membership) -> bool {
    membership.hearers() == Hearers::EveryShard
}
