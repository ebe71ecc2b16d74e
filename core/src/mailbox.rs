//! Mailboxes between shards, and the bell that wakes a sleeping one.
//!
//! Data goes through a bounded channel; the wake-up is a separate thing that carries none and of which
//! one is outstanding at most. A shard about to sleep raises its flag and then looks once more; a sender
//! puts its message in and then takes the flag down. Both orders are sequentially consistent, so either
//! the shard sees the message or the sender sees the flag.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::datagram::{Meta, Path};
use crate::error::Full;
use crate::handler::Origin;
use crate::peers::PeerId;

/// Forwarded datagrams that may wait for a shard, and their bytes. They are bounded apart from messages, so
/// that a flood that reaches the wrong shard leaves messages their room and memory its bound.
const FORWARDS: usize = 1024;
const FORWARD_BYTES: u64 = 8 << 20;

/// What travels between shards.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Message(Origin, M),
    Forward(Box<Forwarded>),
}

/// A datagram that reached the wrong shard; with a peer if it is one more path of that one.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) path: Path,
    pub(crate) meta: Meta,
    pub(crate) peer: Option<PeerId>,
    pub(crate) bytes: Vec<u8>,
}

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
        self.sleeping.load(Ordering::Relaxed) && self.sleeping.swap(false, Ordering::AcqRel)
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

/// Mail of all shards of a server that was put into a mailbox and is not handled yet. While there is any,
/// no shard may take the server for drained.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<AtomicU64>);

impl InFlight {
    fn begin(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn end(&self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }

    pub(crate) fn is_none(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 0
    }
}

/// The way into one shard's mailbox.
///
/// ```
/// use shardgram_core::mailbox::{Postbox, mailboxes};
/// fn anywhere(postboxes: &[Postbox<u32>], message: u32) -> bool {
///     postboxes.iter().any(|shard| shard.post(message).is_ok())
/// }
/// let (postboxes, _mailboxes) = mailboxes(2, 1);
/// assert_eq!([1, 2, 3].map(|message| anywhere(&postboxes, message)), [true, true, false]);
/// ```
pub struct Postbox<M> {
    messages: Sender<(Origin, M)>,
    forwards: Sender<Box<Forwarded>>,
    forward_bytes: Arc<AtomicU64>,
    in_flight: InFlight,
    bell: Arc<Bell>,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Self {
        Self {
            messages: self.messages.clone(),
            forwards: self.forwards.clone(),
            forward_bytes: Arc::clone(&self.forward_bytes),
            in_flight: self.in_flight.clone(),
            bell: Arc::clone(&self.bell),
        }
    }
}

impl<M> std::fmt::Debug for Postbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postbox").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

impl<M> Postbox<M> {
    /// Puts a message in from outside the shards and wakes the shard.
    ///
    /// # Errors
    /// Gives the message back if the mailbox is full or its shard has ended.
    ///
    /// ```
    /// use shardgram_core::{Full, mailbox::mailboxes};
    /// let (postboxes, _mailboxes) = mailboxes(1, 1);
    /// assert_eq!(postboxes[0].post("first"), Ok(()));
    /// assert_eq!(postboxes[0].post("second"), Err(Full("second")));
    /// ```
    pub fn post(&self, message: M) -> Result<(), Full<M>> {
        self.put_message(Origin::Handle, message)?;
        self.bell.ring();
        Ok(())
    }

    /// Puts a message in and leaves the waking to the caller.
    pub(crate) fn put_message(&self, origin: Origin, message: M) -> Result<(), Full<M>> {
        self.in_flight.begin();
        self.messages.try_send((origin, message)).map_err(|e| {
            self.in_flight.end();
            match e {
                TrySendError::Full((_, message)) | TrySendError::Disconnected((_, message)) => Full(message),
            }
        })
    }

    /// Puts a forwarded datagram in and leaves the waking to the caller. False if there is no room.
    pub(crate) fn put_forward(&self, forwarded: Forwarded) -> bool {
        let bytes = forwarded.bytes.len() as u64;
        if self.forward_bytes.fetch_add(bytes, Ordering::Relaxed) + bytes > FORWARD_BYTES {
            self.forward_bytes.fetch_sub(bytes, Ordering::Relaxed);
            return false;
        }
        self.in_flight.begin();
        let put = self.forwards.try_send(Box::new(forwarded)).is_ok();
        if !put {
            self.in_flight.end();
            self.forward_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        put
    }

    /// The bell of the shard this leads to.
    ///
    /// ```
    /// use shardgram_core::mailbox::mailboxes;
    /// let (postboxes, mailboxes) = mailboxes::<()>(1, 8);
    /// assert!(std::sync::Arc::ptr_eq(postboxes[0].bell(), mailboxes[0].bell()));
    /// ```
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

/// A shard's end of its mailbox.
///
/// ```
/// use shardgram_core::{Full, mailbox::mailboxes};
/// let (postboxes, mailboxes) = mailboxes(1, 8);
/// drop(mailboxes); // the shard has ended: nobody will read what is posted
/// assert_eq!(postboxes[0].post(7), Err(Full(7)));
/// ```
pub struct Mailbox<M> {
    messages: Receiver<(Origin, M)>,
    forwards: Receiver<Box<Forwarded>>,
    forward_bytes: Arc<AtomicU64>,
    in_flight: InFlight,
    bell: Arc<Bell>,
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

/// The mailboxes of a server's shards, for `len` messages each, and the ways into them. Forwarded datagrams
/// have bounds of their own beside: 1,024 of them and 8 MiB.
///
/// ```
/// use shardgram_core::mailbox::mailboxes;
/// let (postboxes, mailboxes) = mailboxes::<String>(4, 1024);
/// assert_eq!((postboxes.len(), mailboxes.len()), (4, 4));
/// ```
pub fn mailboxes<M>(shards: u16, len: usize) -> (Arc<[Postbox<M>]>, Vec<Mailbox<M>>) {
    let in_flight = InFlight::default();
    let pair = |_| {
        let (messages, message_receiver) = bounded(len);
        let (forwards, forward_receiver) = bounded(FORWARDS);
        let (bell, forward_bytes) = (Arc::<Bell>::default(), Arc::<AtomicU64>::default());
        let mailbox = Mailbox {
            messages: message_receiver,
            forwards: forward_receiver,
            forward_bytes: Arc::clone(&forward_bytes),
            in_flight: in_flight.clone(),
            bell: Arc::clone(&bell),
        };
        (Postbox { messages, forwards, forward_bytes, in_flight: in_flight.clone(), bell }, mailbox)
    };
    let (postboxes, mailboxes): (Vec<_>, Vec<_>) = (0..shards).map(pair).unzip();
    (postboxes.into(), mailboxes)
}

impl<M> Mailbox<M> {
    /// The bell of the shard whose mailbox this is.
    ///
    /// ```
    /// use std::sync::Arc;
    /// use shardgram_core::{mailbox::Bell, shard_loop::Setup};
    /// fn bell_of<M>(setup: &Setup<M>) -> Arc<Bell> {
    ///     Arc::clone(setup.mailbox.bell()) // for the driver, before the setup goes to the loop
    /// }
    /// ```
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.messages.is_empty() && self.forwards.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len() + self.forwards.len()
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// The next item, forwarded datagrams first: they are the older traffic. [`Mailbox::handled`] has to
    /// follow.
    pub(crate) fn take(&self) -> Option<Mail<M>> {
        // Looking is cheaper than trying, and mostly there is nothing.
        if self.is_empty() {
            return None;
        }
        if let Ok(forwarded) = self.forwards.try_recv() {
            self.forward_bytes.fetch_sub(forwarded.bytes.len() as u64, Ordering::Relaxed);
            return Some(Mail::Forward(forwarded));
        }
        let (origin, message) = self.messages.try_recv().ok()?;
        Some(Mail::Message(origin, message))
    }

    /// An item that was taken has been handled, and whatever mail that caused is on its way.
    pub(crate) fn handled(&self) {
        self.in_flight.end();
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        // What nobody will handle any more must not keep the other shards waiting.
        while self.take().is_some() {
            self.handled();
        }
    }
}
