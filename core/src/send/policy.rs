//! What becomes of a train after its send: one policy for every driver.

use crate::types::error::PeerError;
use crate::types::ids::PeerId;

/// Why a train could not be sent.
///
/// ```
/// use shardgram_core::{PeerError, driver::SendFault};
/// fn fault(errno: i32) -> SendFault {
///     match errno {
///         11 => SendFault::SocketFull, // EAGAIN
///         111 => SendFault::Peer(PeerError::Refused), // ECONNREFUSED
///         errno => SendFault::Peer(PeerError::Other { errno }),
///     }
/// }
/// assert_eq!(fault(11), SendFault::SocketFull);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SendFault {
    /// The socket's buffer is full. The peer is not to blame and hears nothing.
    SocketFull,
    /// The peer, the path to it or a local rule.
    Peer(PeerError),
}

/// How the system took a train.
///
/// ```
/// use shardgram_core::{PeerError, driver::{Outcome, Refusal}};
/// let full = Outcome::Full; // EAGAIN, or the driver knows it beforehand
/// let no_buffers = Outcome::Refused(Refusal::of(PeerError::NoBuffers)); // ENOBUFS
/// assert_ne!(full, no_buffers);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// All of it was taken.
    Taken,
    /// The socket has no room. Also where that is known without a try.
    Full,
    /// The system takes nothing for a while, whatever the socket: a ring that is short of memory.
    NotNow,
    /// It was refused.
    Refused(Refusal),
}

impl Outcome {
    /// As what it is reported if nothing else becomes of it. `None` if there is nothing to report.
    ///
    /// ```
    /// use shardgram_core::driver::{Outcome, SendFault};
    /// assert_eq!(Outcome::Full.fault(), Some(SendFault::SocketFull));
    /// assert_eq!(Outcome::Taken.fault(), None);
    /// ```
    #[inline]
    pub fn fault(self) -> Option<SendFault> {
        match self {
            Self::Taken => None,
            Self::Full => Some(SendFault::SocketFull),
            Self::NotNow => Some(SendFault::Peer(PeerError::NoBuffers)),
            Self::Refused(refusal) => Some(SendFault::Peer(refusal.error)),
        }
    }
}

/// Why a train was refused.
///
/// ```
/// use shardgram_core::{PeerError, driver::Refusal};
/// let too_long = PeerError::TooLong { mtu: Some(1_280) };
/// let refusal = Refusal { as_train: true, ..Refusal::of(too_long) };
/// assert!(!refusal.told);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// What it means for the peer.
    pub error: PeerError,
    /// The socket may have told of an earlier datagram, and then this one did not leave for that.
    pub told: bool,
    /// It may be only because several datagrams were to leave as one.
    pub as_train: bool,
}

impl Refusal {
    /// One that is about this datagram alone.
    ///
    /// ```
    /// use shardgram_core::{PeerError, driver::Refusal};
    /// assert!(!Refusal::of(PeerError::Forbidden).as_train);
    /// ```
    pub fn of(error: PeerError) -> Self {
        Self { error, told: false, as_train: false }
    }
}

/// Where a train stands among those to the same peer.
///
/// A driver that sends one after the other has the default: what may not overtake others is never tried.
///
/// ```
/// use shardgram_core::driver::Order;
/// assert!(!Order::default().overtaken);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Order {
    /// A later train has left: this one would come late.
    pub overtaken: bool,
    /// Something older of the peer waits since an earlier turn.
    pub behind: bool,
    /// A train of this turn, sent before it, waits.
    pub waits_already: bool,
    /// It may be tried once more in this turn.
    pub may_retry: bool,
}

/// What a driver has to do with a train next.
///
/// ```
/// use shardgram_core::driver::{After, Order, Outcome, after};
/// assert_eq!(after(None, Outcome::Taken, Order::default()), After::Done);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum After {
    /// Nothing.
    Done,
    /// Send it again.
    Again,
    /// Put it into the backlog ([`Backlog::defer`](crate::backlog::Backlog::defer)); if that has no room, it has failed with
    /// this.
    Wait(SendFault),
    /// Say that it was refused as a train ([`Sink::train_refused`](crate::driver::Sink::train_refused)), and send its
    /// datagrams one by one.
    Singles,
    /// Report it ([`Sink::send_failed`](crate::driver::Sink::send_failed)).
    Fail(SendFault),
}

/// What becomes of a train to this peer. Pure: drivers ask it for each result, whether it comes with the call or later.
///
/// - What the socket has no room for waits, in order, and so does what follows to the same peer. Answers without a peer do
///   not wait: nothing would bound them.
/// - Datagrams that cannot leave as one leave one by one, unless something older of the peer waits. They may come behind what
///   was sent after them: that happens once, on a path that carries less than it did.
/// - A connected socket tells with a send what the network said of an earlier datagram, and then this one did not leave
///   (udp(7)): it is tried once more, for it is not to blame.
/// - Order within a peer is kept at the cost of loss: a train of which a later one has left is lost, and counted.
///
/// ```
/// use shardgram_core::{PeerId, driver::{After, Order, Outcome, SendFault, after}};
/// fn behind_a_full_socket(peer: PeerId) -> bool {
///     after(Some(peer), Outcome::Full, Order::default()) == After::Wait(SendFault::SocketFull)
/// }
/// assert_eq!(after(None, Outcome::Full, Order::default()), After::Fail(SendFault::SocketFull));
/// ```
#[inline]
pub fn after(peer: Option<PeerId>, outcome: Outcome, order: Order) -> After {
    let Order { overtaken, behind, waits_already, may_retry } = order;
    let Some(fault) = outcome.fault() else { return After::Done };
    let mut may_wait = true;
    if let Outcome::Refused(refusal) = outcome {
        if refusal.told && may_retry && !overtaken && !waits_already {
            return After::Again;
        }
        if refusal.as_train && !behind && !waits_already {
            return After::Singles;
        }
        may_wait = waits_already;
    }
    if peer.is_some() && may_wait && !behind && !overtaken {
        // What a backlog without room does not take was stopped by the one before it, which met a full socket.
        return After::Wait(if outcome == Outcome::NotNow { fault } else { SendFault::SocketFull });
    }
    After::Fail(fault)
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Refusal = Refusal { error: PeerError::Unreachable, told: false, as_train: false };
    const FAULT: SendFault = SendFault::Peer(PeerError::Unreachable);

    fn peer() -> Option<PeerId> {
        Some(PeerId::of(0, 1, 2))
    }

    #[test]
    fn what_a_socket_has_no_room_for_waits_if_it_is_a_peers_and_in_order() {
        let order = Order::default();
        assert_eq!(after(peer(), Outcome::Full, order), After::Wait(SendFault::SocketFull));
        assert_eq!(after(None, Outcome::Full, order), After::Fail(SendFault::SocketFull));
        for late in [Order { overtaken: true, ..order }, Order { behind: true, ..order }] {
            assert_eq!(after(peer(), Outcome::Full, late), After::Fail(SendFault::SocketFull), "{late:?}");
        }
        let no_memory = SendFault::Peer(PeerError::NoBuffers);
        assert_eq!(after(peer(), Outcome::NotNow, order), After::Wait(no_memory));
    }

    #[test]
    fn a_refusal_is_final_unless_an_older_train_waits() {
        let order = Order::default();
        assert_eq!(after(peer(), Outcome::Refused(REFUSED), order), After::Fail(FAULT));
        let waits = Order { waits_already: true, ..order };
        assert_eq!(after(peer(), Outcome::Refused(REFUSED), waits), After::Wait(SendFault::SocketFull));
    }

    #[test]
    fn who_was_told_of_another_is_tried_once_more() {
        let told = Outcome::Refused(Refusal { told: true, ..REFUSED });
        let first = Order { may_retry: true, ..Order::default() };
        assert_eq!(after(peer(), told, first), After::Again);
        assert_eq!(after(peer(), told, Order::default()), After::Fail(FAULT));
        assert_eq!(after(peer(), told, Order { overtaken: true, ..first }), After::Fail(FAULT));
    }

    #[test]
    fn what_cannot_leave_as_one_leaves_one_by_one_or_in_order() {
        let as_train = Outcome::Refused(Refusal { as_train: true, ..REFUSED });
        let order = Order::default();
        assert_eq!(after(peer(), as_train, order), After::Singles);
        assert_eq!(after(None, as_train, order), After::Singles);
        assert_eq!(after(peer(), as_train, Order { behind: true, ..order }), After::Fail(FAULT));
        let waits = Order { waits_already: true, ..order };
        assert_eq!(after(peer(), as_train, waits), After::Wait(SendFault::SocketFull));
    }
}
