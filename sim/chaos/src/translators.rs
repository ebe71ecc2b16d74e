//! Translators of addresses as they have to be: who is known outside as whom, who may answer, and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use shardgram_sim::{NatBehaviour, NatConfig};

use crate::dice::Dice;

/// How much later than it arrived a datagram may be looked at: the dearest turn of all shards
/// of a node.
const LATE: Duration = Duration::from_millis(3);
/// How long a translator remembers unless it is told otherwise (RFC 4787 section 4.3).
const USUALLY: Duration = Duration::from_secs(120);

/// A translator that a run begins with.
#[derive(Clone, Debug)]
pub(crate) struct NatPlan {
    pub(crate) external: IpAddr,
    pub(crate) inside: Vec<IpAddr>,
    pub(crate) mapping: NatBehaviour,
    pub(crate) filtering: NatBehaviour,
    pub(crate) idle: Duration,
}

impl NatPlan {
    /// One that hides some of these, which are of one family.
    pub(crate) fn of(dice: &mut Dice, index: u8, inside: Vec<IpAddr>) -> Self {
        let kinds = [
            NatBehaviour::EndpointIndependent,
            NatBehaviour::AddressDependent,
            NatBehaviour::AddressAndPortDependent,
        ];
        let v4 = inside.first().is_none_or(IpAddr::is_ipv4);
        let idle = [USUALLY, USUALLY, Duration::from_millis(2), Duration::from_millis(50)];
        Self {
            external: Self::address(v4, index, 0),
            inside,
            mapping: kinds[dice.below(3) as usize],
            filtering: kinds[dice.below(3) as usize],
            idle: idle[dice.below(4) as usize],
        }
    }

    /// The address outside of a translator that has moved so often.
    pub(crate) fn address(v4: bool, index: u8, moves: u8) -> IpAddr {
        if v4 {
            Ipv4Addr::new(10, 8, index, moves).into()
        } else {
            Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, index.into(), u16::from(moves) + 1).into()
        }
    }

    pub(crate) fn config(&self) -> NatConfig {
        NatConfig::new(self.external, &self.inside)
            .mapping(self.mapping)
            .filtering(self.filtering)
            .idle_timeout(self.idle)
            .expect("in range")
    }
}

/// What of an address outside matters.
type Remote = (Option<IpAddr>, Option<u16>);

fn part(behaviour: NatBehaviour, remote: SocketAddr) -> Remote {
    match behaviour {
        NatBehaviour::EndpointIndependent => (None, None),
        NatBehaviour::AddressDependent => (Some(remote.ip()), None),
        NatBehaviour::AddressAndPortDependent => (Some(remote.ip()), Some(remote.port())),
    }
}

#[derive(Debug)]
struct Known {
    inside: SocketAddr,
    remote: Remote,
    last_sent: Duration,
    /// Who may answer.
    welcome: BTreeSet<Remote>,
}

#[derive(Debug)]
struct Translator {
    plan: NatPlan,
    known: BTreeMap<SocketAddr, Known>,
    moves: u8,
    /// It has never forgotten anything.
    steady: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Translators {
    all: Vec<Translator>,
}

impl Translators {
    pub(crate) fn new(plans: &[NatPlan]) -> Self {
        let of = |plan: &NatPlan| {
            let (plan, steady) = (plan.clone(), plan.idle == USUALLY);
            Translator { plan, known: BTreeMap::new(), moves: 0, steady }
        };
        Self { all: plans.iter().map(of).collect() }
    }

    /// The translator that a host is behind.
    pub(crate) fn around(&self, host: IpAddr) -> Option<usize> {
        self.all.iter().position(|nat| nat.plan.inside.contains(&host))
    }

    /// The address that a host seems to have.
    pub(crate) fn seen_as(&self, host: IpAddr) -> IpAddr {
        self.around(host).map_or(host, |nat| self.all[nat].plan.external)
    }

    /// Somebody behind a translator has sent something, and is said to be known as `external` to whom it went.
    pub(crate) fn sent(
        &mut self,
        nat: usize,
        (inside, to): (SocketAddr, SocketAddr),
        external: Option<SocketAddr>,
        now: Duration,
    ) -> Result<&'static str, String> {
        let Translator { plan, known, .. } = &mut self.all[nat];
        let what =
            |what: &str| Err(format!("{inside}, which wrote to {to}, {what}: {external:?}, {known:?}"));
        let Some(external) = external.filter(|external| external.ip() == plan.external) else {
            return what("is not known by the address of its translator");
        };
        let remote = part(plan.mapping, to);
        let live = |one: &Known| now.saturating_sub(one.last_sent) < plan.idle;
        let before = known.iter().find(|(_, one)| (one.inside, one.remote) == (inside, remote) && live(one));
        let outcome = match (before, known.get(&external)) {
            (Some((before, _)), _) if *before != external => return what("is known by a second port"),
            (Some(_), _) => "known",
            (None, Some(other)) if live(other) => return what("is known by the port of another"),
            _ => {
                known.retain(|_, one| (one.inside, one.remote) != (inside, remote));
                known.remove(&external);
                "new"
            }
        };
        let (last_sent, welcome) = (now, BTreeSet::new());
        let one = known.entry(external).or_insert(Known { inside, remote, last_sent, welcome });
        one.last_sent = now;
        one.welcome.insert(part(plan.filtering, to));
        Ok(outcome)
    }

    /// Whether something from there reaches this host by that address outside, or did a moment ago.
    pub(crate) fn lets_in(
        &self,
        inside: SocketAddr,
        external: SocketAddr,
        from: SocketAddr,
        now: Duration,
    ) -> bool {
        let of = |nat: &Translator| {
            let one = nat.known.get(&external)?;
            let live = now.saturating_sub(one.last_sent) < nat.plan.idle + LATE;
            Some(live && one.inside == inside && one.welcome.contains(&part(nat.plan.filtering, from)))
        };
        self.all.iter().any(|nat| of(nat) == Some(true))
    }

    /// Whether something to this address outside is sure to pass from now on, whatever happens.
    pub(crate) fn surely_lets_in(&self, external: SocketAddr, from: SocketAddr) -> bool {
        let of = |nat: &Translator| {
            let one = nat.known.get(&external)?;
            Some(nat.steady && one.welcome.contains(&part(nat.plan.filtering, from)))
        };
        self.all.iter().any(|nat| of(nat) == Some(true))
    }

    /// One forgets all it knew. If it moves, this is its new address.
    pub(crate) fn forget(&mut self, nat: usize, moves: bool) -> Option<IpAddr> {
        let translator = self.all.get_mut(nat)?;
        translator.known.clear();
        translator.steady = false;
        if moves {
            translator.moves = translator.moves.wrapping_add(1);
            let v4 = translator.plan.external.is_ipv4();
            translator.plan.external = NatPlan::address(v4, nat as u8, translator.moves);
        }
        moves.then_some(translator.plan.external)
    }

    /// One of the addresses by which somebody inside is known.
    pub(crate) fn external_of(&self, inside: SocketAddr) -> Option<SocketAddr> {
        let mut known = self.all.iter().flat_map(|nat| &nat.known);
        known.find(|(_, one)| one.inside == inside).map(|(external, _)| *external)
    }
}
