//! The bell that wakes a sleeping shard.
//!
//! A wake-up carries no data, and one is outstanding at most. A shard about to sleep raises its flag and then
//! looks once more for what there is to do; a sender puts its message in and then takes the flag down. Both
//! orders are sequentially consistent, so either the shard sees the message or the sender sees the flag.
//!
//! Who took the flag down has taken it on to wake the shard, and nobody else does. So a shard that ends wakes those it
//! had claimed, and what must not be missed (a stop, a drain) wakes every shard whatever its flag says.

use std::sync::OnceLock;

use crate::sync::{AtomicBool, Ordering, fence};

/// Wakes a shard's thread from any other: what a driver provides.
///
/// ```
/// use std::sync::mpsc::Sender;
/// use shardgram_core::mailbox::WakeFn;
/// fn by_channel(wakes: Sender<()>) -> WakeFn {
///     Box::new(move || drop(wakes.send(())))
/// }
/// ```
pub type WakeFn = Box<dyn Fn() + Send + Sync>;

/// The sleeping flag of a shard and the way to wake it.
///
/// ```
/// use shardgram_core::mailbox::Bell;
/// let (wakes, woken) = std::sync::mpsc::channel();
/// let bell = Bell::default();
/// bell.connect(Box::new(move || drop(wakes.send(())))); // by the driver
/// bell.wake(); // by whoever has something for the shard
/// assert!(woken.try_recv().is_ok());
/// ```
#[derive(Default)]
pub struct Bell {
    sleeping: AtomicBool,
    wake: OnceLock<WakeFn>,
}

impl Bell {
    /// Connects it to a driver. Only the first call counts.
    ///
    /// ```
    /// use std::sync::mpsc::Sender;
    /// use shardgram_core::mailbox::Bell;
    /// fn attach(bell: &Bell, wakes: Sender<()>) {
    ///     bell.connect(Box::new(move || drop(wakes.send(()))));
    /// }
    /// ```
    pub fn connect(&self, wake: WakeFn) {
        let _ = self.wake.set(wake);
    }

    /// The shard is about to sleep; after this it must look once more for anything to do.
    pub(crate) fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::Relaxed);
        // Orders the flag before the look that follows, as `claim` orders the message before the flag.
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether the shard sleeps and nobody has taken it on to wake it: then the caller has.
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::Relaxed)
            && self.sleeping.compare_exchange(true, false, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// Wakes the shard if it sleeps. From any thread.
    ///
    /// ```
    /// # use shardgram_core::mailbox::Bell;
    /// # let (wakes, woken) = std::sync::mpsc::channel();
    /// let bell = Bell::default();
    /// # bell.connect(Box::new(move || drop(wakes.send(()))));
    /// bell.ring();
    /// assert!(woken.try_recv().is_err()); // the shard is awake: there is nobody to wake
    /// ```
    pub fn ring(&self) {
        if self.claim() {
            self.wake();
        }
    }

    /// Wakes the shard, whatever its flag says: for whoever claimed it, and for what must not be missed.
    ///
    /// ```
    /// use shardgram_core::mailbox::Postbox;
    /// fn wake_all<M>(postboxes: &[Postbox<M>]) {
    ///     postboxes.iter().for_each(|postbox| postbox.bell().wake());
    /// }
    /// ```
    pub fn wake(&self) {
        if let Some(wake) = self.wake.get() {
            wake();
        }
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("sleeping", &self.sleeping).finish_non_exhaustive()
    }
}
