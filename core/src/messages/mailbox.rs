//! Mailboxes between shards.
//!
//! Data goes through a bounded channel; the wake-up is a separate thing that carries none: see [`Bell`].

use std::cell::Cell;
use std::net::IpAddr;
use std::sync::Arc;

pub use crate::messages::bell::{Bell, WakeFn};
use crate::sync::{AtomicU64, Ordering, Receiver, Sender, TrySendError, bounded};
use crate::types::datagram::{Meta, Path};
use crate::types::error::Full;
use crate::types::ids::Origin;
use crate::types::ids::PeerId;

/// Forwarded arrivals that may wait for a shard, and their bytes. They are bounded apart from messages, so
/// that a flood that reaches the wrong shard leaves messages their room and memory its bound.
const FORWARDS: usize = 4096;
const FORWARD_BYTES: u64 = 8 << 20;

/// How much mail may still be taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) forwards: usize,
    pub(crate) messages: usize,
}

/// What travels between shards.
#[derive(Debug)]
pub(crate) enum Mail<M> {
    Message(Origin, M),
    Forward(Box<Forwarded>),
}

/// A datagram or a train that reached the wrong shard; with a peer if it is one more path of that one.
#[derive(Debug)]
pub(crate) struct Forwarded {
    pub(crate) path: Path,
    /// Where it was sent to, if that stands for many hosts.
    pub(crate) group: Option<IpAddr>,
    pub(crate) meta: Meta,
    pub(crate) peer: Option<PeerId>,
    /// Bytes of each datagram of a train but the last; 0 for a single one.
    pub(crate) segment: usize,
    /// What `accept` left of the amplification limit, if it has seen this datagram.
    pub(crate) allowance: Option<u64>,
    pub(crate) bytes: Vec<u8>,
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

/// The last question whether a shard has handed on what had come to it that it has answered with yes.
#[derive(Clone, Debug, Default)]
struct Answered(Arc<AtomicU64>);

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
    answered: Answered,
    bell: Arc<Bell>,
}

impl<M> Clone for Postbox<M> {
    fn clone(&self) -> Self {
        Self {
            messages: self.messages.clone(),
            forwards: self.forwards.clone(),
            forward_bytes: Arc::clone(&self.forward_bytes),
            in_flight: self.in_flight.clone(),
            answered: self.answered.clone(),
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

    /// The last question that the shard this leads to has answered, or all if it has ended: what had come to it before is in
    /// the mailboxes of those it was for.
    pub(crate) fn answered(&self) -> u64 {
        self.answered.0.load(Ordering::Acquire)
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
    answered: Answered,
    bell: Arc<Bell>,
    /// The last item that was taken was a forwarded one.
    message_next: Cell<bool>,
}

impl<M> std::fmt::Debug for Mailbox<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mailbox").field("messages", &self.messages.len()).finish_non_exhaustive()
    }
}

/// The mailboxes of a server's shards, for `len` messages each, and the ways into them. Forwarded datagrams
/// have bounds of their own beside: 4,096 of them and 8 MiB.
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
        let answered = Answered::default();
        let (bell, forward_bytes) = (Arc::<Bell>::default(), Arc::<AtomicU64>::default());
        let mailbox = Mailbox {
            messages: message_receiver,
            forwards: forward_receiver,
            forward_bytes: Arc::clone(&forward_bytes),
            in_flight: in_flight.clone(),
            answered: answered.clone(),
            bell: Arc::clone(&bell),
            message_next: Cell::new(false),
        };
        let in_flight = in_flight.clone();
        (Postbox { messages, forwards, forward_bytes, in_flight, answered, bell }, mailbox)
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

    /// Whether datagrams wait that other shards forwarded.
    pub(crate) fn has_forwards(&self) -> bool {
        !self.forwards.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len() + self.forwards.len()
    }

    pub(crate) fn in_flight(&self) -> &InFlight {
        &self.in_flight
    }

    /// This shard has handed on what had come to it before it saw that question.
    pub(crate) fn answer(&self, question: u64) {
        self.answered.0.store(question, Ordering::Release);
    }

    /// The next item that the budget allows; where both wait, a forwarded datagram and a message in turn, so that neither
    /// keeps the other waiting. [`Mailbox::handled`] has to follow.
    pub(crate) fn take(&self, budget: &mut Budget) -> Option<Mail<M>> {
        // Looking is cheaper than trying, and mostly there is nothing.
        if self.is_empty() {
            return None;
        }
        let message_next = self.message_next.replace(false);
        if message_next && let Some(mail) = self.take_message(budget) {
            return Some(mail);
        }
        if budget.forwards > 0
            && let Ok(forwarded) = self.forwards.try_recv()
        {
            budget.forwards -= 1;
            self.message_next.set(true);
            self.forward_bytes.fetch_sub(forwarded.bytes.len() as u64, Ordering::Relaxed);
            return Some(Mail::Forward(forwarded));
        }
        self.take_message(budget)
    }

    /// The next item, whatever it is. [`Mailbox::handled`] has to follow.
    pub(crate) fn take_any(&self) -> Option<Mail<M>> {
        self.take(&mut Budget { forwards: 1, messages: 1 })
    }

    /// The next message. [`Mailbox::handled`] has to follow.
    pub(crate) fn take_message(&self, budget: &mut Budget) -> Option<Mail<M>> {
        budget.messages = budget.messages.checked_sub(1)?;
        let Ok((origin, message)) = self.messages.try_recv() else {
            budget.messages += 1;
            return None;
        };
        Some(Mail::Message(origin, message))
    }

    /// An item that was taken has been handled, and whatever mail that caused is on its way.
    pub(crate) fn handled(&self) {
        self.in_flight.end();
    }
}

impl<M> Drop for Mailbox<M> {
    fn drop(&mut self) {
        self.answer(u64::MAX);
        // What nobody will handle any more must not keep the other shards waiting. What is put in between this
        // and the end of the channel stays on the count, and does no harm: when a shard ends, the server has
        // drained, or is past the deadline, or is told to stop, and then nobody asks for the count.
        while self.take_any().is_some() {
            self.handled();
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::sync::{Condvar, Mutex};
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::types::datagram::SocketId;

    fn forwarded(len: usize) -> Forwarded {
        let any = ([127, 0, 0, 1], 9).into();
        let path = Path { local: any, remote: any, socket: SocketId::listener(0) };
        let meta = Meta::default();
        Forwarded { path, group: None, meta, peer: None, segment: 0, allowance: None, bytes: vec![0; len] }
    }

    fn one<M>(len: usize) -> (Postbox<M>, Mailbox<M>) {
        let (postboxes, mut mailboxes) = mailboxes(1, len);
        (postboxes[0].clone(), mailboxes.remove(0))
    }

    #[test]
    fn a_budget_bounds_each_kind_apart() {
        let (postbox, mailbox) = one(8);
        (0..5).for_each(|n| postbox.post(n).expect("room"));
        assert!((0..5).all(|_| postbox.put_forward(forwarded(1))));
        let taken = |forwards, messages| {
            let mut budget = Budget { forwards, messages };
            std::iter::from_fn(|| mailbox.take(&mut budget)).count()
        };
        assert_eq!([taken(1, 0), taken(0, 1), taken(0, 0), taken(1, 2)], [1, 1, 0, 3]);
        assert_eq!((mailbox.forwards.len(), mailbox.messages.len()), (3, 2));
        assert_eq!(taken(9, 9), 5);
    }

    #[test]
    fn forwarded_datagrams_come_first_and_have_room_of_their_own() {
        let (postbox, mailbox) = one(1);
        assert_eq!(postbox.post(7), Ok(()));
        assert_eq!(postbox.post(8), Err(Full(8)));
        assert!(postbox.put_forward(forwarded(1)));
        assert_eq!(mailbox.len(), 2);
        assert!(matches!(mailbox.take_any(), Some(Mail::Forward(_))));
        assert!(matches!(mailbox.take_any(), Some(Mail::Message(Origin::Handle, 7))));
        assert!(mailbox.take_any().is_none());
    }

    #[test]
    fn messages_and_forwarded_datagrams_take_turns() {
        let (postbox, mailbox) = one(8);
        (0..3).for_each(|n| postbox.post(n).expect("room"));
        assert!((0..5).all(|_| postbox.put_forward(forwarded(1))));
        let order: String = std::iter::from_fn(|| mailbox.take_any())
            .map(|mail| if matches!(mail, Mail::Forward(_)) { 'f' } else { 'm' })
            .collect();
        assert_eq!(order, "fmfmfmff");
    }

    #[test]
    fn the_bytes_of_forwarded_datagrams_are_bounded() {
        let (postbox, mailbox) = one::<()>(1);
        let half = FORWARD_BYTES as usize / 2;
        assert!(postbox.put_forward(forwarded(half)));
        assert!(!postbox.put_forward(forwarded(half + 1)), "a byte too many");
        assert!(postbox.put_forward(forwarded(half)));
        assert!(!postbox.put_forward(forwarded(1)), "full");
        assert!(postbox.put_forward(forwarded(0)), "nothing fits");
        assert!(mailbox.take_any().is_some());
        assert!(postbox.put_forward(forwarded(half)), "room again");
    }

    #[test]
    fn the_number_of_forwarded_datagrams_is_bounded() {
        let (postbox, mailbox) = one::<()>(1);
        assert!((0..FORWARDS).all(|_| postbox.put_forward(forwarded(1))));
        assert!(!postbox.put_forward(forwarded(1)));
        assert_eq!(postbox.forward_bytes.load(Ordering::Relaxed), FORWARDS as u64, "what did not fit is off");
        while mailbox.take_any().is_some() {}
        assert_eq!(postbox.forward_bytes.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn mail_is_in_flight_until_it_is_handled_refused_or_left_behind() {
        let (postbox, mailbox) = one(1);
        let in_flight = mailbox.in_flight().clone();
        assert!(in_flight.is_none());
        assert_eq!(postbox.post(1), Ok(()));
        assert_eq!(postbox.post(2), Err(Full(2)));
        assert!(mailbox.take_any().is_some());
        assert!(!in_flight.is_none(), "taken is not handled");
        mailbox.handled();
        assert!(in_flight.is_none(), "the refused one was not counted");
        assert_eq!(postbox.post(3), Ok(()));
        assert!(postbox.put_forward(forwarded(1)));
        drop(mailbox);
        assert!(in_flight.is_none());
        assert_eq!(postbox.post(4), Err(Full(4)));
        assert!(!postbox.put_forward(forwarded(1)));
        assert!(in_flight.is_none());
    }

    /// What a driver sleeps on.
    #[derive(Default)]
    struct Sleep {
        woken: Mutex<bool>,
        changed: Condvar,
    }

    /// With the real channel; `tests/loom_bell` tries every order on a model of it.
    #[test]
    fn a_shard_that_sleeps_between_messages_hears_all_of_them() {
        const PATIENCE: Duration = Duration::from_secs(10);
        const SENDERS: usize = 2;
        const EACH: usize = if cfg!(miri) { 20 } else { 2_000 };
        let (postbox, mailbox) = one(4);
        let sleep = Arc::<Sleep>::default();
        let waker = Arc::clone(&sleep);
        postbox.bell().connect(Box::new(move || {
            *waker.woken.lock().expect("no panic") = true;
            waker.changed.notify_one();
        }));
        thread::scope(|scope| {
            for _ in 0..SENDERS {
                scope.spawn(|| {
                    for message in 0..EACH {
                        while postbox.post(message).is_err() {
                            thread::yield_now();
                        }
                    }
                });
            }
            let mut handled = 0;
            while handled < SENDERS * EACH {
                while mailbox.take_any().is_some() {
                    handled += 1;
                    mailbox.handled();
                }
                mailbox.bell().going_to_sleep();
                if mailbox.is_empty() && handled < SENDERS * EACH {
                    let woken = sleep.woken.lock().expect("no panic");
                    let woken = sleep.changed.wait_timeout_while(woken, PATIENCE, |woken| !*woken);
                    let (mut woken, waited) = woken.expect("no panic");
                    assert!(!waited.timed_out(), "a wake-up was lost after {handled} messages");
                    *woken = false;
                }
                mailbox.bell().awake();
            }
        });
        assert!(mailbox.in_flight().is_none());
    }
}
