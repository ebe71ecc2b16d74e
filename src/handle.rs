//! A running server, seen from outside its shards.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use shardgram_core::control::Control;
use shardgram_core::mailbox::Postbox;
use shardgram_core::shard_loop::Ending;
use shardgram_core::{Full, Snapshot, Stats};

use crate::error::ServeError;
use crate::local_addresses::AddressThreads;
use crate::signals::SignalDrain;

/// What "never" comes to where a deadline has to be a time.
const FAR: Duration = Duration::from_secs(100 * 365 * 86_400);
/// How long [`Remote::stats`] waits for shards to read what the kernel counts.
const REFRESH_PATIENCE: Duration = Duration::from_millis(50);

/// Speaks with a running server from any thread. May be cloned; outliving the server does no harm.
///
/// ```
/// use shardgram::Remote;
/// fn report<M: Send>(server: &Remote<M>) -> String {
///     let stats = server.stats();
///     format!("{} received, {} sent", stats.received, stats.sent())
/// }
/// ```
pub struct Remote<M> {
    postboxes: Arc<[Postbox<M>]>,
    control: Arc<Control>,
    stats: Arc<[Arc<Stats>]>,
    listeners: Arc<[SocketAddr]>,
}

impl<M> Clone for Remote<M> {
    fn clone(&self) -> Self {
        Self {
            postboxes: Arc::clone(&self.postboxes),
            control: Arc::clone(&self.control),
            stats: Arc::clone(&self.stats),
            listeners: Arc::clone(&self.listeners),
        }
    }
}

impl<M> std::fmt::Debug for Remote<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl<M> Remote<M> {
    pub(crate) fn new(
        postboxes: Arc<[Postbox<M>]>,
        control: Arc<Control>,
        stats: Arc<[Arc<Stats>]>,
        listeners: Arc<[SocketAddr]>,
    ) -> Self {
        Self { postboxes, control, stats, listeners }
    }

    pub(crate) fn postboxes(&self) -> &Arc<[Postbox<M>]> {
        &self.postboxes
    }

    pub(crate) fn control(&self) -> &Arc<Control> {
        &self.control
    }

    pub(crate) fn shard_counters(&self) -> &[Arc<Stats>] {
        &self.stats
    }

    pub(crate) fn listeners(&self) -> &Arc<[SocketAddr]> {
        &self.listeners
    }

    /// The addresses listened on.
    ///
    /// ```
    /// fn any_port<M>(server: &shardgram::Remote<M>) -> Option<u16> {
    ///     server.local_addrs().first().map(|address| address.port())
    /// }
    /// ```
    pub fn local_addrs(&self) -> &[SocketAddr] {
        &self.listeners
    }

    /// Sends a message to a shard and wakes it if it sleeps.
    ///
    /// # Errors
    /// Gives the message back if the shard's mailbox is full, the shard has ended, or there is none such.
    ///
    /// ```
    /// use shardgram::{Full, Remote};
    /// fn announce(server: &Remote<String>, news: &str) {
    ///     if let Err(Full(news)) = server.tell(0, news.to_owned()) {
    ///         eprintln!("shard 0 is too busy for {news:?}");
    ///     }
    /// }
    /// ```
    pub fn tell(&self, shard: u16, message: M) -> Result<(), Full<M>> {
        match self.postboxes.get(usize::from(shard)) {
            Some(postbox) => postbox.post(message),
            None => Err(Full(message)),
        }
    }

    /// The counters of all shards together, kernel drops included.
    ///
    /// ```
    /// fn metrics<M>(server: &shardgram::Remote<M>) -> String {
    ///     let counters = server.stats().named();
    ///     counters.into_iter().map(|(name, value)| format!("shardgram_{name} {value}\n")).collect()
    /// }
    /// ```
    pub fn stats(&self) -> Snapshot {
        let mut total = Snapshot::default();
        for shard in self.shard_stats() {
            total.add(&shard);
        }
        total
    }

    /// The counters of each shard.
    ///
    /// ```
    /// fn busiest<M>(server: &shardgram::Remote<M>) -> Option<usize> {
    ///     let shards = server.shard_stats();
    ///     (0..shards.len()).max_by_key(|shard| shards[*shard].received)
    /// }
    /// ```
    pub fn shard_stats(&self) -> Vec<Snapshot> {
        self.refresh();
        self.stats.iter().map(|s| s.snapshot()).collect()
    }

    /// Asks the shards to drain within this time. See [`Handle::drain`].
    ///
    /// ```
    /// use std::time::Duration;
    /// fn on_terminate<M>(server: &shardgram::Remote<M>) {
    ///     server.start_drain(Duration::from_secs(10)); // returns at once; Handle::wait waits for the end
    /// }
    /// ```
    pub fn start_drain(&self, within: Duration) {
        let now = Instant::now();
        self.control.drain(now.checked_add(within).unwrap_or(now + FAR));
        self.ring();
    }

    /// Asks the shards to end without draining.
    ///
    /// ```
    /// use shardgram::{Handle, Report, ServeError};
    /// fn stop<M: Send>(server: Handle<M>) -> Result<Report, ServeError> {
    ///     server.stop();
    ///     server.wait()
    /// }
    /// ```
    pub fn stop(&self) {
        self.control.stop();
        self.ring();
    }

    /// Wakes every shard, whether or not its flag says that it sleeps: somebody else may have taken it on
    /// to wake it, and end before that.
    fn ring(&self) {
        for postbox in self.postboxes.iter() {
            postbox.bell().wake();
        }
    }

    /// Has the shards read what the kernel counts; one that ended has left its last figure.
    fn refresh(&self) {
        let before = self.control.refreshes();
        self.control.refresh();
        self.ring();
        let end = Instant::now() + REFRESH_PATIENCE;
        let ended = || self.control.stopping() || self.control.draining().is_some();
        while self.control.refreshes() < before + self.stats.len() as u64 && !ended() && Instant::now() < end
        {
            std::thread::sleep(Duration::from_micros(100));
        }
    }
}

/// A running server. Dropping it stops the shards without draining and waits for their threads.
///
/// It dereferences to [`Remote`], of which clones may be kept elsewhere.
///
/// ```
/// # use shardgram::{Accept, Config, Context, Datagram, Handler, Server};
/// # struct Quiet;
/// # impl Handler for Quiet {
/// #     type Peer = (); type Timer = (); type Message = ();
/// #     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
/// #         Accept::Drop("quiet")
/// #     }
/// # }
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let server = Server::bind(Config::new().listen("127.0.0.1:0".parse()?))?;
/// let handle = server.spawn(|_shard| Quiet)?;
/// let report = handle.drain(std::time::Duration::from_secs(1))?;
/// assert_eq!(report.total.unaccounted(), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Handle<M: Send + 'static> {
    remote: Remote<M>,
    threads: Vec<JoinHandle<Ending>>,
    signals: Option<SignalDrain>,
    addresses: Option<AddressThreads>,
}

impl<M: Send + 'static> std::ops::Deref for Handle<M> {
    type Target = Remote<M>;
    fn deref(&self) -> &Remote<M> {
        &self.remote
    }
}

impl<M: Send + 'static> Handle<M> {
    pub(crate) fn new(
        remote: Remote<M>,
        signals: Option<SignalDrain>,
        addresses: Option<AddressThreads>,
    ) -> Self {
        Self { remote, threads: Vec::new(), signals, addresses }
    }

    pub(crate) fn adopt(&mut self, thread: JoinHandle<Ending>) {
        self.threads.push(thread);
    }

    /// What can be cloned and kept elsewhere.
    ///
    /// ```
    /// use std::time::Duration;
    /// fn print_every_second<M: Send>(server: &shardgram::Handle<M>) {
    ///     let remote = server.remote();
    ///     std::thread::spawn(move || loop {
    ///         println!("{}", remote.stats());
    ///         std::thread::sleep(Duration::from_secs(1));
    ///     });
    /// }
    /// ```
    pub fn remote(&self) -> Remote<M> {
        self.remote.clone()
    }

    /// Lets every shard finish what has arrived, as its handler decides in
    /// [`on_drain`](crate::Handler::on_drain), and ends them by `within` at the latest.
    ///
    /// # Errors
    /// See [`ServeError`].
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram::{Handle, ServeError};
    /// fn shut_down<M: Send>(server: Handle<M>) -> Result<(), ServeError> {
    ///     let report = server.drain(Duration::from_secs(10))?;
    ///     println!("{}", report.total);
    ///     Ok(())
    /// }
    /// ```
    pub fn drain(self, within: Duration) -> Result<Report, ServeError> {
        self.remote.start_drain(within);
        self.wait()
    }

    /// Waits until all shards have ended.
    ///
    /// # Errors
    /// See [`ServeError`].
    ///
    /// ```
    /// use shardgram::{Ending, Handle, ServeError};
    /// fn drained<M: Send>(server: Handle<M>) -> Result<bool, ServeError> {
    ///     let report = server.wait()?;
    ///     Ok(report.shards.iter().all(|shard| matches!(shard.ending, Ending::Drained)))
    /// }
    /// ```
    pub fn wait(mut self) -> Result<Report, ServeError> {
        let endings = self.join();
        drop((self.signals.take(), self.addresses.take()));
        let mut report = Report { total: Snapshot::default(), shards: Vec::new() };
        for (shard, ending) in endings.into_iter().enumerate() {
            let shard = shard as u16;
            match ending {
                Ending::TooManyRestarts => return Err(ServeError::TooManyRestarts { shard }),
                Ending::Failed(source) => return Err(ServeError::Shard { shard, source }),
                ending => {
                    let stats = self.remote.stats[usize::from(shard)].snapshot();
                    report.total.add(&stats);
                    report.shards.push(ShardReport { ending, stats });
                }
            }
        }
        Ok(report)
    }

    fn join(&mut self) -> Vec<Ending> {
        let panicked = |_| Ending::Failed(std::io::Error::other("the shard's thread panicked"));
        self.threads.drain(..).map(|thread| thread.join().unwrap_or_else(panicked)).collect()
    }
}

impl<M: Send + 'static> Drop for Handle<M> {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.remote.stop();
            self.join();
        }
    }
}

/// How a server ended.
///
/// ```
/// fn summary(report: &shardgram::Report) -> String {
///     format!("{} received, {} lost in the kernel", report.total.received, report.total.kernel_dropped)
/// }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Report {
    /// The counters of all shards together.
    pub total: Snapshot,
    /// Each shard's.
    pub shards: Vec<ShardReport>,
}

/// How a shard ended.
///
/// ```
/// use shardgram::{Ending, ShardReport};
/// fn in_time(shard: &ShardReport) -> bool { matches!(shard.ending, Ending::Drained) }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct ShardReport {
    /// Why.
    pub ending: Ending,
    /// Its counters.
    pub stats: Snapshot,
}
