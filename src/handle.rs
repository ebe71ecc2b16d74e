//! A running server, and how it ends.

use std::thread::JoinHandle;
use std::time::Duration;

use shardgram_core::Snapshot;
use shardgram_core::shard_loop::Ending;

use crate::error::ServeError;
use crate::foreign_sockets::ForeignSockets;
use crate::local_addresses::AddressThreads;
use crate::own_addresses::Listening;
use crate::remote::Remote;
use crate::signals::SignalDrain;
use crate::tied_listeners::TiedThread;

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
    followers: Box<Followers>,
    /// Until the threads have ended.
    _listening: Listening,
}

/// Who follows what changes about the host while the server runs, until it is dropped.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    pub(crate) _addresses: Option<AddressThreads>,
    pub(crate) _tied: Option<TiedThread>,
    pub(crate) _foreign: Option<ForeignSockets>,
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
        followers: Followers,
        listening: Listening,
    ) -> Self {
        Self { remote, threads: Vec::new(), signals, followers: Box::new(followers), _listening: listening }
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
        drop((self.signals.take(), std::mem::take(&mut self.followers)));
        let mut report = Report { total: Snapshot::default(), shards: Vec::new() };
        for (shard, ending) in endings.into_iter().enumerate() {
            let shard = shard as u16;
            match ending {
                Ending::TooManyRestarts { callback, panics } => {
                    return Err(ServeError::TooManyRestarts { shard, callback, panics });
                }
                Ending::Failed(source) => return Err(ServeError::Shard { shard, source }),
                ending => {
                    let stats = self.remote.shard_counters()[usize::from(shard)].snapshot();
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
