//! Whether what a peer has said may still be on its way from another shard.
//!
//! Where the system does not steer, and where a peer has a path that another shard owns, what is for a peer of this shard
//! comes to another one, which hands it on. One that stands still, or has more to do than it can, may hold what a peer of
//! this shard said long ago. So before anybody is taken to be silent the others are asked, and each answers once it has
//! handed on everything that had come to it before.

use std::time::{Duration, Instant};

use crate::messages::mailbox::Mailbox;
use crate::messages::post::Post;
use crate::turn::control::Control;

/// How often a shard that waits for answers looks whether it has waited for long enough.
const LOOK: Duration = Duration::from_millis(50);

/// What a shard asks the others, and answers them.
#[derive(Debug, Default)]
pub(crate) struct Hearing {
    /// The last question of anybody that was there when the last turn ended, and the last that this shard has answered.
    seen: u64,
    answered: u64,
    /// The question of this shard that not all have answered, and when it was asked.
    asked: Option<(u64, Instant)>,
    /// Up to when the others have handed on everything.
    heard: Option<Instant>,
}

impl Hearing {
    /// Answers what was asked before this turn, where everything was handed on that had come before it (`heard_all`), and
    /// sees what was asked since; whether nothing is left to answer. Who asked is woken, and so are all others that sleep.
    pub(crate) fn answer<M>(
        &mut self,
        heard_all: bool,
        control: &Control,
        mailbox: &Mailbox<M>,
        post: &mut Post<M>,
    ) -> bool {
        if heard_all && self.seen > self.answered {
            self.answered = self.seen;
            mailbox.answer(self.seen);
            (0..post.shards()).for_each(|shard| post.wake(shard));
        }
        self.seen = control.last_question();
        self.seen <= self.answered
    }

    /// Whether this shard waits for answers.
    #[inline]
    pub(crate) fn waits(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether it waits for answers and all have come, which [`Hearing::look`] takes note of.
    pub(crate) fn has_answers<M>(&self, post: &Post<M>) -> bool {
        self.asked.is_some_and(|(question, _)| post.have_answered(question))
    }

    /// Takes note of answers.
    pub(crate) fn look<M>(&mut self, post: &Post<M>) {
        if self.has_answers(post) {
            self.heard = self.asked.take().map(|(_, at)| at);
        }
    }

    /// Up to when the others have handed on everything, if that is not before `due`; else they are asked. What they
    /// handed on is in the mailbox by then.
    pub(crate) fn heard_until<M>(
        &mut self,
        due: Instant,
        now: Instant,
        control: &Control,
        post: &mut Post<M>,
    ) -> Option<Instant> {
        let heard = self.heard.filter(|heard| *heard >= due);
        if heard.is_none() && self.asked.is_none() {
            let question = control.ask_what_is_held();
            self.asked = Some((question, now));
            // Nobody waits for an answer to it by this shard, unless others have asked too.
            if question == self.answered + 1 {
                self.answered = question;
            }
            (0..post.shards()).for_each(|shard| post.wake(shard));
        }
        heard
    }

    /// When to look for silence at the earliest, in place of a time that has come: others wake this shard when they answer.
    pub(crate) fn next_look(&self, now: Instant) -> Option<Instant> {
        self.asked.map(|_| now + LOOK)
    }
}
