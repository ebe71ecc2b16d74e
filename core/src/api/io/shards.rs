//! Other shards.

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::types::error::Full;

/// Other shards.
impl<H: Handler> Io<H> {
    /// Sends a message to a shard, this one included. It arrives after this callback, never within it, and
    /// in order with this shard's other messages to that one.
    ///
    /// # Errors
    /// Gives the message back if that mailbox is full or there is no such shard.
    ///
    /// ```
    /// use shardgram_core::{Full, Handler, Io, PeerId};
    /// fn score<H: Handler<Message = (PeerId, u32)>>(io: &mut Io<H>, whose: PeerId, points: u32) {
    ///     if let Err(Full((whose, points))) = io.tell(whose.shard(), (whose, points)) {
    ///         eprintln!("{points} points of {whose} are lost");
    ///     }
    /// }
    /// ```
    pub fn tell(&mut self, shard: u16, message: H::Message) -> Result<(), Full<H::Message>> {
        self.post.tell(shard, message)
    }
}
