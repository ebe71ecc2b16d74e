//! What a callback may ask for.
//!
//! Nothing here touches a socket: requests are queued and carried out by the next turn. That is why no
//! driver's type is visible to handlers, and why a borrowed payload, a peer's state and the outbox can be
//! held together.
//!
//! [`Io`] is put together from parts of the rooms above, which know nothing of a handler's types; its methods hand them
//! what they need of each other.

mod peers;
mod send;
mod shards;
mod sockets;
mod timers;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::api::handler::Handler;
use crate::connected::promotion::Connected;
use crate::contract::driver::Capabilities;
use crate::dial::dials::Dials;
use crate::messages::post::Post;
use crate::peers::crowd::Crowd;
use crate::peers::own_addresses::Known;
use crate::peers::routes::Routes;
use crate::send::sending::Sending;
use crate::sockets::via::Sockets;
use crate::stats::Stats;
use crate::time::clock::CoarseClock;
use crate::time::moment::Moment;
use crate::time::timers::TimerWheel;
use crate::types::datagram::Path;
use crate::types::ids::PeerId;

/// Sends, timers, messages, endpoints, and the time.
///
/// ```
/// use shardgram_core::{Full, Handler, Io, PeerId};
/// fn greet<H: Handler<Timer = PeerId>>(io: &mut Io<H>, peer: PeerId) -> Result<(), Full<PeerId>> {
///     let _ = io.send(peer, b"hello");
///     io.set_timer(io.now() + std::time::Duration::from_millis(200), peer).map(|_id| ())
/// }
/// ```
pub struct Io<H: Handler> {
    /// When this turn began.
    pub(crate) time: Moment,
    pub(crate) clock: CoarseClock,
    pub(crate) shard: u16,
    pub(crate) capabilities: Capabilities,
    /// Bytes of a datagram that handlers are given, at most.
    pub(crate) max_datagram: usize,
    pub(crate) routes: Routes,
    /// Who comes and who stays.
    pub(crate) crowd: Box<Crowd>,
    /// Where nobody can be a peer.
    pub(crate) own: Known,
    pub(crate) sending: Sending,
    pub(crate) sockets: Sockets,
    pub(crate) connected: Connected,
    pub(crate) dials: Dials,
    pub(crate) timers: TimerWheel<H::Timer>,
    pub(crate) post: Post<H::Message>,
    /// Peers to close after the callback.
    pub(crate) closing: Vec<PeerId>,
    /// The shard closes its peers for the last time.
    pub(crate) ending: bool,
    pub(crate) stats: Arc<Stats>,
}

impl<H: Handler> std::fmt::Debug for Io<H> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Io").field("shard", &self.shard).field("now", &self.time.now).finish_non_exhaustive()
    }
}

/// Time and place.
impl<H: Handler> Io<H> {
    /// When this turn began. Read once a turn.
    ///
    /// ```
    /// use std::time::{Duration, Instant};
    /// use shardgram_core::{Handler, Io};
    /// fn in_a_second<H: Handler>(io: &Io<H>) -> Instant {
    ///     io.now() + Duration::from_secs(1)
    /// }
    /// ```
    pub fn now(&self) -> Instant {
        self.time.now
    }

    /// This shard's number.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn is_mine<H: Handler>(io: &Io<H>, peer: PeerId) -> bool {
    ///     peer.shard() == io.shard()
    /// }
    /// ```
    pub fn shard(&self) -> u16 {
        self.shard
    }

    /// What the driver under this shard can do, on this system.
    ///
    /// ```
    /// use shardgram_core::{Capability, Handler, Io};
    /// fn paces<H: Handler>(io: &Io<H>) -> bool {
    ///     !io.capabilities().has(Capability::EcnIn) // without marks it has to guess
    /// }
    /// ```
    pub fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    /// How many shards the server has.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io};
    /// fn tell_all<H: Handler<Message = u32>>(io: &mut Io<H>, round: u32) {
    ///     for shard in 0..io.shards() {
    ///         let _ = io.tell(shard, round);
    ///     }
    /// }
    /// ```
    pub fn shards(&self) -> u16 {
        self.post.shards()
    }

    /// The addresses listened on, in the order of [`crate::Config::listen`].
    ///
    /// ```
    /// use shardgram_core::{Handler, Io};
    /// fn first_port<H: Handler>(io: &Io<H>) -> Option<u16> {
    ///     io.listeners().first().map(|address| address.port())
    /// }
    /// ```
    pub fn listeners(&self) -> &[SocketAddr] {
        &self.sockets.listeners
    }

    /// The path answers to this peer take; `None` if it is gone, or was dialed and has no address.
    ///
    /// ```
    /// use std::net::SocketAddr;
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn address_of<H: Handler>(io: &Io<H>, peer: PeerId) -> Option<SocketAddr> {
    ///     Some(io.path(peer)?.remote)
    /// }
    /// ```
    pub fn path(&self, peer: PeerId) -> Option<Path> {
        let mut path = self.routes.active_path(peer)?;
        // The peer may have been opened when the port was not known yet.
        if let Some(bound) = self.sockets.endpoints.bound_to(path.socket) {
            path.local.set_port(bound.port());
        }
        Some(path)
    }
}
