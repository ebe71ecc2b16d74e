//! Who lists this host's addresses while shards serve.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::Builder;

use super::{InterfaceAddress, broadcast_addresses, local_addresses};

/// This host's addresses at a time.
#[derive(Debug, Default)]
pub(super) struct List {
    pub(super) addresses: Vec<InterfaceAddress>,
    pub(super) unicast: HashSet<IpAddr>,
    pub(super) broadcasts: HashSet<Ipv4Addr>,
}

/// A list, unless it could not be made.
pub(super) type Made = Option<Arc<List>>;

impl List {
    fn make() -> Made {
        let of = |addresses: Vec<InterfaceAddress>, broadcasts: HashSet<Ipv4Addr>| {
            let is_unicast = |ip: &IpAddr| !matches!(ip, IpAddr::V4(v4) if broadcasts.contains(v4));
            let unicast = addresses.iter().map(|one| one.address).filter(is_unicast).collect();
            Self { unicast, addresses, broadcasts }
        };
        let list = local_addresses().and_then(|addresses| Ok(of(addresses, broadcast_addresses()?)));
        let list =
            list.inspect_err(|error| tracing::debug!(%error, "this host's addresses cannot be listed"));
        list.ok().map(Arc::new)
    }
}

/// Lists this host's addresses for all shards of a server, on one thread that sleeps until somebody asks.
///
/// To list them takes milliseconds where there are many (15 with 1,000, up to 200 with 10,000 on Linux). The thread ends
/// with the last clone of this, and with the last of the [`AnswerAddresses`](super::AnswerAddresses) made of it.
///
/// ```
/// use shardgram_sys::interfaces::{AddressLister, AnswerAddresses};
/// let lister = AddressLister::start()?;
/// let of_each_shard = [0, 1].map(|_| AnswerAddresses::of(&lister));
/// # drop(of_each_shard);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct AddressLister {
    ask: Sender<Sender<Made>>,
    first: Arc<List>,
}

impl AddressLister {
    /// Lists the addresses of the network namespace of the calling thread, which may take a while, and starts the thread.
    /// Call it on one that is not pinned to a core: a thread may run on the cores of the one that started it
    /// (sched_setaffinity(2)), and there it would take its time from the shard of that core.
    ///
    /// Where they cannot be listed, broadcast addresses are not told from others, and no address answers, until they can.
    ///
    /// # Errors
    ///
    /// EAGAIN where there are too many threads.
    pub fn start() -> io::Result<Self> {
        let (ask, asked) = channel();
        Builder::new().name("shardgram-list".to_owned()).spawn(move || serve(&asked))?;
        Ok(Self { ask, first: List::make().unwrap_or_default() })
    }

    /// The list there was at the start.
    pub(super) fn first(&self) -> Arc<List> {
        Arc::clone(&self.first)
    }

    /// Has a list made, from now on.
    pub(super) fn ask(&self) -> Receiver<Made> {
        let (tell, coming) = channel();
        // The thread cannot have ended.
        let _ = self.ask.send(tell);
        coming
    }

    /// One that is asked by the test.
    #[cfg(test)]
    pub(super) fn by_hand() -> (Self, Receiver<Sender<Made>>) {
        let (ask, asked) = channel();
        (Self { ask, first: Arc::default() }, asked)
    }
}

/// What the thread does: one list for all who have asked before it is begun. Each shard asks for one at a time, so no more
/// wait than there are shards.
fn serve(asked: &Receiver<Sender<Made>>) {
    for first in asked {
        let waiting: Vec<_> = std::iter::once(first).chain(asked.try_iter()).collect();
        let made = List::make();
        for shard in waiting {
            // Nobody waits if the shard has ended.
            let _ = shard.send(made.clone());
        }
    }
}
