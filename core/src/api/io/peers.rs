//! Peers: what is known of them, where they are answered, and how.

use crate::api::handler::Handler;
use crate::api::io::Io;
use crate::api::tier::Tier;
use crate::peers::crowd::Pressure;
use crate::types::datagram::Path;
use crate::types::error::{DropPathError, SendError};
use crate::types::ids::PeerId;

/// Peers.
impl<H: Handler> Io<H> {
    /// Closes a peer, after the callback: safe while iterating. What was queued for it still leaves. An id that names nobody
    /// now closes nobody later.
    ///
    /// ```
    /// use shardgram_core::{Context, Handler};
    /// fn kick<H: Handler<Peer = u32>>(cx: &mut Context<'_, H>) {
    ///     for (peer, strikes) in cx.peers.iter() {
    ///         if *strikes > 2 { cx.io.close(peer); }
    ///     }
    /// }
    /// ```
    pub fn close(&mut self, peer: PeerId) {
        if self.routes.get(peer).is_some() {
            self.closing.push(peer);
        }
    }

    /// Makes answers to a peer go along another of its paths. An amplification limit holds for a path that was not validated
    /// ([`Io::validated_path`]), whatever holds for the others.
    ///
    /// # Errors
    /// [`SendError::Gone`] if the peer is closed or the path is not one of its own.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, PeerId};
    /// fn path_response<H: Handler>(io: &mut Io<H>, peer: PeerId, asked: [u8; 8], datagram: &Datagram<'_>) {
    ///     if **datagram == asked {
    ///         let _ = io.use_path(peer, datagram.path());
    ///     }
    /// }
    /// ```
    pub fn use_path(&mut self, peer: PeerId, path: Path) -> Result<(), SendError> {
        if self.routes.use_path(peer, &path).ok_or(SendError::Gone)? {
            // Its own socket serves the old path.
            self.connected.cool_down(&mut self.routes, peer, 0);
        }
        Ok(())
    }

    /// Takes a path from a peer: what comes along it from now on is a stranger's, of which [`Handler::accept`] is asked. For a peer
    /// that has moved: a translator may give its old port to somebody else, who is taken for the peer as long as the path is
    /// the peer's. What was queued along it still leaves, and what was received in one train with the datagram at hand still
    /// comes to the peer.
    ///
    /// # Errors
    /// See [`DropPathError`]; nothing has changed then.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, Path, PeerId};
    /// /// It answered from its new address: keep that alone.
    /// fn has_moved<H: Handler>(io: &mut Io<H>, peer: PeerId, from: &Datagram<'_>) {
    ///     let old: Option<Path> = io.path(peer);
    ///     if io.use_path(peer, from.path()).is_ok()
    ///         && let Some(old) = old.filter(|old| *old != from.path())
    ///     {
    ///         let _ = io.drop_path(peer, old); // gone already, if it had been added long ago
    ///     }
    /// }
    /// ```
    pub fn drop_path(&mut self, peer: PeerId, path: Path) -> Result<(), DropPathError> {
        let socket = self.routes.give_up_path(peer, &path)?;
        self.sockets.endpoints.path_left(socket);
        Ok(())
    }

    /// Sixteen bytes that only someone who receives at this path can know. Good for one to two minutes, on
    /// every shard of the server.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn challenge<H: Handler>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<H::Peer> {
    ///     let cookie = io.cookie(first.path());
    ///     let _ = io.answer(first.path(), &cookie);
    ///     Accept::Done
    /// }
    /// ```
    pub fn cookie(&self, path: Path) -> [u8; 16] {
        self.crowd.cookie(&path, self.time)
    }

    /// How crowded the table of peers is for a newcomer that comes along this path, so that [`Handler::accept`] can ask for a proof
    /// of the address ([`Io::cookie`]) when a flood fills the table. Limits and counts are those of this shard. Costs about
    /// 100 ns.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io};
    /// fn must_prove<H: Handler>(io: &Io<H>, first: &Datagram<'_>) -> bool {
    ///     io.pressure(first.path()).wants_proof()
    /// }
    /// ```
    pub fn pressure(&self, path: Path) -> Pressure {
        self.crowd.pressure(&self.routes, path.remote.ip(), self.time)
    }

    /// Whether a cookie was made for this path not long ago. Then its address is proven: the peer that `accept` makes of
    /// it, or the one whose path it is, is one that [`Io::validated_path`] was called for.
    ///
    /// ```
    /// use shardgram_core::{Accept, Datagram, Handler, Io};
    /// fn admit<H: Handler<Peer = ()>>(io: &mut Io<H>, first: &Datagram<'_>) -> Accept<()> {
    ///     if io.verify(first.path(), first) { Accept::Peer(()) } else { Accept::Drop("no cookie") }
    /// }
    /// ```
    pub fn verify(&mut self, path: Path, cookie: &[u8]) -> bool {
        self.crowd.verify(&mut self.routes, path, cookie, self.time)
    }

    /// The address that a peer is answered at is proven: the amplification limit does not hold along that path any more,
    /// and strangers cannot displace the peer ([`crate::Config::max_proven_peers`]).
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn handshake_is_over<H: Handler>(io: &mut Io<H>, peer: PeerId) {
    ///     io.validated(peer);
    /// }
    /// ```
    pub fn validated(&mut self, peer: PeerId) {
        if let Some(path) = self.routes.active_path(peer) {
            let _ = self.validated_path(peer, path);
        }
    }

    /// The address of one of a peer's paths is proven, as [`Io::validated`] says of the one that answers take: when what was
    /// sent along it came back (RFC 9000 section 8.2).
    ///
    /// # Errors
    /// [`SendError::Gone`] if the peer is closed or the path is not one of its own.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, PeerId, SendError};
    /// fn path_response<H: Handler>(io: &mut Io<H>, peer: PeerId, from: &Datagram<'_>) -> Result<(), SendError> {
    ///     io.validated_path(peer, from.path())?;
    ///     io.use_path(peer, from.path())
    /// }
    /// ```
    pub fn validated_path(&mut self, peer: PeerId, path: Path) -> Result<(), SendError> {
        let is_its_own = self.crowd.validate(&mut self.routes, peer, &path, self.time);
        if is_its_own { Ok(()) } else { Err(SendError::Gone) }
    }

    /// Asks for a socket of a peer's own. It gets one with one of the next turns, if the caps allow, and if
    /// need be in place of the connected peer that was silent for longest. [`Io::tier`] says what came of it.
    ///
    /// ```
    /// use shardgram_core::{Datagram, Handler, Io, PeerId};
    /// fn proven<H: Handler>(io: &mut Io<H>, peer: PeerId) {
    ///     io.validated(peer);
    ///     io.promote(peer); // whoever forges sources has not come this far
    /// }
    /// ```
    pub fn promote(&mut self, peer: PeerId) {
        self.connected.promote(&mut self.routes, peer, self.time);
    }

    /// Takes a peer's own socket away, after this turn's sends. Nothing it holds is lost. The policy leaves the
    /// peer where it is until it has sent 64 datagrams more, or has been silent for a second.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn less_important<H: Handler>(io: &mut Io<H>, peer: PeerId) { io.demote(peer); }
    /// ```
    pub fn demote(&mut self, peer: PeerId) {
        self.connected.demote(&mut self.routes, peer);
    }

    /// In which tier a peer is, `None` if it is gone.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId, Tier};
    /// fn is_connected<H: Handler>(io: &Io<H>, peer: PeerId) -> bool {
    ///     io.tier(peer) == Some(Tier::Connected)
    /// }
    /// ```
    pub fn tier(&self, peer: PeerId) -> Option<Tier> {
        let link = self.routes.get(peer)?.link();
        Some(if link.is_some() { Tier::Connected } else { Tier::Listener })
    }
}
