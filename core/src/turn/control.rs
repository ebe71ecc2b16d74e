//! What a server's owner tells its shards: drain, or stop.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::time::Instant;

use crate::messages::mailbox::InFlight;

/// Shared by the shards of a server and its handles.
///
/// ```
/// use shardgram_core::control::Control;
/// let control = Control::default();
/// let deadline = std::time::Instant::now();
/// control.drain(deadline);
/// assert_eq!(control.draining(), Some(deadline));
/// ```
#[derive(Debug, Default)]
pub struct Control {
    drain: OnceLock<Instant>,
    stop: AtomicBool,
    /// Shards that have drained and wait for the others, since those may still send them something.
    quiet: AtomicU32,
    /// How often a shard became quiet or ceased to be.
    changes: AtomicU64,
    drained: AtomicBool,
    /// Shards that know that all have drained and receive no more.
    deaf: AtomicU32,
    /// How often shards were asked for something, of either kind, so that they look at one number only.
    asked: AtomicU64,
    refresh_asked: AtomicU64,
    refresh_done: AtomicU64,
    /// Questions of shards to all others whether they have handed on what had come to them.
    questions: AtomicU64,
}

impl Control {
    /// Asks the shards to drain by `deadline`. The first deadline given stands. Ring their bells after.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use shardgram_core::{control::Control, mailbox::Postbox};
    /// fn drain<M>(control: &Control, postboxes: &[Postbox<M>]) {
    ///     control.drain(Instant::now() + Duration::from_secs(5));
    ///     postboxes.iter().for_each(|shard| shard.bell().wake());
    /// }
    /// ```
    pub fn drain(&self, deadline: Instant) {
        let _ = self.drain.set(deadline);
    }

    /// Asks the shards to end without draining. Ring their bells after.
    ///
    /// ```
    /// let control = shardgram_core::control::Control::default();
    /// control.stop();
    /// assert!(control.stopping());
    /// ```
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
    }

    /// The deadline of the drain, if one was asked for.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// let control = shardgram_core::control::Control::default();
    /// assert_eq!(control.draining(), None);
    /// let first = Instant::now();
    /// control.drain(first);
    /// control.drain(first + Duration::from_secs(9));
    /// assert_eq!(control.draining(), Some(first));
    /// ```
    #[inline]
    pub fn draining(&self) -> Option<Instant> {
        self.drain.get().copied()
    }

    /// Whether the shards are to end at once.
    ///
    /// ```
    /// fn goes_on(control: &shardgram_core::control::Control) -> bool {
    ///     !control.stopping() && control.draining().is_none()
    /// }
    /// ```
    #[inline]
    pub fn stopping(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }

    /// Asks the shards to read what the kernel counts. Ring their bells after.
    ///
    /// ```
    /// let control = shardgram_core::control::Control::default();
    /// assert_eq!(control.refresh(), 1); // the shards answer in their next turn
    /// assert_eq!(control.refreshes(), 0);
    /// ```
    pub fn refresh(&self) -> u64 {
        let number = self.refresh_asked.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.fetch_add(1, Ordering::AcqRel);
        number
    }

    /// How many answers there were to [`Control::refresh`], of all shards together.
    ///
    /// ```
    /// use shardgram_core::{control::Control, mailbox::Postbox};
    /// fn refresh<M>(control: &Control, postboxes: &[Postbox<M>]) {
    ///     let before = control.refreshes();
    ///     control.refresh();
    ///     postboxes.iter().for_each(|shard| shard.bell().wake());
    ///     while control.refreshes() < before + postboxes.len() as u64 { std::thread::yield_now(); }
    /// }
    /// ```
    pub fn refreshes(&self) -> u64 {
        self.refresh_done.load(Ordering::Acquire)
    }

    /// Changes when shards are asked for something.
    #[inline]
    pub(crate) fn asked(&self) -> u64 {
        self.asked.load(Ordering::Acquire)
    }

    /// Asks the other shards whether what had come to them is handed on, and gives the number of that question, from 1.
    /// Wake them after.
    pub(crate) fn ask_what_is_held(&self) -> u64 {
        let number = self.questions.fetch_add(1, Ordering::AcqRel) + 1;
        self.asked.fetch_add(1, Ordering::AcqRel);
        number
    }

    /// The last such question of any shard.
    pub(crate) fn last_question(&self) -> u64 {
        self.questions.load(Ordering::Acquire)
    }

    pub(crate) fn refresh_asked(&self) -> u64 {
        self.refresh_asked.load(Ordering::Acquire)
    }

    pub(crate) fn refresh_done(&self) {
        self.refresh_done.fetch_add(1, Ordering::AcqRel);
    }

    pub(crate) fn report_quiet(&self, quiet: bool) {
        self.changes.fetch_add(1, Ordering::SeqCst);
        if quiet {
            self.quiet.fetch_add(1, Ordering::SeqCst);
        } else {
            self.quiet.fetch_sub(1, Ordering::SeqCst);
        }
    }

    /// Whether the server has drained: every shard was quiet at one moment, with no mail between them.
    /// Once it has, it has for every shard.
    pub(crate) fn all_drained(&self, shards: u16, in_flight: &InFlight) -> bool {
        if self.drained.load(Ordering::SeqCst) {
            return true;
        }
        let changes = self.changes.load(Ordering::SeqCst);
        let quiet = self.quiet.load(Ordering::SeqCst) >= u32::from(shards) && in_flight.is_none();
        // A shard that handled mail in between has said that it is not quiet before the mail was gone, so
        // an unchanged count means that the two readings held together.
        if quiet && self.changes.load(Ordering::SeqCst) == changes {
            self.drained.store(true, Ordering::SeqCst);
            return true;
        }
        false
    }

    /// A shard has found that all have drained: from now on it receives nothing.
    pub(crate) fn receives_no_more(&self) {
        self.deaf.fetch_add(1, Ordering::SeqCst);
    }

    /// Whether no shard receives any more, so that nothing is forwarded to a shard that has ended.
    pub(crate) fn all_receive_no_more(&self, shards: u16) -> bool {
        self.deaf.load(Ordering::SeqCst) >= u32::from(shards)
    }
}
