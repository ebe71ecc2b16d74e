//! Who owns which receive buffer: numbers and states, no memory.
//!
//! ```text
//!              take                  keep(n)
//!   Kernel ----------->  Ours  ----------------->  Kept(n)
//!      ^                 |  ^                        |
//!      +-----------------+  +------------------------+
//!           give_back          release, n times
//! ```
//!
//! Only along these arrows does a buffer change hands. Whatever else is asked is refused, changes nothing, and
//! is counted; so a completion that names a wrong buffer, or a mistake in the driver, cannot make a buffer the
//! kernel's and ours at once.

use std::fmt;
use std::num::NonZeroU32;

/// Whose a buffer is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The kernel may write to it at any time.
    Kernel,
    /// Ours, and nobody refers to it but who took it.
    Ours,
    /// Ours, and so many queued sends refer to it.
    Kept(NonZeroU32),
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kernel => f.write_str("it is the kernel's"),
            Self::Ours => f.write_str("it is ours and no send refers to it"),
            Self::Kept(sends) => write!(f, "{sends} queued sends refer to it"),
        }
    }
}

/// What was asked for and not allowed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Refused {
    /// The buffer.
    pub id: u16,
    /// What should have been done to it.
    pub operation: &'static str,
    /// Whose it is; `None` if there is no such buffer.
    pub state: Option<State>,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, operation, state } = self;
        match state {
            Some(state) => write!(f, "buffer {id} cannot be {operation}: {state}"),
            None => write!(f, "buffer {id} cannot be {operation}: there is no such buffer"),
        }
    }
}

impl std::error::Error for Refused {}

/// The states of all buffers of a shard.
#[derive(Debug)]
pub struct Ownership {
    states: Box<[State]>,
    in_kernel: usize,
    refused: u64,
}

impl Ownership {
    /// So many buffers, all ours.
    ///
    /// ```
    /// use shardgram_shard::ownership::Ownership;
    /// let mut owners = Ownership::new(4);
    /// assert_eq!((owners.len(), owners.in_kernel()), (4, 0));
    /// ```
    #[must_use]
    pub fn new(buffers: u16) -> Self {
        Self { states: vec![State::Ours; usize::from(buffers)].into(), in_kernel: 0, refused: 0 }
    }

    /// How many buffers there are.
    #[allow(clippy::len_without_is_empty, reason = "nobody asks")]
    #[must_use]
    pub fn len(&self) -> usize {
        self.states.len()
    }

    /// How many are the kernel's.
    #[inline]
    #[must_use]
    pub fn in_kernel(&self) -> usize {
        self.in_kernel
    }

    /// How many operations were refused.
    #[must_use]
    pub fn refused(&self) -> u64 {
        self.refused
    }

    /// Whose a buffer is; `None` if there is no such buffer.
    #[inline]
    #[must_use]
    pub fn state(&self, id: u16) -> Option<State> {
        self.states.get(usize::from(id)).copied()
    }

    /// Whether a buffer exists and is not the kernel's.
    #[inline]
    #[must_use]
    pub fn is_ours(&self, id: u16) -> bool {
        self.state(id).is_some_and(|state| state != State::Kernel)
    }

    /// A completion named the buffer: from the kernel's to ours.
    ///
    /// # Errors
    /// It is ours already or does not exist: then the completion is not to be believed.
    ///
    /// ```
    /// use shardgram_shard::ownership::Ownership;
    /// let mut owners = Ownership::new(1);
    /// assert!(owners.give_back(0).is_ok());
    /// assert!(owners.take(0).is_ok());
    /// let error = owners.take(0).unwrap_err();
    /// assert_eq!(error.to_string(), "buffer 0 cannot be taken: it is ours and no send refers to it");
    /// assert!(owners.take(1).is_err());
    /// ```
    #[inline]
    pub fn take(&mut self, id: u16) -> Result<(), Refused> {
        self.change(id, "taken", |state| (state == State::Kernel).then_some(State::Ours))?;
        self.in_kernel -= 1;
        Ok(())
    }

    /// So many queued sends refer to the buffer from now on.
    ///
    /// # Errors
    /// It is the kernel's, kept already, or does not exist.
    #[inline]
    pub fn keep(&mut self, id: u16, sends: NonZeroU32) -> Result<(), Refused> {
        self.change(id, "kept", |state| (state == State::Ours).then_some(State::Kept(sends))).map(drop)
    }

    /// One send that referred to the buffer is done. Gives how many are left; after the last the buffer is
    /// ours and may be given back.
    ///
    /// # Errors
    /// No send refers to it, or it does not exist.
    #[inline]
    pub fn release(&mut self, id: u16) -> Result<u32, Refused> {
        let left = self.change(id, "released", |state| match state {
            State::Kept(sends) => Some(NonZeroU32::new(sends.get() - 1).map_or(State::Ours, State::Kept)),
            State::Kernel | State::Ours => None,
        })?;
        Ok(if let State::Kept(left) = left { left.get() } else { 0 })
    }

    /// From ours to the kernel's. To be called before the buffer is published.
    ///
    /// # Errors
    /// It is the kernel's already, sends still refer to it, or it does not exist.
    #[inline]
    pub fn give_back(&mut self, id: u16) -> Result<(), Refused> {
        self.change(id, "given back", |state| (state == State::Ours).then_some(State::Kernel))?;
        self.in_kernel += 1;
        Ok(())
    }

    /// Makes one step, if `step` allows it, and gives the state it led to.
    #[inline]
    fn change(
        &mut self,
        id: u16,
        operation: &'static str,
        step: impl FnOnce(State) -> Option<State>,
    ) -> Result<State, Refused> {
        let state = self.states.get_mut(usize::from(id));
        let before = state.as_deref().copied();
        if let (Some(state), Some(after)) = (state, before.and_then(step)) {
            *state = after;
            return Ok(after);
        }
        self.refused += 1;
        Err(Refused { id, operation, state: before })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sends(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("not nought")
    }

    /// Puts buffer 0 of two into a state.
    fn at(state: State) -> Ownership {
        let mut owners = Ownership::new(2);
        match state {
            State::Kernel => owners.give_back(0).expect("ours"),
            State::Ours => {}
            State::Kept(n) => owners.keep(0, n).expect("ours"),
        }
        owners
    }

    #[test]
    fn only_the_arrows_are_allowed() {
        let (kernel, ours, one, two) =
            (State::Kernel, State::Ours, State::Kept(sends(1)), State::Kept(sends(2)));
        type Step = fn(&mut Ownership) -> bool;
        let take: Step = |o| o.take(0).is_ok();
        let keep: Step = |o| o.keep(0, sends(2)).is_ok();
        let release: Step = |o| o.release(0).is_ok();
        let give_back: Step = |o| o.give_back(0).is_ok();
        let table = [
            (kernel, [Some(ours), None, None, None]),
            (ours, [None, Some(two), None, Some(kernel)]),
            (one, [None, None, Some(ours), None]),
            (two, [None, None, Some(one), None]),
        ];
        for (from, outcomes) in table {
            for (step, outcome) in [take, keep, release, give_back].into_iter().zip(outcomes) {
                let mut owners = at(from);
                assert_eq!(step(&mut owners), outcome.is_some(), "from {from:?}");
                assert_eq!(owners.state(0), Some(outcome.unwrap_or(from)), "from {from:?}");
                assert_eq!(owners.refused(), u64::from(outcome.is_none()));
                let in_kernel = owners.state(0) == Some(kernel);
                assert_eq!(owners.in_kernel(), usize::from(in_kernel), "from {from:?}");
                assert_eq!(owners.is_ours(0), !in_kernel);
                assert_eq!(owners.state(1), Some(ours), "the other is not touched");
            }
        }
    }

    #[test]
    fn a_buffer_that_does_not_exist_is_refused() {
        let mut owners = Ownership::new(2);
        let state = None;
        assert_eq!(owners.take(2), Err(Refused { id: 2, operation: "taken", state }));
        assert_eq!(owners.keep(2, sends(1)), Err(Refused { id: 2, operation: "kept", state }));
        assert_eq!(owners.release(u16::MAX), Err(Refused { id: u16::MAX, operation: "released", state }));
        assert_eq!(owners.give_back(2), Err(Refused { id: 2, operation: "given back", state }));
        assert_eq!((owners.in_kernel(), owners.refused(), owners.is_ours(2)), (0, 4, false));
    }

    #[test]
    fn a_refusal_says_why() {
        let told = |refused: Result<(), Refused>| refused.expect_err("refused").to_string();
        let twice = told(at(State::Kernel).give_back(0));
        assert_eq!(twice, "buffer 0 cannot be given back: it is the kernel's");
        let kept = told(at(State::Kept(sends(3))).give_back(0));
        assert_eq!(kept, "buffer 0 cannot be given back: 3 queued sends refer to it");
        assert_eq!(told(at(State::Ours).take(9)), "buffer 9 cannot be taken: there is no such buffer");
    }

    #[test]
    fn the_last_release_makes_it_ours_again() {
        let mut owners = at(State::Kept(sends(3)));
        assert_eq!([owners.release(0), owners.release(0), owners.release(0)], [Ok(2), Ok(1), Ok(0)]);
        assert_eq!(owners.state(0), Some(State::Ours));
    }
}
