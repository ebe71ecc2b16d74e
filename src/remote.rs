//! How any thread speaks with a running server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::control::Control;
use shardgram_core::mailbox::Postbox;
use shardgram_core::{Full, Snapshot, Stats};

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
    /// /// What a page for Prometheus says.
    /// fn metrics<M>(server: &shardgram::Remote<M>) -> String {
    ///     server.stats().prometheus()
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

    /// Asks the shards to drain within this time. See [`Handle::drain`](crate::Handle::drain).
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
