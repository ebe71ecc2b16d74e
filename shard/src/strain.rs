//! Rests while the kernel takes nothing from a ring.
//!
//! A submission that is not taken is tried again at once as long as something moves, and then after rests that grow
//! from [`SHORTEST`] to [`LONGEST`]. When a turn has rested for [`PER_TURN`] it goes on, and the next one tries again. So a
//! shard whose kernel is short of memory sleeps, and its timers and messages go on.

use std::io;
use std::time::{Duration, Instant};

use shardgram_core::seldom::Seldom;

use crate::ring::Entered;

/// The first rest, and the longest one.
const SHORTEST: Duration = Duration::from_millis(1);
const LONGEST: Duration = Duration::from_millis(100);
/// No rest begins when those of a turn have lasted so long.
const PER_TURN: Duration = Duration::from_millis(15);

/// How hard the ring is to be entered.
#[derive(Debug, Default)]
pub(crate) struct Strain {
    /// How long the last rest was; nought if all is well.
    last: Duration,
    /// How long this turn has rested.
    rested: Duration,
    warned: Seldom,
}

impl Strain {
    /// A turn begins.
    #[inline]
    pub(crate) fn begin_turn(&mut self) {
        self.rested = Duration::ZERO;
    }

    /// The kernel took what there was.
    #[inline]
    pub(crate) fn over(&mut self) {
        if !self.last.is_zero() {
            self.last = Duration::ZERO;
        }
    }

    /// Has the thread rest, longer than the time before; whether it did, as a turn may rest only so long.
    #[cold]
    pub(crate) fn rest(&mut self) -> bool {
        if self.rested >= PER_TURN {
            return false;
        }
        self.last = (self.last * 2).clamp(SHORTEST, LONGEST);
        self.rested += self.last;
        std::thread::sleep(self.last);
        true
    }

    /// Notes what an entry into the kernel came to.
    #[inline]
    pub(crate) fn note(&mut self, entered: Entered) {
        if entered != Entered::Well {
            self.note_failure(entered);
        }
    }

    /// After a wait that was to submit everything. What it came to counts only if it brought nothing: then the next one
    /// would end as soon.
    #[inline]
    pub(crate) fn waited(&mut self, entered: Entered, came: bool) {
        if entered == Entered::Well {
            self.over();
        } else {
            self.note_failure(entered);
            if !came {
                self.rest();
            }
        }
    }

    #[cold]
    fn note_failure(&mut self, entered: Entered) {
        let errno = match entered {
            Entered::Well => return,
            Entered::Short(errno) => errno,
            Entered::Lost => libc::EBADR,
        };
        // Full queues are no news.
        if errno != libc::EBUSY
            && let Some(held_back) = self.warned.due(Instant::now())
        {
            let error = io::Error::from_raw_os_error(errno);
            tracing::warn!(%error, held_back, "the kernel takes nothing from a ring: it is tried again after a rest");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rests_grow_and_a_turn_has_its_share_of_them() {
        let mut strain = Strain::default();
        let mut lasted = Vec::new();
        while strain.rest() {
            lasted.push(strain.last.as_millis());
        }
        assert_eq!(lasted, [1, 2, 4, 8]);
        for expected in [16, 32, 64, 100, 100] {
            strain.begin_turn();
            assert!(strain.rest() && !strain.rest(), "one long one");
            assert_eq!(strain.last.as_millis(), expected);
        }
        strain.over();
        strain.begin_turn();
        assert!(strain.rest());
        assert_eq!(strain.last, SHORTEST, "all was well in between");
    }
}
