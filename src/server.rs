//! A server between its two steps: bound, and not yet running.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use shardgram_core::config::{Hearers, ToGroups};
use shardgram_core::{Backend, Config, Handler, JoinError, Resolver, ShardInfo};
use shardgram_sys::interfaces::{index_of, local_addresses};
use shardgram_sys::plan::Balancing;
use shardgram_sys::socket::{set_receive_timestamps, stand_in};
use shardgram_sys::{
    AffinityError, BindError, ListenerGroup, ListenerSocket, Os, SendToMany, Sharing, SocketHook,
    SocketOptions, Steering, Unsupported, affinity, listener_group, multicast,
};

use crate::backend::{self, Choice};
use crate::connected::Connected;
use crate::drivers::serves_local_addresses;
use crate::error::{ServeError, StartError};
use crate::handle::{Handle, Report};
use crate::local_addresses::LocalAddresses;
use crate::resolver::SystemResolver;
use crate::threads;

/// A server whose sockets are bound. Binding may need privileges, running does not: drop them between
/// [`Server::bind`] and [`Server::spawn`].
///
/// ```
/// use shardgram::{Config, Server};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind(Config::new().listen("127.0.0.1:0".parse()?).shards(2))?;
/// assert_ne!(server.local_addrs()[0].port(), 0);
/// # Ok(())
/// # }
/// ```
pub struct Server {
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
    pub(crate) resolver: Arc<dyn Resolver>,
    warnings: Vec<String>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.addresses)
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Checks the configuration, chooses the backend and binds every address for every shard. With io_uring
    /// the shards' rings are made here too, so what they lock (RLIMIT_MEMLOCK) is locked with the rights the
    /// process has now.
    ///
    /// # Errors
    /// See [`StartError`]; nothing is left bound then.
    ///
    /// ```
    /// use shardgram::{Config, Server, StartError};
    /// let shards = Config::new().shards(0);
    /// assert!(matches!(Server::bind(shards), Err(StartError::Config(_))));
    /// ```
    pub fn bind(config: Config) -> Result<Self, StartError> {
        Self::bind_with(config, None)
    }

    /// As [`Server::bind`], and `hook` sees every socket before it is bound, those of endpoints included:
    /// for marks, DSCP, a device, FREEBIND.
    ///
    /// # Errors
    /// See [`StartError`].
    ///
    /// ```no_run
    /// use std::sync::Arc;
    /// use shardgram::{Config, Server, SocketHook};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let hook: SocketHook = Arc::new(|socket, _address| socket.set_tos_v4(0xb8)); // expedited forwarding
    /// let server = Server::bind_with(Config::new().listen("0.0.0.0:9000".parse()?), Some(hook))?;
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    pub fn bind_with(config: Config, hook: Option<SocketHook>) -> Result<Self, StartError> {
        config.validate()?;
        if cfg!(panic = "abort") {
            return Err(StartError::PanicAbort);
        }
        check_cores(&config)?;
        let descriptors = raise_limits();
        let sharing = Os::HERE.sharing(config.receivers_choice(), config.shard_count())?;
        let mut choice = backend::choose(&config, sharing)?;
        let connected = Connected::decide(&config, choice.backend, descriptors)?;
        let (receive_buffer, send_buffer) = config.socket_bytes();
        let mut options = SocketOptions {
            receive_buffer,
            send_buffer,
            hook,
            ecn: config.reports_ecn(),
            receive_timestamps: config.reports_time(),
            path_mtu: config.path_mtu_mode(),
            to_many: to_many(&config),
            ..SocketOptions::default()
        };
        let receives_trains = choice.backend != Backend::Mio || shardgram_fallback::receives_trains(&options);
        // The kernel takes times for sockets that asked some moments after the first did, and stops after the last is gone
        // (net_enable_timestamp in net/core/dev.c). What is tried out next asks and goes: so that the listeners do not
        // meet that, one asks from here on until they are there.
        let asks = options.receive_timestamps && choice.backend == Backend::Mio;
        let _times = asks.then(|| {
            stand_in(false).and_then(|socket| set_receive_timestamps(&socket, true).map(|()| socket))
        });
        let has_control = choice.backend != Backend::Mio || has_control(config.listen_addrs());
        options.receive_trains = config.uses_trains() && receives_trains && has_control;
        check_options(config.listen_addrs(), &options)?;
        if !has_control {
            Os::HERE.check_without_control(&options)?;
        }
        let cap = match choice.backend {
            backend if serves_local_addresses(backend) => config.local_address_capacity(),
            _ => 0,
        };
        let mut server = Self {
            local_addresses: LocalAddresses::new(cap, options.clone()),
            listeners: (0..config.shard_count()).map(|_| Vec::new()).collect(),
            connected,
            config,
            options,
            addresses: Arc::new([]),
            sharing,
            warnings: choice.warning.take().into_iter().collect(),
            choice,
            resolver: Arc::new(SystemResolver::new()),
        };
        if server.config.uses_trains() && !receives_trains {
            server.warnings.push(NO_TRAINS_IN.to_owned());
        }
        if !has_control {
            server.warnings.push(NO_CONTROL.to_owned());
        }
        server.look_ahead()?;
        server.bind_listeners()?;
        Ok(server)
    }

    /// What no bind of a listener would show.
    fn look_ahead(&mut self) -> Result<(), StartError> {
        let Self { config, options, warnings, .. } = self;
        let listen = config.listen_addrs();
        if listen.is_empty() {
            // Endpoints are opened later, and nobody knows yet of which family.
            if let Some(interface) = options.to_many.interface {
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
        let asked = self.config.listen_addrs().to_vec();
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
        Ok(())
    }

    /// Joins the groups of the configuration, each with every wildcard listener of its family on the shards that are
    /// to hear it.
    fn join_groups(&self) -> Result<(), StartError> {
        for membership in self.config.memberships() {
            let takes = |listener: &&ListenerSocket| {
                let address = self.config.listen_addrs()[usize::from(listener.listen)];
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
            for listener in hearing.iter().flat_map(|of_shard| of_shard.iter().filter(takes)) {
                multicast::join(&listener.socket, membership).map_err(refused)?;
            }
        }
        Ok(())
    }

    /// Binds one address of the configuration and says which port it got.
    fn bind_listener(&mut self, listen: u16, address: SocketAddr) -> Result<SocketAddr, StartError> {
        let shards = self.config.shard_count();
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
            self.listeners[usize::from(shard)].push(ListenerSocket { listen, local: None, steered, socket });
        }
        let bound = group.local_addr();
        self.local_addresses.beside(listen, group);
        Ok(bound)
    }

    /// The addresses bound, in the order of [`Config::listen`], with the ports that were found for port 0.
    ///
    /// ```
    /// # use shardgram::{Config, Server};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let config = Config::new().listen("127.0.0.1:0".parse()?).listen("127.0.0.1:0".parse()?);
    /// let server = Server::bind(config)?;
    /// assert_eq!(server.local_addrs().len(), 2);
    /// assert_ne!(server.local_addrs()[0], server.local_addrs()[1]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The backend that will serve: never [`Backend::Auto`].
    ///
    /// ```
    /// use shardgram::{Backend, Config, Server};
    /// # fn main() -> Result<(), shardgram::StartError> {
    /// let server = Server::bind(Config::new())?; // no listeners: for handlers that open endpoints
    /// assert_ne!(server.backend(), Backend::Auto);
    /// # Ok(())
    /// # }
    /// ```
    pub fn backend(&self) -> Backend {
        self.choice.backend
    }

    /// In a word why [`Backend::Auto`] did not take io_uring, if it did not.
    ///
    /// ```
    /// use shardgram::{Backend, Config, Server};
    /// # fn main() -> Result<(), shardgram::StartError> {
    /// let server = Server::bind(Config::new().backend(Backend::Mio))?;
    /// assert_eq!(server.fallback_reason(), None); // it was asked for, so there is nothing to explain
    /// # Ok(())
    /// # }
    /// ```
    pub fn fallback_reason(&self) -> Option<&str> {
        self.choice.reason.as_deref()
    }

    /// What the system granted less of than was asked for, or serves otherwise than by default, each with its remedy.
    ///
    /// ```
    /// fn print_warnings(server: &shardgram::Server) {
    ///     for warning in server.warnings() {
    ///         eprintln!("warning: {warning}");
    ///     }
    /// }
    /// ```
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Gives the listeners to a user, for a server that is bound by root and then becomes that user: further
    /// sockets of their port, which peers get of their own and which serve addresses that appear, can be bound
    /// by the user alone who has the listeners (socket(7), SO_REUSEPORT). Ports below 1024 need
    /// CAP_NET_BIND_SERVICE, or the sysctl net.ipv4.ip_unprivileged_port_start, beside. Call it before the
    /// change of user.
    ///
    /// # Errors
    /// EPERM for whoever may not give files away.
    ///
    /// ```no_run
    /// use shardgram::{Config, Server};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let server = Server::bind(Config::new().listen("0.0.0.0:53".parse()?))?;
    /// server.give_to_user(65_534)?; // then setresgid(2), setresuid(2)
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(unix)]
    pub fn give_to_user(&self, uid: u32) -> std::io::Result<()> {
        use std::os::unix::fs::fchown;
        self.listeners.iter().flatten().try_for_each(|listener| fchown(&listener.socket, Some(uid), None))
    }

    /// One line that says what serves: addresses, shards, backend, whether one shard receives for all
    /// ([`shardgram_core::Receivers`]), and the reason of a fallback.
    ///
    /// ```
    /// use shardgram::{Backend, Config, Server};
    /// # fn main() -> Result<(), shardgram::StartError> {
    /// let server = Server::bind(Config::new().shards(2).backend(Backend::Mio))?;
    /// assert_eq!(server.ready_line(), "listening on nothing shards=2 backend=mio tier=listener");
    /// # Ok(())
    /// # }
    /// ```
    pub fn ready_line(&self) -> String {
        let addresses: Vec<_> = self.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { "nothing".to_owned() } else { addresses.join(",") };
        let shards = self.config.shard_count();
        let mut line = format!("listening on {addresses} shards={shards} backend={}", self.choice.backend);
        match &self.connected.way {
            Some(way) => line.push_str(&format!(" tier={} accept={way}", self.config.tier_policy())),
            // Whatever the policy: peers have no sockets of their own here.
            None => line.push_str(" tier=listener"),
        }
        if self.sharing == Sharing::OneReceiver && !self.addresses.is_empty() {
            line.push_str(" receivers=one");
        }
        if let Some(reason) = &self.choice.reason {
            line.push_str(" reason=");
            line.push_str(reason);
        }
        line
    }

    /// Has names that handlers dial ([`shardgram_core::Context::dial`]) looked up by this and not by
    /// [`SystemResolver`]. It is asked from every shard's thread and must not block.
    ///
    /// ```
    /// use shardgram::{Config, Lookup, LookupError, Server};
    /// # fn main() -> Result<(), shardgram::StartError> {
    /// let server = Server::bind(Config::new())?.resolver(|lookup: Lookup| match lookup.name() {
    ///     "game.test" => lookup.answer(Ok([([127, 0, 0, 1], 9_000).into()])),
    ///     _ => lookup.answer::<[_; 0]>(Err(LookupError::NotFound)),
    /// });
    /// # drop(server);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn resolver(mut self, resolver: impl Resolver + 'static) -> Self {
        self.resolver = Arc::new(resolver);
        self
    }

    /// Starts one thread a shard; `make` is called on each of them. Returns when all of them serve.
    ///
    /// # Errors
    /// See [`StartError`]; no thread is left running then.
    ///
    /// ```
    /// use shardgram::{Handle, Handler, Server, StartError};
    /// fn start<H: Handler + From<u16>>(server: Server) -> Result<Handle<H::Message>, StartError> {
    ///     server.spawn(|info| H::from(info.shard))
    /// }
    /// ```
    pub fn spawn<H: Handler>(
        self,
        make: impl Fn(ShardInfo) -> H + Send + Sync + 'static,
    ) -> Result<Handle<H::Message>, StartError> {
        threads::spawn(self, make)
    }

    /// Serves until it is drained (see [`Config::drain_on_signals`]) or fails.
    ///
    /// # Errors
    /// See [`ServeError`].
    ///
    /// ```
    /// use shardgram::{Handler, ServeError, Server};
    /// fn serve<H: Handler + Default>(server: Server) -> Result<(), ServeError> {
    ///     let report = server.run(|_shard| H::default())?;
    ///     println!("{}", report.total);
    ///     Ok(())
    /// }
    /// ```
    pub fn run<H: Handler>(
        self,
        make: impl Fn(ShardInfo) -> H + Send + Sync + 'static,
    ) -> Result<Report, ServeError> {
        self.spawn(make)?.wait()
    }
}

fn to_many(config: &Config) -> SendToMany {
    let ToGroups { hops, looped, interface } = config.sends_to_groups();
    SendToMany { hops, looped, interface, broadcast: config.sends_broadcasts() }
}

/// What is told where trains are on by default and cannot be received.
const NO_TRAINS_IN: &str = "trains are sent and not received: over mio ecn and receive_timestamps leave no room for \
                            what says how long their datagrams are; turn one of the two off";

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
    let cores = config.core_list();
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

/// Every socket is a descriptor; the soft limit of many systems is 1,024.
#[cfg(unix)]
fn raise_limits() -> Option<u64> {
    let raised = shardgram_sys::limits::raise_descriptor_limit();
    raised.inspect_err(|error| tracing::warn!(%error, "the limit of descriptors cannot be raised")).ok()
}

#[cfg(not(unix))]
fn raise_limits() -> Option<u64> {
    None
}
