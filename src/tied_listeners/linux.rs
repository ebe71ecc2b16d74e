//! Listeners that are bound to an interface, by their link-local address or by a socket hook, that have joined groups by one,
//! or send to groups by one, on Linux.
//!
//! One that is made anew has another index, and the kernel tells no socket. So a thread sleeps until an interface comes,
//! goes or changes, and has the sockets of one that returned serve it ([`Tied`], [`Followed`]). Shards and drivers notice
//! nothing.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use shardgram_core::Stats;
use shardgram_sys::interfaces::{AddressWatch, Tie, Tied, Waker};
use shardgram_sys::multicast::Followed;

use crate::bound::Bound;
use crate::error::StartError;

/// The least time between two looks, whatever the number of announcements.
const LOOK_REST: Duration = Duration::from_millis(20);
/// How often it is looked without an announcement while nothing comes by a listener, or the kernel announces nothing.
const LOOKS: Duration = Duration::from_secs(1);

/// The listeners of a server that are bound to an interface.
#[derive(Debug)]
pub(crate) struct TiedListeners {
    bound: Vec<Listener>,
    /// What listeners do by an interface that they are not bound to, and whether that comes to nothing now.
    to_groups: Vec<(Followed, bool)>,
}

#[derive(Debug)]
struct Listener {
    shard: usize,
    address: SocketAddr,
    tied: Tied,
    deaf: bool,
    /// Its address has one of each shard, of which one speaks for all in the log.
    speaks: bool,
}

impl TiedListeners {
    /// Finds them. Those of local addresses under a wildcard are not among them: they go with their addresses.
    ///
    /// # Errors
    /// As for [`Bound::members`].
    pub(crate) fn among(bound: &Bound) -> Result<Self, StartError> {
        let asked = &bound.config.settings().listen;
        let mut found: Vec<Listener> = Vec::new();
        for (shard, of_shard) in bound.listeners.iter().enumerate() {
            for listener in of_shard.iter().filter(|listener| listener.local.is_none()) {
                let port_given = asked.get(usize::from(listener.listen)).is_some_and(|at| at.port() != 0);
                let tied = Tied::of(&listener.socket, port_given)
                    .inspect_err(|error| tracing::warn!(%error, "a listener's interface is not followed"));
                let (Ok(Some(tied)), Ok(address)) = (tied, listener.socket.local_addr()) else { continue };
                let speaks = found.iter().all(|other| other.address != address);
                found.push(Listener { shard, address, tied, deaf: false, speaks });
            }
        }
        let members = bound.members()?.into_iter();
        let joined = members.map(|(listener, membership)| Followed::membership(&listener.socket, membership));
        let mut to_groups: Vec<_> = joined.filter_map(|joined| follows(joined.transpose()?)).collect();
        if let Some(interface) = bound.options.multicast_interface {
            let plain = bound.listeners.iter().flatten().filter(|listener| listener.local.is_none());
            to_groups.extend(plain.filter_map(|it| follows(Followed::sending(&it.socket, interface))));
        }
        let to_groups = to_groups.into_iter().map(|followed| (followed, false)).collect();
        Ok(Self { bound: found, to_groups })
    }

    /// Begins to follow their interfaces, if there are any.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn follow(self, stats: Arc<[Arc<Stats>]>) -> io::Result<Option<TiedThread>> {
        if self.bound.is_empty() && self.to_groups.is_empty() {
            return Ok(None);
        }
        let watch = AddressWatch::of_interfaces().and_then(|watch| Ok((watch.waker()?, watch)));
        let watch = watch
            .inspect_err(|error| tracing::debug!(%error, "interfaces are not watched, but looked at"))
            .ok();
        let (waker, watch) = watch.unzip();
        let (stop, stopped) = channel();
        let follower = Follower { tied: self, stats, watch, stopped };
        let thread = Builder::new().name("shardgram-interfaces".to_owned()).spawn(move || follower.run())?;
        Ok(Some(TiedThread { stop: Some(stop), waker, thread: Some(thread) }))
    }
}

/// The thread. It ends when this is dropped, and its duplicates of the sockets with it.
#[derive(Debug)]
pub(crate) struct TiedThread {
    stop: Option<Sender<()>>,
    waker: Option<Waker>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for TiedThread {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(waker) = &self.waker {
            waker.wake();
        }
        if let Some(thread) = self.thread.take() {
            // It ends at once, and has nothing to say.
            let _ = thread.join();
        }
    }
}

struct Follower {
    tied: TiedListeners,
    stats: Arc<[Arc<Stats>]>,
    watch: Option<AddressWatch>,
    stopped: Receiver<()>,
}

impl Follower {
    fn run(mut self) {
        loop {
            // One may have gone between bind and now, or while it was looked.
            let any_deaf = self.look();
            let rest = match &mut self.watch {
                Some(watch) => watch.wait(any_deaf.then_some(LOOKS)).map_or(LOOKS, |_| LOOK_REST),
                None => LOOKS,
            };
            if self.stopped.recv_timeout(rest) == Err(RecvTimeoutError::Disconnected) {
                return;
            }
        }
    }

    /// Looks at all of them; whether nothing comes by one.
    fn look(&mut self) -> bool {
        let mut deaf = vec![0; self.stats.len()];
        for listener in &mut self.tied.bound {
            listener.look();
            deaf[listener.shard] += u64::from(listener.deaf);
        }
        for (stats, deaf) in self.stats.iter().zip(&deaf) {
            stats.set_listeners_deaf(*deaf);
        }
        self.tied.to_groups.iter_mut().for_each(look_at);
        deaf.iter().any(|deaf| *deaf > 0) || self.tied.to_groups.iter().any(|(_, lost)| *lost)
    }
}

fn follows<T>(followed: io::Result<T>) -> Option<T> {
    followed.inspect_err(|error| tracing::warn!(%error, "a group's interface is not followed")).ok()
}

/// Looks at what a listener does by an interface, and says what became of that.
fn look_at((followed, lost): &mut (Followed, bool)) {
    let looked = followed.look();
    let before = std::mem::replace(lost, !matches!(looked, Ok(Tie::Holds | Tie::Mended)));
    let interface = followed.interface();
    match (looked, followed.what()) {
        (Ok(Tie::Mended), Some(group)) => {
            tracing::warn!(%interface, %group, "an interface was made anew, and the group is joined there again");
        }
        (Ok(Tie::Mended), None) => {
            tracing::warn!(%interface, "an interface was made anew, and what is sent to groups leaves by it again");
        }
        (Ok(Tie::Broken), Some(group)) if !before => {
            tracing::warn!(%interface, %group, "an interface has gone: nothing is heard of the group until there is one of that name again");
        }
        (Ok(Tie::Broken), None) if !before => {
            tracing::warn!(%interface, "an interface has gone: nothing leaves to groups until there is one of that name again");
        }
        (Err(error), _) if !before => {
            tracing::warn!(%interface, %error, "an interface was made anew and groups do not work there yet: it is tried again every second");
        }
        (Ok(_) | Err(_), _) => {}
    }
}

impl Listener {
    fn look(&mut self) {
        let Self { address, tied, deaf, speaks, .. } = self;
        let looked = tied.look();
        let (before, interface) =
            (std::mem::replace(deaf, !matches!(looked, Ok(Tie::Holds | Tie::Mended))), tied.interface());
        match looked {
            _ if !*speaks => {}
            Ok(Tie::Mended) => {
                let forwards = if address.ip().is_unspecified() {
                    "; one shard receives for all until the next start"
                } else {
                    ""
                };
                tracing::warn!(%address, interface, "a listener's interface was made anew, and the listener serves it{forwards}");
            }
            Ok(Tie::Broken) if !before => {
                tracing::warn!(%address, interface, "a listener's interface has gone: nothing reaches it until there is one of that name again");
            }
            Err(error) if !before => {
                tracing::warn!(
                    %address, interface, %error,
                    "a listener's interface was made anew and the listener cannot follow: nothing reaches it; start the server \
                     again, or have it listen on a port that is named, without a filter of a socket hook"
                );
            }
            Ok(_) | Err(_) => {}
        }
    }
}
