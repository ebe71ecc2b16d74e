//! On Linux: network namespaces, and a thread that sleeps until the kernel announces another address.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use shardgram_core::own_addresses::OwnAddresses;
use shardgram_sys::interfaces::{AddressWatch, Waker};

use crate::host_addresses::list;

/// The least time between two lists, whatever the number of announcements.
const LIST_REST: Duration = Duration::from_millis(20);
/// How long to leave it when addresses cannot be listed or watched.
const FAILURE_REST: Duration = Duration::from_secs(1);

/// A network namespace, as `/proc` names it (namespaces(7)); `None` where that is not to be had, as without `/proc`.
pub(super) type Namespace = Option<PathBuf>;

/// That of the calling thread.
pub(super) fn namespace() -> Namespace {
    std::fs::read_link("/proc/thread-self/ns/net").ok()
}

/// Tells of each change of the host's addresses, until it is dropped.
#[derive(Debug)]
pub(super) struct Follower {
    stop: Option<Sender<()>>,
    waker: Waker,
    own: Arc<OwnAddresses>,
    thread: Option<JoinHandle<()>>,
}

impl Follower {
    /// Lists the addresses and begins to follow them. `None` if the kernel tells nobody, as in a sandbox without netlink,
    /// or where no descriptor is left: then shards list them when they have to.
    pub(super) fn start(own: &Arc<OwnAddresses>) -> Option<Self> {
        Self::try_start(own)
            .inspect_err(|error| tracing::debug!(%error, "changes of this host's addresses are not watched"))
            .ok()
    }

    fn try_start(own: &Arc<OwnAddresses>) -> io::Result<Self> {
        // Before the first list, so that nothing is missed.
        let mut watch = AddressWatch::new()?;
        let waker = watch.waker()?;
        let host = list().ok_or_else(|| io::Error::other("they cannot be listed"))?;
        let (stop, stopped) = channel();
        let follows = Arc::clone(own);
        let thread = Builder::new()
            .name("shardgram-own".to_owned())
            .spawn(move || follow(&mut watch, &follows, &stopped))?;
        own.host_has(host);
        own.watched(true);
        Ok(Self { stop: Some(stop), waker, own: Arc::clone(own), thread: Some(thread) })
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.own.watched(false);
        drop(self.stop.take());
        self.waker.wake();
        if let Some(thread) = self.thread.take() {
            // It ends at once, and has nothing to say.
            let _ = thread.join();
        }
    }
}

fn follow(watch: &mut AddressWatch, own: &OwnAddresses, stopped: &Receiver<()>) {
    loop {
        let changed = watch.wait(None);
        let rest = match changed {
            Ok(true) => match list() {
                Some(host) => {
                    own.host_has(host);
                    LIST_REST
                }
                None => FAILURE_REST,
            },
            Ok(false) => Duration::ZERO,
            Err(error) => {
                tracing::warn!(%error, "cannot wait for changes of this host's addresses");
                FAILURE_REST
            }
        };
        if stopped.recv_timeout(rest) == Err(RecvTimeoutError::Disconnected) {
            return;
        }
    }
}
