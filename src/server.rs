//! A server between its two steps: bound, and not yet running.

use std::net::SocketAddr;
use std::sync::Arc;

use shardgram_core::{Backend, Config, Handler, Resolver, ShardInfo};
use shardgram_sys::{Sharing, SocketHook};

use crate::bound::Bound;
use crate::error::{ServeError, StartError};
use crate::handle::{Handle, Report};
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
    bound: Bound,
    resolver: Arc<dyn Resolver>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("addresses", &self.bound.addresses)
            .field("config", &self.bound.config)
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
        let bound = Bound::new(config, hook)?;
        Ok(Self { bound, resolver: Arc::new(SystemResolver::new()) })
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
        &self.bound.addresses
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
        self.bound.choice.backend
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
        self.bound.choice.reason.as_deref()
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
        &self.bound.warnings
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
        self.bound
            .listeners
            .iter()
            .flatten()
            .try_for_each(|listener| fchown(&listener.socket, Some(uid), None))
    }

    /// One line that says what serves: addresses, shards, backend, how peers get sockets of their own and in quotes why not
    /// in the better way, whether one shard receives for all ([`shardgram_core::Receivers`]), and the reason of a
    /// fallback.
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
        let addresses: Vec<_> = self.bound.addresses.iter().map(ToString::to_string).collect();
        let addresses = if addresses.is_empty() { "nothing".to_owned() } else { addresses.join(",") };
        let shards = self.bound.config.settings().shards;
        let mut line =
            format!("listening on {addresses} shards={shards} backend={}", self.bound.choice.backend);
        match &self.bound.connected.way {
            Some(way) => {
                line.push_str(&format!(" tier={} accept={way}", self.bound.config.settings().tier));
                line.extend(way.reason().map(|reason| format!(" accept_reason={reason:?}")));
            }
            // Whatever the policy: peers have no sockets of their own here.
            None => line.push_str(" tier=listener"),
        }
        if self.bound.sharing == Sharing::OneReceiver && !self.bound.addresses.is_empty() {
            line.push_str(" receivers=one");
        }
        if let Some(reason) = &self.bound.choice.reason {
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
    /// `make` is called again when a handler that panicked is to be replaced ([`Handler::AFTER_PANIC`]). What the failed
    /// one had learned by messages ([`crate::Remote::tell`]) is lost with it, and nobody tells the fresh one. So what is
    /// to outlive a handler is kept where `make` finds it:
    ///
    /// ```
    /// use std::sync::{Arc, RwLock};
    /// # use shardgram::{Accept, Context, Datagram, Handler, PeerId};
    /// use shardgram::{Config, Server};
    ///
    /// struct Game { rules: Arc<RwLock<Arc<String>>> } // one pointer is copied under the lock, now and then
    /// # impl Handler for Game {
    /// #     type Peer = (); type Timer = (); type Message = ();
    /// #     fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
    /// #         let rules = Arc::clone(&self.rules.read().expect("no writer panics"));
    /// #         if rules.is_empty() || first.is_empty() { Accept::Drop("nothing") } else { Accept::Peer(()) }
    /// #     }
    /// # }
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let rules = Arc::new(RwLock::new(Arc::new("be nice".to_owned())));
    /// let shared = Arc::clone(&rules);
    /// let server = Server::bind(Config::new().listen("127.0.0.1:0".parse()?))?;
    /// let handle = server.spawn(move |_shard| Game { rules: Arc::clone(&shared) })?;
    /// // Instead of a message to each shard, which a later handler of that shard would not know of:
    /// *rules.write().expect("no reader panics") = Arc::new("be quick".to_owned());
    /// # handle.drain(std::time::Duration::from_secs(1))?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// A lock that is taken for each datagram would be one for all shards; where that is too much, `make` hands a copy to
    /// the handler, and a message only says that there is something newer to look at.
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
        threads::spawn(self.bound, &self.resolver, make)
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
