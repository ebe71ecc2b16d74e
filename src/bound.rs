//! How a configuration becomes bound sockets, before anything runs.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use shardgram_core::config::Hearers;
use shardgram_core::{Backend, Config, JoinError, Membership};
use shardgram_sys::interfaces::{index_of, local_addresses};
use shardgram_sys::plan::Balancing;
use shardgram_sys::socket::{set_receive_timestamps, stand_in};
use shardgram_sys::{
    AffinityError, BindError, ListenerGroup, ListenerSocket, Os, Sharing, SocketHook, SocketOptions,
    Steering, Unsupported, affinity, listener_group, multicast,
};

use crate::backend::{self, Choice};
use crate::connected::Connected;
use crate::descriptors::Descriptors;
use crate::drivers::serves_local_addresses;
use crate::error::StartError;
use crate::local_addresses::LocalAddresses;
use crate::own_addresses::Listening;

/// What running shards are made of, with their sockets.
pub(crate) struct Bound {
    pub(crate) config: Config,
    pub(crate) options: SocketOptions,
    pub(crate) addresses: Arc<[SocketAddr]>,
    /// Bound sockets of each shard that receives by them: those of the listen addresses in their order, then those of
    /// local addresses.
    pub(crate) listeners: Vec<Vec<ListenerSocket>>,
    /// Whether all shards receive.
    pub(crate) sharing: Sharing,
    pub(crate) local_addresses: LocalAddresses,
    pub(crate) connected: Connected,
    pub(crate) choice: Choice,
    pub(crate) listening: Listening,
    /// What the system granted less of than was asked for, or serves otherwise than by default.
    pub(crate) warnings: Vec<String>,
}

impl Bound {
    /// Checks the configuration, chooses the backend and binds every address for every shard.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left bound then.
    pub(crate) fn new(config: Config, hook: Option<SocketHook>) -> Result<Self, StartError> {
        config.validate()?;
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        check_cores(&config)?;
        let mut warnings = Vec::new();
        let descriptors = Descriptors::raised();
        let config = match descriptors {
            Some(descriptors) => fitting(config, descriptors, &mut warnings)?,
            None => config,
        };
        let sharing = Os::HERE.sharing(config.settings().receivers, config.settings().shards)?;
        let mut choice = backend::choose(&config, sharing)?;
        let connected = Connected::decide(&config, choice.backend, descriptors)?;
        warnings.extend(choice.warning.take());
        warnings.extend(connected.warning(&config));
        let mut options = SocketOptions { hook, ..SocketOptions::of(config.settings()) };
        // The kernel takes times for sockets that asked some moments after the first did, and stops after the last is gone
        // (net_enable_timestamp in net/core/dev.c). What is tried out next asks and goes: so that the listeners do not
        // meet that, one asks from here on until they are there.
        let asks = options.receive_timestamps && choice.backend == Backend::Mio;
        let _times = asks.then(|| {
            stand_in(false).and_then(|socket| set_receive_timestamps(&socket, true).map(|()| socket))
        });
        let has_control = choice.backend != Backend::Mio || has_control(&config.settings().listen);
        options.receive_trains = config.settings().trains && has_control;
        check_options(&config.settings().listen, &options)?;
        if !has_control {
            Os::HERE.check_without_control(&options)?;
        }
        let cap = match choice.backend {
            backend if serves_local_addresses(backend) => usize::from(config.settings().max_local_addresses),
            _ => 0,
        };
        let mut bound = Self {
            local_addresses: LocalAddresses::new(cap, options.clone()),
            listeners: (0..config.settings().shards).map(|_| Vec::new()).collect(),
            connected,
            config,
            options,
            addresses: Arc::new([]),
            sharing,
            warnings,
            choice,
            listening: Listening::at(Arc::new([])),
        };
        if !has_control {
            bound.warnings.push(NO_CONTROL.to_owned());
        }
        bound.look_ahead()?;
        bound.bind_listeners()?;
        Ok(bound)
    }

    /// What no bind of a listener would show.
    fn look_ahead(&mut self) -> Result<(), StartError> {
        let Self { config, options, warnings, .. } = self;
        let listen = &config.settings().listen;
        if listen.is_empty() {
            // Endpoints are opened later, and nobody knows yet of which family.
            if let Some(interface) = options.multicast_interface {
                let address = (Ipv4Addr::UNSPECIFIED, 0).into();
                index_of(interface).map_err(|source| BindError::ToGroups { address, source })?;
            }
            warnings.extend([false, true].iter().flat_map(|ipv6| Os::HERE.downgrades(options, *ipv6, false)));
        }
        let told_of_broadcasts = |at: &SocketAddr| at.is_ipv4() && at.ip().is_unspecified();
        if self.choice.backend == Backend::Mio
            && listen.iter().any(told_of_broadcasts)
            && let Err(error) = local_addresses()
        {
            warnings.push(format!(
                "this host's addresses cannot be listed ({error}): what is sent to a broadcast address is taken for \
                 sent to this host alone; allow AF_NETLINK, or listen on each address"
            ));
        }
        Ok(())
    }

    fn bind_listeners(&mut self) -> Result<(), StartError> {
        let asked = self.config.settings().listen.to_vec();
        listener_group::check_overlap(&asked)?;
        let mut bound = asked.clone();
        for at in Os::HERE.bind_order(&asked) {
            bound[at] = self.bind_listener(at as u16, asked[at])?;
        }
        for of_shard in &mut self.listeners {
            of_shard.sort_by_key(|listener| listener.listen);
        }
        self.join_groups()?;
        self.warnings.extend(self.local_addresses.expand(&mut self.listeners)?);
        self.warnings.sort();
        self.warnings.dedup();
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
        self.addresses = bound.into();
        self.listening = Listening::at(Arc::clone(&self.addresses));
        Ok(())
    }

    /// Joins the groups of the configuration, each with every wildcard listener of its family on the shards that are
    /// to hear it.
    fn join_groups(&self) -> Result<(), StartError> {
        for (listener, membership) in self.members()? {
            let refused = |error| StartError::Join { membership: membership.clone(), error };
            multicast::join(&listener.socket, membership).map_err(refused)?;
        }
        Ok(())
    }

    /// Which listener joins which group of the configuration.
    ///
    /// # Errors
    /// [`StartError::Join`] where shards cannot all hear a group.
    pub(crate) fn members(&self) -> Result<Vec<(&ListenerSocket, &Membership)>, StartError> {
        let mut members = Vec::new();
        for membership in &self.config.settings().memberships {
            let takes = |listener: &&ListenerSocket| {
                let address = self.config.settings().listen[usize::from(listener.listen)];
                listener.local.is_none()
                    && address.ip().is_unspecified()
                    && address.is_ipv4() == membership.group().is_ipv4()
            };
            let with_listeners: Vec<_> =
                self.listeners.iter().filter(|of_shard| of_shard.iter().any(|one| takes(&one))).collect();
            let refused = |error| StartError::Join { membership: membership.clone(), error };
            let each_has_a_copy = multicast::EACH_HAS_A_COPY && self.sharing == Sharing::PerShard;
            let hearing = match membership.hearers() {
                Hearers::EveryShard if !each_has_a_copy && self.listeners.len() > 1 => {
                    return Err(refused(JoinError::no_copies()));
                }
                Hearers::EveryShard => &with_listeners[..],
                // Each socket is there once, and whoever receives by it hands on what others own.
                Hearers::Shard(_) if self.sharing == Sharing::OneReceiver => &with_listeners[..],
                Hearers::Shard(shard) => {
                    let at = usize::from(shard).min(with_listeners.len().saturating_sub(1));
                    with_listeners.get(at..=at).unwrap_or_default()
                }
            };
            let hearing = hearing.iter().flat_map(|of_shard| of_shard.iter().filter(takes));
            members.extend(hearing.map(|listener| (listener, membership)));
        }
        Ok(members)
    }

    /// Binds one address of the configuration and says which port it got.
    fn bind_listener(&mut self, listen: u16, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let shards = self.config.settings().shards;
        let mut group = ListenerGroup::bind_shared(address, shards, self.sharing, &self.options)?;
        self.warnings.extend(group.warnings().iter().map(ToString::to_string));
        let wildcard = address.ip().is_unspecified();
        self.warnings.extend(Os::HERE.downgrades(&self.options, address.is_ipv6(), wildcard));
        if let Steering::Kernel { reason } = group.steering() {
            tracing::debug!(%address, reason, "no steering program: the kernel chooses, shards forward");
            if self.sharing == Sharing::PerShard && Os::HERE.balancing().is == Balancing::Program {
                self.warnings.push(format!(
                    "no steering program at {address} ({reason}): the kernel chooses the shard, and shards forward"
                ));
            }
            if self.connected.way.is_some() {
                // It may choose a peer's own socket for a stranger's datagram.
                self.connected = Connected::none_because(&self.config, reason.clone())?;
            }
        }
        let first = self.sharing.receiver(listen, shards).unwrap_or(0);
        let steered = group.is_steered();
        for (shard, socket) in (first..).zip(group.take_sockets()) {
            let listener = ListenerSocket { listen, local: None, steered, socket, lease: None, usage: None };
            self.listeners[usize::from(shard)].push(listener);
        }
        let bound = group.local_addr();
        self.local_addresses.beside(listen, group);
        Ok(bound)
    }
}

/// The same with as many local addresses as there are descriptors for, and a warning if those are fewer.
///
/// # Errors
/// [`StartError::TooFewDescriptors`].
fn fitting(
    config: Config,
    descriptors: Descriptors,
    warnings: &mut Vec<String>,
) -> Result<Config, StartError> {
    let asked = config.settings().max_local_addresses;
    let fits = descriptors.local_addresses(config.settings())?;
    if fits < asked {
        warnings.push(format!(
            "the limit of {} descriptors leaves room for listeners of {fits} local addresses under each wildcard, and \
             max_local_addresses is {asked}: the wildcard's serve further ones; raise the limit (ulimit -n)",
            descriptors.limit
        ));
    }
    Ok(config.max_local_addresses(fits))
}

/// What is told where what is received says nothing beside its payload.
const NO_CONTROL: &str = "over mio datagrams come one by one here and a wildcard answers from the address that routing \
                          chooses: a socket option for packet info is refused, as by a sandbox; have it allowed \
                          (IP_PKTINFO and IPV6_RECVPKTINFO on Linux)";

/// Whether listeners of the mio driver can say more of a datagram than its payload; without any, whether endpoints of
/// one family can.
fn has_control(listen: &[SocketAddr]) -> bool {
    let mut families = [false, true].into_iter().filter(|ipv6| listen.iter().any(|at| at.is_ipv6() == *ipv6));
    match listen {
        [] => [false, true].into_iter().any(shardgram_fallback::has_control),
        _ => families.all(shardgram_fallback::has_control),
    }
}

/// Whether this system can do what sockets are to be opened with, for the families listened on; without listeners for
/// one of them, which endpoints may have.
fn check_options(listen: &[SocketAddr], options: &SocketOptions) -> Result<(), Unsupported> {
    if listen.is_empty() {
        return Os::HERE.check(options, true).or_else(|_| Os::HERE.check(options, false));
    }
    listen.iter().try_for_each(|address| Os::HERE.check(options, address.is_ipv6()))
}

/// Whether threads can be pinned to the cores that were named, found out by doing so: some systems list their cores
/// and refuse all the same. On a thread of its own, which does not stay.
fn check_cores(config: &Config) -> Result<(), StartError> {
    let cores = &config.settings().cores;
    if cores.is_empty() {
        return Ok(());
    }
    let available = affinity::available_cores();
    if let Some(&core) = cores.iter().find(|core| !available.contains(core)) {
        return Err(AffinityError::NoSuchCore { core, available }.into());
    }
    let pin_all = || cores.iter().try_for_each(|&core| affinity::pin_current_thread(core));
    let pinned = std::thread::scope(|scope| scope.spawn(pin_all).join());
    Ok(pinned.unwrap_or(Ok(()))?)
}
