//! What the kernel still has of sockets that are closed here: an operation that could not be cancelled at once, or a file
//! that could not be taken out of the table of fixed files. Either keeps the socket open, and in its port group.
//!
//! It is tried again until the last completion has come, or the table has let go. As long as that takes whoever waits for
//! the end of the group is kept waiting: what is bound there before would have other indexes than those of its shards.

use std::time::{Duration, Instant};

use shardgram_sys::Lease;

use crate::engine::Engine;
use crate::ring::NoRoom;
use crate::user_data::UserData;

/// How long to wait for a cancellation to have its effect before the next: one that meets its target at work misses it. All
/// are made at once, so that it is no more work with many of them but for their entries.
const AGAIN: Duration = Duration::from_millis(10);

/// What there still is of closed sockets.
#[derive(Debug, Default)]
pub(crate) struct Closed {
    armed: Vec<(UserData, Option<Lease>)>,
    /// Places in the table, of which another socket may have become the owner since: then its file is there.
    files: Vec<(u32, Option<Lease>)>,
    /// When all of it is tried again.
    again: Option<Instant>,
}

impl Closed {
    /// An operation of this name is armed and could not be cancelled.
    pub(crate) fn still_armed(&mut self, name: UserData, lease: Option<Lease>) {
        self.armed.push((name, lease));
        self.again.get_or_insert_with(Instant::now);
    }

    /// The file in this place of the table could not be taken out.
    pub(crate) fn still_in_table(&mut self, slot: u32, lease: Option<Lease>) {
        self.files.push((slot, lease));
        self.again.get_or_insert_with(Instant::now);
    }

    /// The last completion of an operation has come, or the kernel never had it.
    #[inline]
    pub(crate) fn ended(&mut self, name: UserData) {
        if !self.armed.is_empty() {
            self.armed.retain(|(armed, _)| *armed != name);
        }
    }

    /// Everything that was armed has ended.
    pub(crate) fn all_ended(&mut self) {
        self.armed.clear();
    }

    /// How much of it there is.
    pub(crate) fn len(&self) -> usize {
        self.armed.len() + self.files.len()
    }

    /// When there is something to do.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.again
    }

    /// Tries all of it again, if the time has come. `is_taken`: whether another socket is in that place now.
    #[inline]
    pub(crate) fn tend(&mut self, engine: &mut Engine, is_taken: impl Fn(u32) -> bool) {
        if self.again.is_some() {
            self.try_again(engine, is_taken);
        }
    }

    #[cold]
    fn try_again(&mut self, engine: &mut Engine, is_taken: impl Fn(u32) -> bool) {
        let now = Instant::now();
        if self.len() == 0 {
            self.again = None;
        }
        if self.again.is_none_or(|time| time > now) {
            return;
        }
        let Engine { ring, operands, .. } = engine;
        self.files.retain(|(slot, _)| !is_taken(*slot) && ring.set_file(*slot, -1).is_err());
        for (name, _) in &self.armed {
            if operands.push_cancel(ring, *name) == Err(NoRoom) {
                // The next attempt finds what is behind it too.
                break;
            }
        }
        self.again = Some(now + AGAIN);
    }
}
