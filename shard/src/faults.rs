//! Failures of the ring that a test has it make: of entries into the kernel, of sends, of
//! cancellations, and of completions. Outside of
//! this crate's own tests every question here is answered by a constant, and nothing of it is left in the program.

/// What an entry into the kernel comes to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[cfg_attr(not(test), allow(dead_code, reason = "only tests make them"))]
pub(crate) enum Fault {
    /// This error; the kernel is not entered.
    Fails(i32),
    /// The kernel takes so many entries and no more, and does not wait.
    Takes(u32),
}

pub(crate) use switch::*;

#[cfg(not(test))]
mod switch {
    use super::Fault;

    /// What the next entry into the kernel comes to, if not to what it does: nothing.
    #[inline(always)]
    pub(crate) const fn entry() -> Option<Fault> {
        None
    }

    /// What the next cancellation fails with, if it is to: nothing.
    #[inline(always)]
    pub(crate) const fn cancel() -> Option<i32> {
        None
    }

    /// Whether the next cancellation that is queued misses its target: never.
    #[inline(always)]
    pub(crate) const fn misses() -> bool {
        false
    }

    /// Whether the kernel refuses the send with this user data: never.
    #[inline(always)]
    pub(crate) const fn refuses(_: u64) -> bool {
        false
    }

    /// Completions of sends that were refused so: none.
    #[inline(always)]
    pub(crate) const fn completions() -> [(u64, i32); 0] {
        []
    }

    /// Whether the next completion is lost: never.
    #[inline(always)]
    pub(crate) const fn loses() -> bool {
        false
    }
}

#[cfg(test)]
mod switch {
    use std::cell::RefCell;
    use std::collections::VecDeque;

    use super::Fault;
    use crate::user_data::{Kind, UserData};

    #[derive(Default)]
    struct Plan {
        entries: VecDeque<Fault>,
        cancels: VecDeque<i32>,
        missed: u32,
        refusals: VecDeque<Option<i32>>,
        refused: Vec<(u64, i32)>,
        lost: u32,
    }

    thread_local! {
        static PLAN: RefCell<Plan> = RefCell::default();
    }

    /// The next entries into the kernel come to this, by this thread.
    pub(crate) fn plan_entries(faults: impl IntoIterator<Item = Fault>) {
        PLAN.with_borrow_mut(|plan| plan.entries.extend(faults));
    }

    /// How many of them are left.
    pub(crate) fn planned_entries() -> usize {
        PLAN.with_borrow(|plan| plan.entries.len())
    }

    /// Ends what is left of them.
    pub(crate) fn no_more_entries() {
        PLAN.with_borrow_mut(|plan| plan.entries.clear());
    }

    /// The next cancellations that are waited for fail with these errors, and nothing is cancelled.
    pub(crate) fn plan_cancels(errors: impl IntoIterator<Item = i32>) {
        PLAN.with_borrow_mut(|plan| plan.cancels.extend(errors));
    }

    /// Ends what is left of them.
    pub(crate) fn no_more_cancels() {
        PLAN.with_borrow_mut(|plan| plan.cancels.clear());
    }

    pub(crate) fn cancel() -> Option<i32> {
        PLAN.with_borrow_mut(|plan| plan.cancels.pop_front())
    }

    /// So many cancellations that are queued miss what they are to cancel.
    pub(crate) fn plan_misses(cancellations: u32) {
        PLAN.with_borrow_mut(|plan| plan.missed = cancellations);
    }

    pub(crate) fn misses() -> bool {
        PLAN.with_borrow_mut(|plan| {
            let misses = plan.missed > 0;
            plan.missed -= u32::from(misses);
            misses
        })
    }

    /// The next sends come to these errors, or leave where there is none.
    pub(crate) fn plan_sends(errors: impl IntoIterator<Item = Option<i32>>) {
        PLAN.with_borrow_mut(|plan| plan.refusals.extend(errors));
    }

    /// Ends what is left of them.
    pub(crate) fn no_more_sends() {
        PLAN.with_borrow_mut(|plan| plan.refusals.clear());
    }

    /// So many completions are lost.
    pub(crate) fn plan_losses(completions: u32) {
        PLAN.with_borrow_mut(|plan| plan.lost = completions);
    }

    /// How many are still to be lost.
    pub(crate) fn planned_losses() -> u32 {
        PLAN.with_borrow(|plan| plan.lost)
    }

    pub(crate) fn entry() -> Option<Fault> {
        PLAN.with_borrow_mut(|plan| plan.entries.pop_front())
    }

    pub(crate) fn refuses(bits: u64) -> bool {
        let name = UserData::from_bits(bits).expect("one of this driver's");
        if !matches!(name.kind, Kind::Send | Kind::Late) {
            return false;
        }
        PLAN.with_borrow_mut(|plan| {
            let errno = plan.refusals.pop_front().flatten();
            plan.refused.extend(errno.map(|errno| (bits, -errno)));
            errno.is_some()
        })
    }

    pub(crate) fn completions() -> Vec<(u64, i32)> {
        PLAN.with_borrow_mut(|plan| std::mem::take(&mut plan.refused))
    }

    pub(crate) fn loses() -> bool {
        PLAN.with_borrow_mut(|plan| {
            let loses = plan.lost > 0;
            plan.lost -= u32::from(loses);
            loses
        })
    }
}
