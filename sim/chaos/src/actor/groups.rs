//! Groups that handlers join and leave.

use std::net::IpAddr;

use shardgram_core::config::Hearers;
use shardgram_core::{Interface, JoinError, Membership, Via};

use crate::actor::{Actor, Ours};
use crate::groups;
use crate::temper::Act;
use crate::world::{Door, GroupWhat as What, Member};

/// What a shard may ask for in one turn.
const MOST_ASKED: usize = 1_024;
/// Nobody's address.
const NOBODY: [u8; 4] = [10, 77, 7, 7];

impl<H: Ours> Actor<'_, '_, H> {
    pub(super) fn join(&mut self, act: Act) {
        let Some((via, door, bound)) = self.some_door() else { return };
        let ipv4 = bound.is_ipv4() != self.dice.one_in(12);
        let mut membership = self.membership(ipv4);
        if act == Act::JoinWrongly {
            membership = match self.dice.below(3) {
                0 => Membership::any_source(NOBODY),
                1 => membership.on(Interface::of(NOBODY)),
                // Of others it is for handlers to see that all shards join them in the same way.
                _ if !self.is_configured(membership.group()) => return,
                _ if membership.hearers() == Hearers::EveryShard => membership.shard(0),
                _ => membership.every_shard(),
            };
        }
        let result = self.cx.io.join(via, membership.clone());
        self.judge_group(What::Join, (via, door, bound), &membership, &result);
    }

    pub(super) fn leave_group(&mut self) {
        let Some((via, door, bound)) = self.some_door() else { return };
        let members = &self.model.nodes[self.place.0].members;
        let joined: Vec<_> =
            door.into_iter().flat_map(|at| members.joined(self.place.1, at)).cloned().collect();
        let one_of_them = self.dice.percent(80);
        let chosen = self.dice.pick(&joined).filter(|_| one_of_them).cloned();
        let membership = chosen.unwrap_or_else(|| self.membership(bound.is_ipv4()));
        let result = self.cx.io.leave(via, membership.clone());
        self.judge_group(What::Leave, (via, door, bound), &membership, &result);
    }

    /// A socket of this shard, or now and then none, and what it is bound to.
    fn some_door(&mut self) -> Option<(Via, Option<Door>, IpAddr)> {
        let endpoints = self.model.shard(self.place).endpoints.clone();
        if self.dice.percent(40)
            && let Some(endpoint) = self.dice.pick(&endpoints)
        {
            let door = Some(Door::Endpoint(endpoint.id)).filter(|_| !endpoint.closing);
            return Some((Via::Endpoint(endpoint.id), door, endpoint.bind.ip()));
        }
        if self.dice.one_in(12) {
            return Some((Via::Listener((NOBODY, 1).into()), None, NOBODY.into()));
        }
        let listeners = self.cx.io.listeners();
        let index = self.dice.below(listeners.len() as u64) as usize;
        let listener = *listeners.get(index)?;
        let first = listeners.iter().position(|one| *one == listener)?;
        Some((Via::Listener(listener), Some(Door::Listener(first)), listener.ip()))
    }

    fn membership(&mut self, ipv4: bool) -> Membership {
        let node = &self.model.nodes[self.place.0];
        let with = (ipv4, node.shards.len() as u16);
        groups::membership(&mut self.dice, with, &node.temper.everywhere, &self.model.sources)
    }

    fn is_configured(&self, group: IpAddr) -> bool {
        self.model.nodes[self.place.0].members.is_configured(group)
    }

    /// What can be told at once, and what is to become of it if nothing can.
    fn judge_group(
        &mut self,
        what: What,
        (via, door, bound): (Via, Option<Door>, IpAddr),
        membership: &Membership,
        result: &Result<(), JoinError>,
    ) {
        let group = membership.group();
        let every = membership.hearers() == Hearers::EveryShard;
        let is_other =
            every != groups::is_everywhere(&self.model.nodes[self.place.0].temper.everywhere, group);
        let by_listener = matches!(door, Some(Door::Listener(_)));
        let mixed = is_other && by_listener && what == What::Join;
        let expected = if what == What::Join && !group.is_multicast() {
            Err(JoinError::NotMulticast { group })
        } else if door.is_none() {
            Err(JoinError::NoSuchSocket)
        } else if !bound.is_unspecified() || bound.is_ipv4() != group.is_ipv4() {
            Err(JoinError::NoListener { group })
        } else if mixed && self.is_configured(group) {
            Err(JoinError::MixedHearers { group })
        } else if self.model.nodes[self.place.0].members.asked_by(self.place.1) >= MOST_ASKED {
            Err(JoinError::TooMany { limit: MOST_ASKED })
        } else {
            Ok(())
        };
        let call = if what == What::Join { "join" } else { "leave" };
        self.model.reached.note(call, outcome(result));
        if let (Some(door), Ok(())) = (door, &result) {
            let (shard, now) = (self.place.1, self.cx.io.now());
            let member = Member { shard, door, membership: membership.clone(), left: None };
            self.model.nodes[self.place.0].members.ask(now, what, via, member);
            // Or those that are told of refusals, and ask for more, would go on for ever.
            self.model.budget = self.model.budget.saturating_sub(1);
        }
        self.model.expect(*result == expected, || {
            format!("{call} of {membership:?} by {via:?}: {result:?}, not {expected:?}")
        });
    }
}

fn outcome(result: &Result<(), JoinError>) -> &'static str {
    match result {
        Ok(()) => "Ok",
        Err(JoinError::NotMulticast { .. }) => "NotMulticast",
        Err(JoinError::NoSuchSocket) => "NoSuchSocket",
        Err(JoinError::NoListener { .. }) => "NoListener",
        Err(JoinError::MixedHearers { .. }) => "MixedHearers",
        Err(_) => "other",
    }
}
