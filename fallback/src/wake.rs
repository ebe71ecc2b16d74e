//! How shards wake each other.

use std::io;
use std::sync::{Arc, OnceLock};

use mio::Waker;
use shardgram_sys::interfaces::AddressLister;

/// The ways to wake every shard of a server. Make one and give it to each shard's
/// [`MioDriver`](crate::MioDriver).
///
/// ```
/// use shardgram_fallback::Fleet;
/// let fleet = Fleet::new(2)?;
/// assert_eq!(fleet.shards(), 2);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Fleet {
    wakers: Box<[OnceLock<Waker>]>,
    lister: AddressLister,
}

impl Fleet {
    /// Room for so many shards, none of which can be woken before its driver is made. It has a thread that lists this host's
    /// addresses; make it on a thread that is not pinned to a core.
    ///
    /// # Errors
    /// EAGAIN where there are too many threads.
    pub fn new(shards: u16) -> io::Result<Arc<Self>> {
        let wakers = (0..shards).map(|_| OnceLock::new()).collect();
        Ok(Arc::new(Self { wakers, lister: AddressLister::start()? }))
    }

    /// Who lists this host's addresses.
    pub(crate) fn lister(&self) -> &AddressLister {
        &self.lister
    }

    /// How many shards there is room for.
    pub fn shards(&self) -> u16 {
        self.wakers.len() as u16
    }

    pub(crate) fn join(&self, shard: u16, waker: Waker) -> io::Result<()> {
        let place = self.wakers.get(usize::from(shard)).ok_or(io::ErrorKind::InvalidInput)?;
        place.set(waker).map_err(|_| io::ErrorKind::AlreadyExists.into())
    }

    /// Ends the wait of a shard, the present one or the next. One that has not begun needs no waking: it
    /// looks into its mailbox before it sleeps for the first time.
    pub(crate) fn wake(&self, shard: u16) {
        let Some(waker) = self.wakers.get(usize::from(shard)).and_then(OnceLock::get) else { return };
        if let Err(error) = waker.wake() {
            tracing::warn!(%error, shard, "a shard could not be woken");
        }
    }
}
