//! What is sent to groups: who has to hear it, and who may.

use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use shardgram_core::config::Hearers;

use crate::ledger::{Copy, Due, From, Hearer, Many};
use crate::world::{Model, Place};

impl Model {
    /// Enters a datagram that is sent now, or begins to be.
    pub(crate) fn sent(&mut self, now: Instant, number: u64, copy: Copy) {
        let many = copy.to.ip().is_multicast().then(|| self.many(now, &copy));
        self.ledger.sent(number, copy, many);
    }

    /// Who has to hear what is sent to a group, as far as that can be said: not what failed sends or the network take away,
    /// which undo all this, nor what a shard drops because of where it came from.
    fn many(&self, now: Instant, copy: &Copy) -> Many {
        let mut due = Vec::new();
        let sure = copy.peer.is_some() || copy.hops == 0;
        if let From::Exactly(from) = copy.from
            && sure
            && from.port() != 0
        {
            let there = self.hearers.iter().enumerate();
            let there = there.filter(|(_, (at, group, left))| {
                (at.port(), *group) == (copy.to.port(), copy.to.ip()) && left.is_none()
            });
            due.extend(there.map(|(index, _)| Due::Client(index)));
            for (index, node) in self.nodes.iter().enumerate() {
                if !node.host.contains(&from.ip()) {
                    let members = node.members.listening(from.ip(), copy.to);
                    due.extend(members.into_iter().map(|member| Due::Member(index, member)));
                }
            }
        }
        Many::new(now + self.ledger.least_delay, due)
    }

    /// A node handles, or looks at, what was sent to a group.
    pub(crate) fn heard(
        &mut self,
        node: usize,
        place: Place,
        (number, from, to): (u64, SocketAddr, SocketAddr),
        counts: bool,
    ) {
        let Place { shard, by_endpoint, .. } = place;
        let hearer = Hearer::Shard { node, shard, by_endpoint };
        let Some(heard) = self.ledger.heard((number, from, to), hearer, counts) else { return };
        let most = self.nodes[node].members.may_hear(place, (from.ip(), to), heard.earliest);
        self.expect(most > 0, || {
            format!(
                "{to} was heard on shard {shard} of node {node}, which is not in it: {number:016x} of {from}"
            )
        });
        let once = self.ledger.at_most_once;
        self.expect(!once || heard.handled <= most * heard.sent, || {
            format!(
                "{number:016x} of {from} to {to} came {} times to {place:?} of node {node}, not {most}",
                heard.handled
            )
        });
        self.reached.note("group", if by_endpoint { "by an endpoint" } else { "by a listener" });
    }

    /// A client hears what was sent to a group.
    pub(crate) fn heard_by_client(
        &mut self,
        at: SocketAddr,
        (from, to): (SocketAddr, SocketAddr),
        number: Option<u64>,
    ) {
        let heard = number.and_then(|number| self.ledger.heard((number, from, to), Hearer::Client(at), true));
        let earliest = heard.map(|heard| heard.earliest);
        let is_in = |(who, group, left): &(SocketAddr, IpAddr, Option<Instant>)| {
            (*who, *group) == (at, to.ip())
                && left.is_none_or(|left| earliest.is_none_or(|then| left >= then))
        };
        let right = self.hearers.iter().any(is_in);
        self.expect(right, || format!("{at} heard {to}, and is not in that group"));
        let twice = heard.is_some_and(|heard| self.ledger.at_most_once && heard.handled > heard.sent);
        self.expect(!twice, || format!("{at} heard {number:?} of {to} again"));
        self.reached.note("group", "by a client");
    }

    /// Something that somebody had to hear and did not. `sure` says of which nodes nothing is lost.
    pub(crate) fn unheard(&self, sure: impl Fn(usize) -> bool) -> Option<String> {
        self.ledger.unheard(|due, _, seen| match due {
            Due::Client(index) => {
                let (at, _, left) = self.hearers[index];
                left.is_none() && !seen.contains(&Hearer::Client(at))
            }
            Due::Member(node, index) => {
                let model = &self.nodes[node];
                let member = &model.members.all[index];
                let every = member.membership.hearers() == Hearers::EveryShard && model.joined.is_empty();
                let here = |hearer: &Hearer| {
                    matches!(hearer, Hearer::Shard { node: of, shard, by_endpoint: false }
                        if *of == node && (!every || *shard == member.shard))
                };
                member.left.is_none() && sure(node) && !seen.iter().any(here)
            }
        })
    }
}
