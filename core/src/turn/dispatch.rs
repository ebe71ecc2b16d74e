//! A shard's handler with all it works on, and the guard that keeps a panicking handler from taking the shard with it.
//!
//! What leads to callbacks is in the modules below: what arrives, who is let in, what becomes of peers, what waits, and
//! what is dialed. Each of them ends in [`Dispatch::call`].

mod admission;
mod arrival;
mod dialing;
mod held;
mod lifecycle;

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::api::context::Context;
use crate::api::handler::{AfterPanic, Handler};
use crate::api::io::Io;
use crate::peers::idle::Gone;
use crate::peers::states::Peers;
use crate::time::seldom::Seldom;
use crate::turn::held::Held;
use crate::turn::panics::{Cause, Next, Panics, drop_guarded};
use crate::turn::quota::Quota;
use crate::types::datagram::Path;
use crate::types::error::CloseReason;
use crate::types::ids::PeerId;

/// A shard's handler with all it works on.
pub(crate) struct Dispatch<H: Handler> {
    pub(crate) handler: H,
    pub(crate) peers: Peers<H::Peer>,
    pub(crate) io: Io<H>,
    /// A callback panicked: no other may run before the handler is replaced, or goes on after a pause.
    pub(crate) panicked: bool,
    /// The handler was made and its `on_start` has returned.
    pub(crate) started: bool,
    pub(crate) panics: Box<Panics>,
    pub(crate) quota: Quota,
    /// Datagrams handed over in this turn, and receives that ended for want of buffers.
    pub(crate) arrivals: u64,
    /// Peers that are closed and of which no handler has heard, because the last one failed.
    pub(crate) orphans: Vec<(PeerId, H::Peer, CloseReason)>,
    /// Local addresses that went and whose peers are being closed.
    pub(crate) gone: Vec<Gone>,
    pub(crate) held: Held,
    /// What is for a peer of this shard may come to another one first.
    pub(crate) others_receive: bool,
    pub(crate) warned: Warned,
}

/// When it was warned of what remote parties bring about.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    control_cut: Seldom,
    own_source: Seldom,
}

impl<H: Handler> Dispatch<H> {
    /// Whether another callback may begin in this turn, as far as the slice goes that is being handed over.
    #[inline]
    pub(crate) fn may_go_on(&self) -> bool {
        !(self.panicked | self.io.sending.outbox.is_crowded() | self.quota.is_over())
    }

    /// A shard's handler, before it has started.
    pub(crate) fn new(handler: H, peers: Peers<H::Peer>, io: Io<H>, panics: Box<Panics>) -> Self {
        Self {
            handler,
            peers,
            panicked: false,
            started: false,
            panics,
            quota: Quota::default(),
            arrivals: 0,
            orphans: Vec::new(),
            gone: Vec::new(),
            others_receive: false,
            held: Held::new(Arc::clone(&io.stats)),
            warned: Warned::default(),
            io,
        }
    }

    /// Calls the handler, unless it panicked before; then does what the callback asked to be done after.
    pub(crate) fn call<R>(
        &mut self,
        cause: Cause<'_>,
        callback: impl FnOnce(&mut H, &mut Context<'_, H>) -> R,
    ) -> Option<R> {
        let result = self.call_once(cause, callback);
        self.close_asked();
        result
    }

    #[inline]
    fn call_once<R>(
        &mut self,
        cause: Cause<'_>,
        callback: impl FnOnce(&mut H, &mut Context<'_, H>) -> R,
    ) -> Option<R> {
        if self.panicked {
            // What the callback was to be given is the user's, and may panic when dropped.
            drop_guarded(callback);
            return None;
        }
        let Self { handler, peers, io, .. } = self;
        match catch_unwind(AssertUnwindSafe(|| callback(handler, &mut Context { peers, io }))) {
            Ok(result) => Some(result),
            Err(payload) => {
                self.failed(cause, payload);
                None
            }
        }
    }

    /// A callback panicked: refuses its source, and closes the peer where the handler says that this is enough.
    #[cold]
    #[inline(never)]
    pub(crate) fn failed(&mut self, cause: Cause<'_>, payload: Box<dyn Any + Send>) {
        self.io.stats.restarts.add(1);
        let peer = cause.peer();
        let path = match cause {
            Cause::Datagram(_, _, path) => Some(*path),
            Cause::Gone(path) => path,
            Cause::Peer(_, peer) | Cause::OwnPeer(_, peer) => self.io.routes.active_path(peer),
            Cause::Own(_) => None,
        };
        let proven = path.is_some_and(|path| peer.is_some_and(|peer| self.is_proven(peer, &path)));
        let next = self.panics.note(&cause, path.as_ref(), proven, self.io.time.now, payload);
        let keeps_handler = H::AFTER_PANIC == AfterPanic::ClosePeer && next == Next::Replace && self.started;
        self.panicked = !keeps_handler;
        // With a handler that is replaced with its peers, all of them are closed then.
        if H::AFTER_PANIC != AfterPanic::Restart
            && let Some(peer) = peer
        {
            self.close(peer, CloseReason::Panicked);
        }
    }

    /// Whether the address at the end of this path of the peer was proven, and not only claimed.
    fn is_proven(&self, peer: PeerId, path: &Path) -> bool {
        self.known(path) == Some(peer) && self.io.routes.left(peer, path).is_none()
    }

    /// Does what a callback asked to be done after it.
    #[inline]
    fn close_asked(&mut self) {
        if !self.io.closing.is_empty() {
            self.settle();
        }
    }
}
