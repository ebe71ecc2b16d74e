//! What handlers send.

use std::net::SocketAddr;

use shardgram_core::datagram::MAX_PAYLOAD_V6;
use shardgram_core::{PeerId, SendError};

use crate::actor::{Actor, Ours};
use crate::payload;
use crate::temper::Act;

impl<H: Ours> Actor<'_, '_, H> {
    pub(crate) fn send(&mut self, to: Option<PeerId>) {
        let Some(to) = to else { return };
        let (number, len) = (self.number(), self.length());
        let result = self.cx.io.send(to, &payload::of(number, len));
        self.judge("send", (to, None), (number, len), result);
    }

    pub(super) fn send_too_long(&mut self) {
        let Some(to) = self.me else { return };
        let len = MAX_PAYLOAD_V6 + 1;
        let result = self.cx.io.send(to, &vec![0; len]);
        self.judge("send", (to, None), (0, len), result);
    }

    pub(super) fn slot(&mut self, act: Act) {
        let Some(to) = self.me.or_else(|| self.some_open()) else { return };
        let (number, len) = (self.number(), self.length());
        let max = len + self.dice.below(100) as usize;
        let result = match self.cx.io.slot(to, max) {
            Err(error) => Err(error),
            Ok(slot) if act == Act::SlotDropped => {
                drop(slot);
                return self.model.reached.note("slot", "dropped");
            }
            Ok(slot) if act == Act::SlotTooLong => {
                let result = slot.commit(max + 1);
                let refused = matches!(result, Err(SendError::TooLong { .. }));
                self.model.expect(refused, || format!("more than a slot's room was committed: {result:?}"));
                return self.model.reached.note("slot", "too long");
            }
            Ok(mut slot) => {
                payload::fill(number, &mut slot[..len]);
                slot.commit(len)
            }
        };
        self.judge("slot", (to, None), (number, len), result);
    }

    pub(super) fn share(&mut self) {
        let (number, len) = (self.number(), self.length());
        let Ok(shared) = self.cx.io.share(&payload::of(number, len)) else {
            return self.model.reached.note("share", "Full");
        };
        let everyone: Vec<PeerId> = self.cx.peers.iter().map(|(peer, _)| peer).collect();
        for peer in everyone {
            let result = self.cx.io.send_shared(peer, shared);
            self.judge("send_shared", (peer, None), (number, len), result);
        }
        let now = self.cx.io.now();
        self.model.shard(self.place).old_shared = Some((shared, now));
    }

    pub(super) fn share_stale(&mut self) {
        let now = self.cx.io.now();
        let Some(to) = self.some_open() else { return };
        if let Some((shared, _)) = self.model.shard(self.place).old_shared.filter(|(_, then)| *then < now) {
            let result = self.cx.io.send_shared(to, shared);
            let stale = result == Err(SendError::Stale);
            self.model.expect(stale, || format!("a payload shared in an earlier turn was sent: {result:?}"));
            self.model.reached.note("send_shared", "Stale");
        }
    }

    pub(super) fn answer(&mut self, act: Act) {
        let Some(mut path) = self.path else { return };
        if act == Act::AnswerNobody {
            path.remote.set_port(0);
            let result = self.cx.io.answer(path, b"");
            self.model.expect(result == Err(SendError::Gone), || format!("port 0 was answered: {result:?}"));
            return self.model.reached.note("answer", "Gone");
        }
        if let Some(target) = self.some_target(path.remote.is_ipv4())
            && self.dice.one_in(4)
        {
            path.remote = target;
        }
        let (number, len) = (self.number(), self.length());
        let result = self.cx.io.answer(path, &payload::of(number, len));
        self.judge_stateless(path, (number, len), result);
    }

    /// An address of this family that somebody has, or nobody.
    pub(crate) fn some_target(&mut self, v4: bool) -> Option<SocketAddr> {
        let targets: Vec<_> = self.model.targets.iter().filter(|t| t.is_ipv4() == v4).copied().collect();
        self.dice.pick(&targets).copied()
    }
}
