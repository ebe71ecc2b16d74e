//! Who is in which group: what the configuration and handlers joined and left, and what has to become of what they asked.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use shardgram_core::config::Hearers;
use shardgram_core::{Config, EndpointId, JoinError, Membership, Via};

/// The socket that joins.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Door {
    Listener(usize),
    Endpoint(EndpointId),
}

#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) shard: u16,
    pub(crate) door: Door,
    pub(crate) membership: Membership,
    /// When it had left at the latest.
    pub(crate) left: Option<Instant>,
}

impl Member {
    fn is_on(&self, shard: u16, door: Door) -> bool {
        (self.shard, self.door) == (shard, door) && self.left.is_none()
    }

    fn is_for(&self, other: &Membership) -> bool {
        (self.membership.group(), self.membership.source()) == (other.group(), other.source())
    }

    fn excludes(&self, other: &Membership) -> bool {
        let either_any = self.membership.source().is_none() || other.source().is_none();
        self.membership.group() == other.group() && (either_any || self.is_for(other))
    }

    /// Whether it hears what somebody sends to a group.
    fn hears(&self, group: IpAddr, from: IpAddr) -> bool {
        self.membership.group() == group && self.membership.source().is_none_or(|source| source == from)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum What {
    Join,
    Leave,
}

/// What a handler has asked for, until the next turn of its shard.
#[derive(Debug)]
struct Asked {
    at: Instant,
    what: What,
    via: Via,
    member: Member,
}

/// A refusal that is to be told.
type Refusal = (Via, Membership, JoinError);

/// Who got something that was sent to a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) shard: u16,
    pub(crate) by_endpoint: bool,
    /// It may have come by another shard.
    pub(crate) anywhere: bool,
}

/// The memberships of a node.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// The ports of its listeners.
    ports: Vec<u16>,
    /// What each fresh handler begins with.
    configured: Vec<Member>,
    /// All that there were, in the order in which they joined.
    pub(crate) all: Vec<Member>,
    asked: Vec<Asked>,
    closing: Vec<(Instant, u16, EndpointId)>,
    refusals: BTreeMap<u16, VecDeque<Refusal>>,
    /// Shards whose handlers may have missed some of these.
    missed: BTreeSet<u16>,
}

impl Members {
    pub(crate) fn of(config: &Config) -> Self {
        let settings = config.settings();
        let mut configured = Vec::new();
        for membership in &settings.memberships {
            let hears = |shard: &u16| match membership.hearers() {
                Hearers::Shard(one) => one == *shard,
                Hearers::EveryShard => true,
            };
            let takes =
                |at: &SocketAddr| at.ip().is_unspecified() && at.is_ipv4() == membership.group().is_ipv4();
            for (index, _) in settings.listen.iter().enumerate().filter(|(_, at)| takes(at)) {
                configured.extend((0..settings.shards).filter(hears).map(|shard| Member {
                    shard,
                    door: Door::Listener(index),
                    membership: membership.clone(),
                    left: None,
                }));
            }
        }
        let ports = settings.listen.iter().map(SocketAddr::port).collect();
        Self { ports, all: configured.clone(), configured, ..Self::default() }
    }

    /// Whether the configuration joins a group.
    pub(crate) fn is_configured(&self, group: IpAddr) -> bool {
        self.configured.iter().any(|one| one.membership.group() == group)
    }

    /// Something was asked for, and not refused at once.
    pub(crate) fn ask(&mut self, at: Instant, what: What, via: Via, member: Member) {
        self.asked.push(Asked { at, what, via, member });
    }

    pub(crate) fn close(&mut self, at: Instant, shard: u16, endpoint: EndpointId) {
        self.closing.push((at, shard, endpoint));
    }

    /// The first turn of a shard is at the time at which it starts.
    pub(crate) fn starts(&mut self, shard: u16) {
        let of_it = self.asked.iter_mut().filter(|one| one.member.shard == shard);
        of_it.for_each(|one| one.at -= Duration::from_nanos(1));
    }

    /// A shard has a turn: what it was asked for before is done.
    pub(crate) fn carry_out(&mut self, shard: u16, now: Instant) {
        let due = |one: &mut Asked| one.member.shard == shard && one.at < now;
        for Asked { what, via, member, .. } in self.asked.extract_if(.., due).collect::<Vec<_>>() {
            // What an endpoint was to do comes to nothing once it is to be closed.
            let closes = |one: &(Instant, u16, EndpointId)| {
                (one.1, Door::Endpoint(one.2)) == (member.shard, member.door)
            };
            if !self.closing.iter().any(closes)
                && let Err(error) = self.outcome(what, &member, now)
            {
                self.refusals.entry(shard).or_default().push_back((via, member.membership, error));
            }
        }
        for (at, _, endpoint) in self.closing.iter().filter(|(_, of, _)| *of == shard) {
            let on = |one: &&mut Member| *at < now && one.is_on(shard, Door::Endpoint(*endpoint));
            self.all.iter_mut().filter(on).for_each(|one| one.left = Some(now));
        }
    }

    fn outcome(&mut self, what: What, member: &Member, now: Instant) -> Result<(), JoinError> {
        if let Some(interface) = member.membership.interface() {
            return Err(JoinError::UnknownInterface(interface)); // handlers name none but that of nobody
        }
        let mut there = self.all.iter_mut().filter(|one| one.is_on(member.shard, member.door));
        match what {
            What::Join if there.any(|one| one.excludes(&member.membership)) => Err(JoinError::AlreadyJoined),
            What::Join => {
                self.all.push(member.clone());
                Ok(())
            }
            What::Leave => {
                let left = there.find(|one| one.is_for(&member.membership)).ok_or(JoinError::NotJoined)?;
                left.left = Some(now);
                Ok(())
            }
        }
    }

    /// A handler is told of a refusal; `unopened` says that the endpoint it is about has no socket. Whether it was to be.
    pub(crate) fn is_told(&mut self, shard: u16, told: &Refusal, unopened: bool, now: Instant) -> bool {
        let refusals = self.refusals.entry(shard).or_default();
        if let (Via::Endpoint(id), JoinError::NoSuchSocket) = (told.0, &told.2) {
            refusals.retain(|one| one.0 != told.0);
            let on = |one: &&mut Member| one.is_on(shard, Door::Endpoint(id));
            self.all.iter_mut().filter(on).for_each(|one| one.left = Some(now));
            return unopened;
        }
        let missed = self.missed.contains(&shard);
        let mut next = refusals.pop_front();
        while missed && next.as_ref().is_some_and(|one| one != told) {
            next = refusals.pop_front();
        }
        next.as_ref() == Some(told)
    }

    /// The first refusal that a handler was not told of in this turn, and was to be.
    pub(crate) fn untold(&mut self, shard: u16) -> Option<Refusal> {
        let refusals = self.refusals.entry(shard).or_default();
        if self.missed.remove(&shard) {
            refusals.clear();
        }
        refusals.front().cloned()
    }

    /// A handler has panicked and stays, at once or after a pause.
    pub(crate) fn may_miss_refusals(&mut self, shard: u16) {
        self.missed.insert(shard);
    }

    /// A handler has panicked: of what failed it is not told any more.
    pub(crate) fn forget_refusals(&mut self, shard: u16) {
        self.refusals.remove(&shard);
    }

    /// A fresh handler takes over. Whether the one before had joined or left any.
    pub(crate) fn begin_anew(&mut self, shard: u16, now: Instant) -> bool {
        self.forget_refusals(shard);
        self.asked.retain(|one| one.member.shard != shard);
        let Self { configured, all, .. } = self;
        let mut changed = false;
        for one in all.iter_mut().filter(|one| one.shard == shard && one.left.is_none()) {
            let stays = |other: &Member| one.is_on(other.shard, other.door) && one.is_for(&other.membership);
            if !configured.iter().any(stays) {
                one.left = Some(now);
                changed = true;
            }
        }
        for one in configured.iter().filter(|one| one.shard == shard) {
            if !all.iter().any(|other| other.is_on(shard, one.door) && other.is_for(&one.membership)) {
                all.push(one.clone());
                changed = true;
            }
        }
        changed
    }

    /// A shard is no more.
    pub(crate) fn end(&mut self, shard: u16, now: Instant) {
        self.asked.retain(|one| one.member.shard != shard);
        let there = self.all.iter_mut().filter(|one| one.shard == shard);
        there.for_each(|one| one.left = one.left.or(Some(now)));
    }

    /// How much a shard has asked for since its last turn.
    pub(crate) fn asked_by(&self, shard: u16) -> usize {
        self.asked.iter().filter(|one| one.member.shard == shard).count()
    }

    pub(crate) fn has_asked(&self) -> bool {
        !self.asked.is_empty()
    }

    fn has_port(&self, member: &Member, port: u16) -> bool {
        match member.door {
            Door::Listener(index) => self.ports[index] == port,
            Door::Endpoint(_) => true,
        }
    }

    /// How many sockets may have had something that was sent to a group since then, and that was handled here.
    pub(crate) fn may_hear(&self, place: Place, (from, to): (IpAddr, SocketAddr), since: Instant) -> usize {
        let asked = self.asked.iter().filter(|one| one.what == What::Join).map(|one| &one.member);
        let hears = |one: &&Member| {
            let by_endpoint = matches!(one.door, Door::Endpoint(_));
            let every = one.membership.hearers() == Hearers::EveryShard;
            let here = if by_endpoint || every { one.shard == place.shard } else { true };
            one.hears(to.ip(), from)
                && by_endpoint == place.by_endpoint
                && (here || place.anywhere)
                && self.has_port(one, to.port())
                && one.left.is_none_or(|left| left >= since)
        };
        let mut doors: Vec<(u16, Door)> = Vec::new();
        for one in self.all.iter().chain(asked).filter(hears) {
            if !doors.contains(&(one.shard, one.door)) {
                doors.push((one.shard, one.door));
            }
        }
        doors.len()
    }

    /// The memberships of listeners that hear what is sent to a group now.
    pub(crate) fn listening(&self, from: IpAddr, to: SocketAddr) -> Vec<usize> {
        let hears = |one: &Member| {
            let is_listener = matches!(one.door, Door::Listener(_));
            is_listener && one.left.is_none() && one.hears(to.ip(), from) && self.has_port(one, to.port())
        };
        let leaves = |one: &Member| self.asked.iter().any(|ask| ask.member.is_on(one.shard, one.door));
        let hearing = self.all.iter().enumerate().filter(|(_, one)| hears(one) && !leaves(one));
        hearing.map(|(index, _)| index).collect()
    }

    /// Those of a shard that hear it, whether they forward it to the owner of its sender or not.
    pub(crate) fn on_shard(&self, shard: u16, from: IpAddr, to: SocketAddr) -> impl Iterator<Item = &Member> {
        let hears = move |one: &&Member| {
            one.shard == shard
                && one.left.is_none()
                && one.hears(to.ip(), from)
                && self.has_port(one, to.port())
        };
        self.all.iter().filter(hears)
    }

    /// A membership on this socket, if it has any.
    pub(crate) fn joined(&self, shard: u16, door: Door) -> impl Iterator<Item = &Membership> {
        self.all.iter().filter(move |one| one.is_on(shard, door)).map(|one| &one.membership)
    }

    /// Sources that are named.
    pub(crate) fn sources(&self) -> BTreeSet<IpAddr> {
        let there = self.all.iter().filter(|one| one.left.is_none());
        there.filter_map(|one| one.membership.source()).collect()
    }
}
