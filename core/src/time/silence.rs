//! Up to when the silence of peers may be judged.
//!
//! A shard that stood still, or has more to do than it can, has not heard yet what waits in its sockets. So who was not
//! heard of was silent only up to a time of which everything was handed over that had arrived by then.

use std::time::{Duration, Instant};

/// What a turn counts for at most in how long a judgement was put off: what came while the shard stood still is not to be
/// passed over because of that.
const TURN: Duration = Duration::from_millis(100);

/// How long a judgement of some kind was put off.
#[derive(Debug)]
pub(crate) struct Silence {
    /// So long at most, so that a shard that never has handed over everything judges all the same.
    patience: Duration,
    put_off: Duration,
}

impl Silence {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, put_off: Duration::ZERO }
    }

    /// Up to when silence can be judged in a turn of this time, the turn before being of that one. `heard`: everything was
    /// handed over that had arrived by then. `None`: it is to be put off.
    pub(crate) fn judged_until(
        &mut self,
        heard: Option<Instant>,
        before: Instant,
        now: Instant,
    ) -> Option<Instant> {
        if heard.is_some() {
            self.put_off = Duration::ZERO;
            return heard;
        }
        self.put_off += now.saturating_duration_since(before).min(TURN);
        (self.put_off >= self.patience).then_some(now)
    }

    /// Everything was judged. The next judgement is put off for as long again.
    pub(crate) fn is_judged(&mut self) {
        self.put_off = Duration::ZERO;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_heard_first_but_not_for_ever() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut silence = Silence::new(250 * ms);
        assert_eq!(silence.judged_until(Some(start), start, start + 700 * ms), Some(start));
        // A pause of any length is one turn.
        assert_eq!(silence.judged_until(None, start, start + 700 * ms), None);
        assert_eq!(silence.judged_until(None, start + 700 * ms, start + 701 * ms), None);
        let heard = Some(start + 701 * ms);
        assert_eq!(silence.judged_until(heard, start + 701 * ms, start + 702 * ms), heard);
        let judged = (1..).find(|turn| {
            let before = start + 10 * *turn * ms;
            silence.judged_until(None, before, before + 10 * ms).is_some()
        });
        assert_eq!(judged, Some(25), "as long as it has patience");
        silence.is_judged();
        assert_eq!(silence.judged_until(None, start, start + ms), None);
    }
}
