//! Whether what a peer has said may still be on its way from another shard.
//!
//! Where the system does not steer, what is for a peer of this shard comes to any shard, which hands it on. One that stands
//! still, or has more to do than it can, may hold what a peer of this shard said long ago. So before anybody is taken to be
//! silent the others are asked, and each answers once it has handed on everything that had come to it before.

use std::time::{Duration, Instant};

use crate::messages::mailbox::Mailbox;
use crate::messages::post::Post;
use crate::types::ids::ShardInfo;

/// How often a shard that waits for answers looks whether it has waited for long enough.
const LOOK: Duration = Duration::from_millis(50);

/// What a shard asks the others, and answers them.
#[derive(Debug)]
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
    /// `None` where no shard receives for another.
    pub(crate) fn new(info: ShardInfo, steered: bool) -> Option<Self> {
        let none = Self { seen: 0, answered: 0, asked: None, heard: None };
        (info.shards > 1 && !steered).then_some(none)
    }

    /// Whether somebody waits for an answer who asked before this turn.
    pub(crate) fn is_asked(&self) -> bool {
        self.seen > self.answered
    }

    /// Everything was handed on that had come before the turn began. Who asked is woken, and so are all others that sleep.
    pub(crate) fn answer<M>(&mut self, mailbox: &Mailbox<M>, post: &mut Post<M>) {
        self.answered = self.seen;
        mailbox.answer(self.seen);
        (0..post.shards()).for_each(|shard| post.wake(shard));
    }

    /// Takes note of questions and answers, where a turn ends.
    pub(crate) fn look<M>(&mut self, mailbox: &Mailbox<M>, post: &Post<M>) {
        self.seen = mailbox.last_question();
        if let Some((_, at)) = self.asked.take_if(|(question, _)| post.have_answered(*question)) {
            self.heard = Some(at);
        }
    }

    /// Whether there is a question or an answer that this shard has not seen, so that it may not sleep.
    pub(crate) fn has_news<M>(&self, mailbox: &Mailbox<M>, post: &Post<M>) -> bool {
        mailbox.last_question() > self.answered
            || self.asked.is_some_and(|(question, _)| post.have_answered(question))
    }

    /// Up to when the others have handed on everything, if that is not before `due`; else they are asked. What they
    /// handed on is in the mailbox by then.
    pub(crate) fn heard_until<M>(
        &mut self,
        due: Instant,
        now: Instant,
        mailbox: &Mailbox<M>,
        post: &mut Post<M>,
    ) -> Option<Instant> {
        let heard = self.heard.filter(|heard| *heard >= due);
        if heard.is_none() && self.asked.is_none() {
            let question = mailbox.ask();
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
