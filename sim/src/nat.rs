//! Network address translators: hosts behind one are seen under its address, and reached when they wrote first.
//!
//! What is in the way of servers that keep sessions: the address of a client changes while it talks, and who
//! wants to reach two clients behind translators has to have both write first. Words are those of RFC 4787.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use crate::error::RangeError;
use crate::seed::Dice;

/// Ports a translator gives out: all but the well-known ones.
const PORTS: std::ops::RangeInclusive<u16> = 1_024..=65_535;
/// Its memory, unless told otherwise: "A NAT UDP mapping timer MUST NOT expire in less than two minutes" (RFC 4787
/// section 4.3).
const IDLE_TIMEOUT_NS: u64 = 120_000_000_000;
/// The longest it may be: a day.
const MAX_IDLE_TIMEOUT: Duration = Duration::from_secs(86_400);

/// On what something in a translator depends (RFC 4787 sections 4.1 and 5).
///
/// ```
/// # use std::net::IpAddr;
/// use shardgram_sim::{NatBehaviour, NatConfig};
/// /// What defeats hole punching: every destination sees another port.
/// fn symmetric(external: IpAddr, inside: &[IpAddr]) -> NatConfig {
///     NatConfig::new(external, inside).mapping(NatBehaviour::AddressAndPortDependent)
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NatBehaviour {
    /// On the host inside alone.
    EndpointIndependent,
    /// Also on the address outside.
    AddressDependent,
    /// Also on the address and the port outside.
    AddressAndPortDependent,
}

/// A part of the address outside.
type Remote = (Option<IpAddr>, Option<u16>);

impl NatBehaviour {
    /// What of an address outside matters.
    fn of(self, remote: SocketAddr) -> Remote {
        match self {
            Self::EndpointIndependent => (None, None),
            Self::AddressDependent => (Some(remote.ip()), None),
            Self::AddressAndPortDependent => (Some(remote.ip()), Some(remote.port())),
        }
    }
}

/// A translator, for [`crate::Sim::nat`].
///
/// ```
/// use std::time::Duration;
/// use shardgram_sim::{NatBehaviour, NatConfig, RangeError};
/// fn forgetful() -> Result<NatConfig, RangeError> {
///     let inside = ["192.168.0.2".parse().unwrap(), "192.168.0.3".parse().unwrap()];
///     NatConfig::new("203.0.113.1".parse().unwrap(), &inside)
///         .filtering(NatBehaviour::AddressDependent)
///         .idle_timeout(Duration::from_secs(30))
/// }
/// # assert!(forgetful().is_ok());
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NatConfig {
    external: IpAddr,
    inside: Vec<IpAddr>,
    mapping: NatBehaviour,
    filtering: NatBehaviour,
    idle_timeout_ns: u64,
}

impl NatConfig {
    /// One that hides the addresses `inside` behind `external`, which nobody else may have.
    pub fn new(external: IpAddr, inside: &[IpAddr]) -> Self {
        Self {
            external,
            inside: inside.to_vec(),
            mapping: NatBehaviour::EndpointIndependent,
            filtering: NatBehaviour::AddressAndPortDependent,
            idle_timeout_ns: IDLE_TIMEOUT_NS,
        }
    }

    /// For what a host inside gets another port outside. Default [`NatBehaviour::EndpointIndependent`]: for each
    /// of its own ports.
    #[must_use]
    pub fn mapping(mut self, mapping: NatBehaviour) -> Self {
        self.mapping = mapping;
        self
    }

    /// Who outside reaches such a port. Default [`NatBehaviour::AddressAndPortDependent`]: whom the host inside
    /// wrote to from it.
    #[must_use]
    pub fn filtering(mut self, filtering: NatBehaviour) -> Self {
        self.filtering = filtering;
        self
    }

    /// After how long without anything sent from inside a port is given up. Default two minutes, range one
    /// millisecond to one day.
    ///
    /// # Errors
    /// If it is out of range.
    pub fn idle_timeout(mut self, timeout: Duration) -> Result<Self, RangeError> {
        if timeout < Duration::from_millis(1) || timeout > MAX_IDLE_TIMEOUT {
            return Err(RangeError { field: "idle_timeout", range: "one millisecond to one day" });
        }
        self.idle_timeout_ns = timeout.as_nanos() as u64;
        Ok(self)
    }
}

/// Names a translator of a simulation ([`crate::Sim::nat`]).
///
/// ```
/// use shardgram_sim::{NatId, Sim};
/// /// As when the router has restarted: everybody behind it has another port.
/// fn router_restarts(sim: &mut Sim, router: NatId) { sim.nat_rebind(router); }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct NatId(u32);

#[derive(Debug)]
struct Mapping {
    inside: SocketAddr,
    remote: Remote,
    last_sent_ns: u64,
    /// Who may answer.
    welcome: BTreeSet<Remote>,
}

#[derive(Debug)]
struct Nat {
    config: NatConfig,
    by_port: BTreeMap<u16, Mapping>,
    by_inside: BTreeMap<(SocketAddr, Remote), u16>,
    free: Vec<u16>,
}

impl Nat {
    fn new(config: NatConfig) -> Self {
        Self { config, by_port: BTreeMap::new(), by_inside: BTreeMap::new(), free: PORTS.collect() }
    }

    fn forget(&mut self) {
        self.by_inside.clear();
        self.free.extend(std::mem::take(&mut self.by_port).into_keys());
    }

    fn is_live(&self, mapping: &Mapping, now_ns: u64) -> bool {
        now_ns.saturating_sub(mapping.last_sent_ns) < self.config.idle_timeout_ns
    }

    fn external_of(&self, inside: SocketAddr, remote: SocketAddr, now_ns: u64) -> Option<SocketAddr> {
        let port = *self.by_inside.get(&(inside, self.config.mapping.of(remote)))?;
        let live = self.by_port.get(&port).is_some_and(|mapping| self.is_live(mapping, now_ns));
        live.then_some(SocketAddr::new(self.config.external, port))
    }

    fn outbound(
        &mut self,
        from: SocketAddr,
        to: SocketAddr,
        now_ns: u64,
        dice: &mut Dice,
    ) -> Option<SocketAddr> {
        let port = match self.external_of(from, to, now_ns) {
            Some(external) => external.port(),
            None => self.map(from, self.config.mapping.of(to), now_ns, dice)?,
        };
        let mapping = self.by_port.get_mut(&port)?;
        mapping.last_sent_ns = now_ns;
        mapping.welcome.insert(self.config.filtering.of(to));
        Some(SocketAddr::new(self.config.external, port))
    }

    /// A new port for a host inside. None if all are in use.
    fn map(&mut self, inside: SocketAddr, remote: Remote, now_ns: u64, dice: &mut Dice) -> Option<u16> {
        if let Some(old) = self.by_inside.remove(&(inside, remote)) {
            self.by_port.remove(&old);
            self.free.push(old);
        }
        if self.free.is_empty() {
            self.give_up_idle(now_ns);
        }
        if self.free.is_empty() {
            return None;
        }
        let port = self.free.swap_remove(dice.below(self.free.len() as u64) as usize);
        self.by_inside.insert((inside, remote), port);
        let mapping = Mapping { inside, remote, last_sent_ns: now_ns, welcome: BTreeSet::new() };
        self.by_port.insert(port, mapping);
        Some(port)
    }

    fn give_up_idle(&mut self, now_ns: u64) {
        let timeout_ns = self.config.idle_timeout_ns;
        let Self { by_inside, free, .. } = self;
        self.by_port.retain(|port, mapping| {
            let live = now_ns.saturating_sub(mapping.last_sent_ns) < timeout_ns;
            if !live {
                by_inside.remove(&(mapping.inside, mapping.remote));
                free.push(*port);
            }
            live
        });
    }

    /// The host inside that has this port. Everybody outside may ask with `None`: routers do.
    fn inbound(&self, port: u16, from: Option<SocketAddr>, now_ns: u64) -> Option<SocketAddr> {
        let mapping = self.by_port.get(&port).filter(|mapping| self.is_live(mapping, now_ns))?;
        let welcome = |from| mapping.welcome.contains(&self.config.filtering.of(from));
        from.is_none_or(welcome).then_some(mapping.inside)
    }
}

/// What a translator makes of an address.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Translated {
    /// There is none in the way.
    Same,
    Is(SocketAddr),
    /// Nothing passes.
    Refused,
}

#[derive(Debug)]
pub(crate) struct Nats {
    all: Vec<Nat>,
    /// Who is inside which, and which has which address.
    inside: BTreeMap<IpAddr, u32>,
    external: BTreeMap<IpAddr, u32>,
    dice: Dice,
}

impl Nats {
    pub(crate) fn new(dice: Dice) -> Self {
        Self { all: Vec::new(), inside: BTreeMap::new(), external: BTreeMap::new(), dice }
    }

    #[inline]
    pub(crate) fn any(&self) -> bool {
        !self.all.is_empty()
    }

    pub(crate) fn add(&mut self, config: NatConfig) -> NatId {
        let id = self.all.len() as u32;
        for ip in &config.inside {
            assert!(self.inside.insert(*ip, id).is_none(), "{ip} is behind another translator");
        }
        let external = config.external;
        assert!(self.external.insert(external, id).is_none(), "{external} is another translator's");
        self.all.push(Nat::new(config));
        NatId(id)
    }

    pub(crate) fn forget(&mut self, nat: NatId) {
        self.all[nat.0 as usize].forget();
    }

    pub(crate) fn move_to(&mut self, nat: NatId, external: IpAddr) {
        let Self { all, external: externals, .. } = self;
        let nat_of = &mut all[nat.0 as usize];
        externals.remove(&nat_of.config.external);
        assert!(externals.insert(external, nat.0).is_none(), "{external} is another translator's");
        nat_of.config.external = external;
        nat_of.forget();
    }

    /// The translator something passes on its way from one host to another.
    fn between(&self, from: IpAddr, to: IpAddr) -> Option<u32> {
        let nat = *self.inside.get(&from)?;
        (self.inside.get(&to) != Some(&nat)).then_some(nat)
    }

    /// Under which address a host is known to another.
    pub(crate) fn seen_as(&self, from: IpAddr, to: IpAddr) -> IpAddr {
        self.between(from, to).map_or(from, |nat| self.all[nat as usize].config.external)
    }

    /// Under which address a host inside is known to somebody outside, as far as it is.
    pub(crate) fn external_of(
        &self,
        nat: NatId,
        inside: SocketAddr,
        remote: SocketAddr,
        now_ns: u64,
    ) -> Option<SocketAddr> {
        self.all[nat.0 as usize].external_of(inside, remote, now_ns)
    }

    /// From where something sent seems to come.
    pub(crate) fn outbound(&mut self, from: SocketAddr, to: SocketAddr, now_ns: u64) -> Translated {
        let Some(nat) = self.between(from.ip(), to.ip()) else { return Translated::Same };
        match self.all[nat as usize].outbound(from, to, now_ns, &mut self.dice) {
            Some(external) => Translated::Is(external),
            None => Translated::Refused,
        }
    }

    /// For whom something is that has arrived. `from` is `None` for what routers say.
    pub(crate) fn inbound(&self, to: SocketAddr, from: Option<SocketAddr>, now_ns: u64) -> Translated {
        let Some(nat) = self.external.get(&to.ip()) else { return Translated::Same };
        match self.all[*nat as usize].inbound(to.port(), from, now_ns) {
            Some(inside) => Translated::Is(inside),
            None => Translated::Refused,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seed::Stream;

    #[test]
    fn ports_run_out_and_are_given_up() {
        let ip = |last| IpAddr::from([10, 0, 0, last]);
        let mut nats = Nats::new(Dice::new(1, Stream::Nat));
        nats.add(NatConfig::new(ip(1), &[ip(2), ip(3)]));
        let to = SocketAddr::new(ip(9), 9);
        let mut given = BTreeSet::new();
        for n in 0..PORTS.len() as u32 {
            let from = SocketAddr::new(ip(2 + (n / 60_000) as u8), (n % 60_000) as u16);
            let Translated::Is(external) = nats.outbound(from, to, 5) else { panic!("a port is free") };
            assert!(given.insert(external), "{external} was given out twice");
        }
        let late = SocketAddr::new(ip(3), 65_000);
        assert_eq!(nats.outbound(late, to, 6), Translated::Refused);
        assert!(matches!(nats.outbound(late, to, 5 + IDLE_TIMEOUT_NS), Translated::Is(_)));
        assert_eq!((nats.all[0].by_port.len(), nats.all[0].by_inside.len()), (1, 1));
    }
}
