//! Trains: datagrams that leave in one send, and where their bytes lie.

use crate::types::datagram::{Path, RxSlice, SocketId};
use crate::types::ecn::Ecn;
use crate::types::ids::PeerId;

/// In place of a piece of the outbox: none.
pub(super) const NONE: u32 = u32::MAX;

/// Where bytes to send lie.
///
/// ```
/// use shardgram_core::outbox::{Outbox, Source};
/// fn bytes<'a>(outbox: &'a Outbox, buffers: &'a [Vec<u8>], source: Source) -> &'a [u8] {
///     match source {
///         Source::Outbox { start, len } => outbox.bytes(start, len),
///         Source::Buffer(at) => &buffers[at.buffer as usize][at.start as usize..][..at.len as usize],
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// In the outbox: [`Outbox::bytes`](crate::outbox::Outbox::bytes).
    Outbox {
        /// First byte.
        start: u32,
        /// Length in bytes.
        len: u32,
    },
    /// In a receive buffer, which the driver takes back after the send.
    Buffer(RxSlice),
}

impl Source {
    pub(super) fn len(&self) -> u32 {
        match self {
            Self::Outbox { len, .. } | Self::Buffer(RxSlice { len, .. }) => *len,
        }
    }

    /// Takes in what lies right behind in the same memory. False, and unchanged, if it lies elsewhere.
    #[inline(always)]
    pub(super) fn extend(&mut self, next: Self) -> bool {
        match (self, next) {
            (Self::Outbox { start, len }, Self::Outbox { start: from, len: more })
                if *start + *len == from =>
            {
                *len += more;
                true
            }
            (Self::Buffer(at), Self::Buffer(next))
                if at.buffer == next.buffer && at.start + at.len == next.start =>
            {
                at.len += next.len;
                true
            }
            _ => false,
        }
    }
}

/// Datagrams to one destination that leave in one send.
///
/// ```
/// use shardgram_core::outbox::Train;
/// fn describe(train: &Train) -> String {
///     format!("{} datagrams of {} bytes to {}", train.datagrams, train.segment, train.path.remote)
/// }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Train {
    /// The peer they go to, `None` for stateless answers.
    pub peer: Option<PeerId>,
    /// Whence and whither.
    pub path: Path,
    /// The socket they leave by: the path's, or the peer's own.
    pub via: SocketId,
    /// Size of each datagram but the last, in bytes.
    pub segment: u32,
    /// All bytes.
    pub bytes: u32,
    /// How many datagrams.
    pub datagrams: u32,
    /// Whether it is the first with so long datagrams on its path, so that it may be refused for that: a driver
    /// that sends several at once waits for what becomes of it before it sends more to the same peer.
    pub untried: bool,
    /// How all of them are marked ([`Ecn::on`] the byte that the socket has).
    pub ecn: Ecn,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Train {
    /// One datagram of this train by itself, of so many bytes that lie elsewhere: for a driver that sends them
    /// one by one and puts what is left into the backlog.
    ///
    /// ```
    /// use shardgram_core::{backlog::Backlog, outbox::Train};
    /// fn defer_one(backlog: &mut Backlog, train: &Train, bytes: &[u8]) -> bool {
    ///     backlog.defer(&train.one(bytes.len()), [bytes].into_iter())
    /// }
    /// ```
    #[must_use]
    pub fn one(&self, len: usize) -> Self {
        let len = len as u32;
        Self { segment: len, bytes: len, datagrams: 1, untried: false, first: NONE, last: NONE, ..*self }
    }

    /// Whether it is more than one datagram, which takes UDP_SEGMENT.
    ///
    /// ```
    /// use shardgram_core::outbox::Train;
    /// fn segment_size(train: &Train) -> Option<u16> { train.is_long().then_some(train.segment as u16) }
    /// ```
    #[inline]
    #[must_use]
    pub fn is_long(&self) -> bool {
        self.datagrams > 1
    }

    #[cfg(test)]
    pub(crate) fn single(peer: Option<PeerId>, path: Path, via: SocketId, len: u32) -> Self {
        Self {
            peer,
            path,
            via,
            segment: len,
            bytes: len,
            datagrams: 1,
            untried: false,
            ecn: Ecn::NotEct,
            first: NONE,
            last: NONE,
        }
    }
}

/// How long trains may be. A driver says so in [`crate::driver::Capabilities`].
///
/// ```
/// use shardgram_core::outbox::TrainLimits;
/// // What the kernel cuts apart: UDP_SEGMENT takes 64 datagrams, and IPv4 65,507 bytes.
/// let limits = TrainLimits { datagrams: 64, bytes: 65_507 };
/// assert_ne!(limits, TrainLimits::SINGLE);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrainLimits {
    /// Most datagrams in a train; 1 where there is no segmentation offload.
    pub datagrams: u32,
    /// Most bytes in a train.
    pub bytes: u32,
}

impl TrainLimits {
    /// One datagram a train.
    ///
    /// ```
    /// use shardgram_core::outbox::TrainLimits;
    /// assert_eq!(TrainLimits::SINGLE.datagrams, 1);
    /// ```
    pub const SINGLE: Self = Self { datagrams: 1, bytes: u32::MAX };
}
