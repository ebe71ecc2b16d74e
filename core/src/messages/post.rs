//! How a shard reaches the others.

use std::sync::Arc;

use crate::messages::mailbox::Postbox;
use crate::stats::Stats;
use crate::types::error::Full;
use crate::types::ids::{Origin, ShardInfo};

/// The postboxes of all shards, and whom to wake.
pub(crate) struct Post<M> {
    info: ShardInfo,
    pub(crate) postboxes: Arc<[Postbox<M>]>,
    /// Those that the driver is to wake with the next turn.
    pub(crate) wakes: Vec<u16>,
    stats: Arc<Stats>,
}

impl<M> Post<M> {
    pub(crate) fn new(info: ShardInfo, postboxes: Arc<[Postbox<M>]>, stats: Arc<Stats>) -> Self {
        Self { info, postboxes, wakes: Vec::new(), stats }
    }

    /// How many shards there are.
    #[inline]
    pub(crate) fn shards(&self) -> u16 {
        self.postboxes.len() as u16
    }

    /// Sends a message to a shard, this one included.
    pub(crate) fn tell(&mut self, shard: u16, message: M) -> Result<(), Full<M>> {
        let Some(postbox) = self.postboxes.get(usize::from(shard)) else { return Err(Full(message)) };
        let put = postbox.put_message(Origin::Shard(self.info.shard), message);
        match put {
            Ok(()) => self.wake(shard),
            Err(_) => self.stats.messages_refused.add(1),
        }
        put
    }

    /// Whether all other shards have answered that question of this one, so that what they received for it is in its mailbox.
    pub(crate) fn have_answered(&self, question: u64) -> bool {
        let mut others = (0..).zip(&*self.postboxes).filter(|(shard, _)| *shard != self.info.shard);
        others.all(|(_, postbox)| postbox.answered() >= question)
    }

    /// Has the driver wake a shard with the next turn, if it sleeps and nobody else wakes it.
    pub(crate) fn wake(&mut self, shard: u16) {
        if shard != self.info.shard && self.postboxes[usize::from(shard)].bell().claim() {
            self.wakes.push(shard);
        }
    }
}
