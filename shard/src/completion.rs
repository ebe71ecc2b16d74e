//! What the completion of a multishot receive says, read from its two numbers and nothing else.
//!
//! The kernel reports a result and flags (io_uring_enter(2), "CQE result" and `cqe->flags`). A result that is
//! not negative is a number of bytes, a negative one an error number. Every combination means something here,
//! also those that no kernel should make, so nothing a completion claims can lead astray.

/// `IORING_CQE_F_BUFFER` (5.7): the upper half of the flags names a provided buffer.
const BUFFER: u32 = 1;
/// `IORING_CQE_F_MORE` (5.13): the operation goes on, further completions follow.
const MORE: u32 = 1 << 1;
/// `IORING_CQE_BUFFER_SHIFT`: where the buffer's number begins.
const BUFFER_SHIFT: u32 = 16;

/// What a receive reports.
///
/// Whatever it is, a buffer that it names was taken from those the kernel had, and has to go back; and without
/// `more` the receive has ended and has to be armed again if more is to come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Completion {
    /// A buffer was filled.
    Data {
        /// The buffer's number.
        buffer: u16,
        /// Bytes the kernel wrote from its beginning, headers included.
        len: u32,
        /// Whether the receive goes on.
        more: bool,
    },
    /// It claims success and names no buffer, so nothing can be read. No kernel should say this.
    Nowhere {
        /// Bytes it claims to have written.
        len: u32,
        /// Whether the receive goes on.
        more: bool,
    },
    /// It failed or was cancelled. ENOBUFS: the kernel has no buffer left.
    Failed {
        /// The error number, positive (errno(3)).
        errno: i32,
        /// A buffer that was taken for it and brings nothing.
        buffer: Option<u16>,
        /// Whether the receive goes on. No kernel should say so of a failure.
        more: bool,
    },
}

impl Completion {
    /// The buffer that has to go back to the kernel, if one was taken.
    ///
    /// ```
    /// use shardgram_shard::completion::decode;
    /// assert_eq!(decode(64, 7 << 16 | 1).buffer(), Some(7));
    /// assert_eq!(decode(-libc::ENOBUFS, 0).buffer(), None);
    /// ```
    #[inline]
    #[must_use]
    pub const fn buffer(self) -> Option<u16> {
        match self {
            Self::Data { buffer, .. } => Some(buffer),
            Self::Nowhere { .. } => None,
            Self::Failed { buffer, .. } => buffer,
        }
    }

    /// Whether the receive goes on. If not, it has to be armed again.
    ///
    /// ```
    /// use shardgram_shard::completion::decode;
    /// assert!(decode(64, 7 << 16 | 2 | 1).more());
    /// assert!(!decode(64, 7 << 16 | 1).more());
    /// ```
    #[inline]
    #[must_use]
    pub const fn more(self) -> bool {
        match self {
            Self::Data { more, .. } | Self::Nowhere { more, .. } | Self::Failed { more, .. } => more,
        }
    }
}

/// Reads the result and the flags of a completion. Flags other than those of a buffer and of more to come do
/// not concern a receive and are passed over.
///
/// ```
/// use shardgram_shard::completion::{Completion, decode};
/// assert_eq!(decode(64, 7 << 16 | 2 | 1), Completion::Data { buffer: 7, len: 64, more: true });
/// let failed = Completion::Failed { errno: libc::ENOBUFS, buffer: None, more: false };
/// assert_eq!(decode(-libc::ENOBUFS, 0), failed);
/// ```
#[inline]
#[must_use]
pub const fn decode(result: i32, flags: u32) -> Completion {
    let more = flags & MORE != 0;
    let buffer = if flags & BUFFER != 0 { Some((flags >> BUFFER_SHIFT) as u16) } else { None };
    let len = result.unsigned_abs();
    match (result, buffer) {
        // The negation of the least number does not exist.
        (..0, buffer) => Completion::Failed { errno: result.saturating_neg(), buffer, more },
        (_, Some(buffer)) => Completion::Data { buffer, len, more },
        (_, None) => Completion::Nowhere { len, more },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESULTS: [i32; 9] =
        [i32::MIN, -i32::MAX, -libc::ECANCELED, -libc::ENOBUFS, -1, 0, 1, 65_535, i32::MAX];
    const BUFFERS: [u16; 5] = [0, 1, 255, 0x7fff, u16::MAX];

    #[test]
    fn the_flags_are_the_kernels() {
        assert_eq!(io_uring::cqueue::buffer_select(BUFFER | 9 << BUFFER_SHIFT), Some(9));
        assert_eq!(io_uring::cqueue::buffer_select(!BUFFER), None);
        assert!(io_uring::cqueue::more(MORE));
        assert!(!io_uring::cqueue::more(!MORE));
    }

    #[test]
    fn every_combination_means_one_thing() {
        // All low halves of the flags; Miri, which is slow, looks at those with one bit.
        let lows: Vec<u16> =
            if cfg!(miri) { (0..16).map(|bit| 1 << bit).collect() } else { (0..=u16::MAX).collect() };
        for result in RESULTS {
            for id in BUFFERS {
                for &low in &lows {
                    let flags = u32::from(id) << 16 | u32::from(low);
                    let (named, more) = (flags & 1 != 0, flags & 2 != 0);
                    let expected = match (result < 0, named) {
                        (false, true) => Completion::Data { buffer: id, len: result as u32, more },
                        (false, false) => Completion::Nowhere { len: result as u32, more },
                        (true, _) => {
                            let errno = (-i64::from(result)).min(i64::from(i32::MAX)) as i32;
                            Completion::Failed { errno, buffer: named.then_some(id), more }
                        }
                    };
                    let got = decode(result, flags);
                    assert_eq!(got, expected, "result {result}, flags {flags:#x}");
                    assert_eq!((got.buffer(), got.more()), (named.then_some(id), more));
                }
            }
        }
    }
}
