//! Mailboxes between shards, and the bell that wakes a sleeping one.
//!
//! Data goes through a bounded channel; the wake-up is a separate thing that carries none and of which
//! one is outstanding at most. A shard about to sleep raises its flag and then looks once more; a sender
//! puts its message in and then takes the flag down. Both orders are sequentially consistent, so either
//! the shard sees the message or the sender sees the flag.

use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::sync::{Arc, OnceLock};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};

use crate::datagram::{Meta, Path};
use crate::error::Full;
use crate::handler::Origin;
use crate::peers::PeerId;

/// What travels between shards.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Message(Origin, M),
    /// A datagram that reached the wrong shard; with a peer if it is one more path of that one.
    Forward(Box<Forwarded>),
}

#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) path: Path,
    pub(crate) meta: Meta,
    pub(crate) peer: Option<PeerId>,
    pub(crate) bytes: Vec<u8>,
}

/// Wakes a shard's thread from any other: what a driver provides.
pub type WakeFn = Box<dyn Fn() + Send + Sync>;

/// The sleeping flag of a shard and the way to wake it.
#[derive(Default)]
pub struct Bell {
    sleeping: AtomicBool,
    wake: OnceLock<WakeFn>,
}

impl Bell {
    /// Connects it to a driver. Only the first call counts.
    pub fn connect(&self, wake: WakeFn) {
        let _ = self.wake.set(wake);
    }

    /// The shard is about to sleep; after this it must look once more for anything to do.
    pub(crate) fn going_to_sleep(&self) {
        self.sleeping.store(true, Ordering::SeqCst);
        fence(Ordering::SeqCst);
    }

    /// The shard is awake.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
    }

    /// Whether the shard sleeps and nobody has taken it on to wake it: then the caller has.
    pub(crate) fn claim(&self) -> bool {
        fence(Ordering::SeqCst);
        self.sleeping.load(Ordering::SeqCst) && self.sleeping.swap(false, Ordering::SeqCst)
    }

    /// Wakes the shard if it sleeps. From any thread.
    pub fn ring(&self) {
        if self.claim()
            && let Some(wake) = self.wake.get()
        {
            wake();
        }
    }
}

impl std::fmt::Debug for Bell {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bell").field("sleeping", &self.sleeping).finish_non_exhaustive()
    }
}

/// The way into one shard's mailbox.
pub struct Postbox<M> {
    sender: Sender<Mail<M>>,
    bell: Arc<Bell>,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Self {
        Self { sender: self.sender.clone(), bell: Arc::clone(&self.bell) }
    }
}

impl<M> std::fmt::Debug for Postbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Postbox").field("waiting", &self.sender.len()).finish_non_exhaustive()
    }
}

impl<M> Postbox<M> {
    /// Puts a message in from outside the shards and wakes the shard.
    ///
    /// # Errors
    /// Gives the message back if the mailbox is full or its shard has ended.
    pub fn post(&self, message: M) -> Result<(), Full<M>> {
        match self.put(Mail::Message(Origin::Handle, message)) {
            Err(Mail::Message(_, message)) => Err(Full(message)),
            Ok(()) | Err(Mail::Forward(_)) => {
                self.bell.ring();
                Ok(())
            }
        }
    }

    /// Puts mail in and leaves the waking to the caller.
    pub(crate) fn put(&self, mail: Mail<M>) -> Result<(), Mail<M>> {
        self.sender.try_send(mail).map_err(|e| match e {
            TrySendError::Full(mail) | TrySendError::Disconnected(mail) => mail,
        })
    }

    /// The bell of the shard this leads to.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }
}

/// A shard's end of its mailbox.
pub struct Mailbox<M> {
    receiver: Receiver<Mail<M>>,
    bell: Arc<Bell>,
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("waiting", &self.receiver.len()).finish_non_exhaustive()
    }
}

impl<M> Mailbox<M> {
    /// A mailbox for `len` items and the way into it.
    pub fn new(len: usize) -> (Postbox<M>, Self) {
        let (sender, receiver) = bounded(len);
        let bell = Arc::new(Bell::default());
        (Postbox { sender, bell: Arc::clone(&bell) }, Self { receiver, bell })
    }

    /// The bell of the shard whose mailbox this is.
    pub fn bell(&self) -> &Arc<Bell> {
        &self.bell
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    pub(crate) fn take(&self) -> Option<Mail<M>> {
        self.receiver.try_recv().ok()
    }
}
