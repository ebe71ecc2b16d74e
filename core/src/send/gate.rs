//! Whether a turn calls one more callback, by what is left of the outbox.
//!
//! A callback begins only while half of the outbox is free, in datagrams and in bytes. So one that queues no more
//! than that is never refused for what others queued before it in the same turn, whatever it is and however
//! suddenly it comes. Two needs go beyond that and are learned: that of a callback which queues more than half, and
//! that of `on_turn_end`, which is called whatever is left. Each is remembered for [`MEMORY`] turns, and as much is
//! left free meanwhile. A sixteenth of the outbox may be used in any case, so a need that nothing can meet slows
//! down nobody who sends little.
//!
//! An arrival pays one look at a flag for this. The flag is set by the comparison with a bound that each send needs
//! anyway: that bound is the gate, and the real one is looked at beyond it only.

/// Turns for which a need is remembered.
const MEMORY: u32 = 16;
/// One part in so many of a bound may be used whatever is needed later.
const LEAST_SHARE: usize = 16;

/// The most that something needed in one of the last turns.
#[derive(Clone, Copy, Default, Debug)]
struct Need {
    most: usize,
    turns: u32,
}

impl Need {
    fn note(&mut self, need: usize) {
        if need >= self.most {
            *self = Self { most: need, turns: MEMORY };
        }
    }

    /// A turn is over; whether anything is remembered.
    fn forget(&mut self) -> bool {
        self.turns = self.turns.saturating_sub(1);
        if self.turns == 0 {
            self.most = 0;
        }
        self.turns > 0
    }
}

/// One bound of the outbox: how much of it may be in use when a callback begins.
#[derive(Debug)]
pub(crate) struct Gate {
    limit: usize,
    /// What a callback needed, as far as that is known: all that was queued when it had ended.
    callback: Need,
    turn_end: Need,
    /// Something was refused of which nothing has been learned yet.
    refused: bool,
}

impl Gate {
    pub(crate) fn new(limit: usize) -> Self {
        let (callback, turn_end) = (Need::default(), Need::default());
        Self { limit, callback, turn_end, refused: false }
    }

    pub(crate) fn limit(&self) -> usize {
        self.limit
    }

    /// The most that may be in use when a callback begins.
    pub(crate) fn open_to(&self) -> usize {
        let callback = self.callback.most.max(self.limit.div_ceil(2));
        let free = self.limit.saturating_sub(callback).saturating_sub(self.turn_end.most);
        free.max(self.limit / LEAST_SHARE)
    }

    /// Something asked for more than there was.
    pub(crate) fn refused(&mut self) {
        self.refused = true;
    }

    /// The callbacks before `on_turn_end` have been called: so much is in use.
    pub(crate) fn callbacks_end(&mut self, (used, _): (usize, usize)) {
        let need = if std::mem::take(&mut self.refused) { self.limit } else { used };
        if need > self.limit / 2 {
            self.callback.note(need);
        }
    }

    /// `on_turn_end` has been called: so much was in use before, and so much is.
    pub(crate) fn turn_ends(&mut self, (before, used): (usize, usize)) {
        let need = if std::mem::take(&mut self.refused) { self.limit } else { used - before };
        if need > 0 {
            self.turn_end.note(need);
        }
    }

    /// The outbox is empty again; whether anything is remembered.
    pub(crate) fn forget(&mut self) -> bool {
        self.refused = false;
        self.callback.forget() | self.turn_end.forget()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(gate: &mut Gate, callbacks: usize, turn_end: usize) {
        gate.callbacks_end((callbacks, callbacks));
        gate.turn_ends((callbacks, callbacks + turn_end));
        gate.forget();
    }

    #[test]
    fn half_is_left_free_and_of_one_all() {
        assert_eq!([1, 2, 5, 100].map(|limit| Gate::new(limit).open_to()), [0, 1, 2, 50]);
    }

    #[test]
    fn what_went_beyond_half_is_left_free_for_a_while() {
        let mut gate = Gate::new(160);
        turn(&mut gate, 80, 0);
        assert_eq!(gate.open_to(), 80);
        turn(&mut gate, 100, 0);
        assert_eq!(gate.open_to(), 60);
        for _ in 0..MEMORY - 2 {
            turn(&mut gate, 90, 0);
            assert_eq!(gate.open_to(), 60, "the most counts");
        }
        turn(&mut gate, 10, 0);
        assert_eq!(gate.open_to(), 80);
    }

    #[test]
    fn what_the_end_of_a_turn_queues_is_left_free_beside() {
        let mut gate = Gate::new(160);
        turn(&mut gate, 10, 30);
        assert_eq!(gate.open_to(), 50);
        turn(&mut gate, 100, 20);
        assert_eq!(gate.open_to(), 30, "less than before, and beside what a callback needs");
        (0..MEMORY).for_each(|_| turn(&mut gate, 10, 0));
        assert_eq!(gate.open_to(), 80);
    }

    #[test]
    fn what_cannot_be_had_leaves_the_others_a_sixteenth() {
        let mut gate = Gate::new(160);
        gate.refused();
        turn(&mut gate, 160, 0);
        assert_eq!(gate.open_to(), 10);
        gate.callbacks_end((10, 10));
        gate.refused();
        gate.turn_ends((10, 160));
        assert_eq!((gate.open_to(), gate.turn_end.most), (10, 160));
    }
}
