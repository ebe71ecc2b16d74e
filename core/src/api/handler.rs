//! What a user writes: one value per shard that answers datagrams.

use std::net::SocketAddr;
use std::time::Instant;

pub use crate::api::answers::{Accept, AfterPanic, Drain};
use crate::api::context::Context;
use crate::types::datagram::{Datagram, ReceivedTrain};
use crate::types::endpoint::Via;
use crate::types::error::{CloseReason, JoinError, PeerError};
use crate::types::ids::{Origin, PeerId};
use crate::types::multicast::Membership;

/// One value per shard, made on the shard's thread, so it needs no `Send`. Callbacks run one at a time;
/// each may queue sends, set timers and send messages, and must not block.
///
/// A callback that panics ends nothing. What a peer or a stranger brought about (`accept`, `on_datagram`, `on_train`,
/// `on_writable`, `on_peer_error`, `on_closed`, and `on_timer` for a timer of a peer's) has its 4-tuple refused for a while,
/// longer each time, and the shard goes on at once. What nobody outside brought about (`on_start`, the factory,
/// `on_message`, `on_turn_end`, the rest of `on_timer`, and what befalls peers that the handler dials) has the shard pause: 10 ms,
/// twice as long each time, a second at most. [`Handler::AFTER_PANIC`] says what is kept: by default nothing of the
/// handler's. Then a fresh handler takes over where the turn ends, with the same listeners and the same mailbox: it gets
/// [`Handler::on_start`] first, and then [`Handler::on_closed`] for each peer that was closed meanwhile. What the failed
/// one had queued still leaves. What it had been told by messages is lost with it: the documentation of
/// `shardgram::Server::spawn` shows how a factory passes on what is to outlive it.
///
/// ```
/// use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};
///
/// struct Echo;
///
/// impl Handler for Echo {
///     type Peer = ();
///     type Timer = ();
///     type Message = ();
///
///     fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
///         Accept::Peer(())
///     }
///
///     fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
///         let len = datagram.len();
///         let _ = cx.io.reply(datagram, len);
///     }
/// }
/// ```
pub trait Handler: Sized + 'static {
    /// State the library keeps beside each peer and drops with it; `()` for none.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// struct Session { user: u64, last_sequence: u32 }
    /// # struct Game;
    /// # impl Handler for Game {
    /// type Peer = Session; // in the impl of Handler
    /// # type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Session> {
    /// #     Accept::Done
    /// # }
    /// # }
    /// ```
    type Peer: 'static;
    /// What a timer brings back.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// enum Wake { Resend(PeerId), Save }
    /// # struct Game;
    /// # impl Handler for Game {
    /// type Timer = Wake; // in the impl of Handler
    /// # type Peer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Done
    /// # }
    /// # }
    /// ```
    type Timer: 'static;
    /// What other shards and [handles](Origin::Handle) may send.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// enum Order { Announce(String), Kick(PeerId) }
    /// # struct Game;
    /// # impl Handler for Game {
    /// type Message = Order; // in the impl of Handler
    /// # type Peer = (); type Timer = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Done
    /// # }
    /// # }
    /// ```
    type Message: Send + 'static;

    /// What is kept when a callback panics.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// const AFTER_PANIC: AfterPanic = AfterPanic::KeepPeers; // what a peer's state says stands in it alone
    /// # }
    /// ```
    const AFTER_PANIC: AfterPanic = AfterPanic::Restart;

    /// A datagram of a 4-tuple that has no peer. With [`Accept::Peer`] a peer is made and this datagram
    /// then goes to [`Handler::on_datagram`]. Its source may be forged: keep nothing for it that it did
    /// not earn ([`crate::Io::cookie`]).
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
    ///     if cx.io.verify(first.path(), first) {
    ///         return Accept::Peer(());
    ///     }
    ///     let cookie = cx.io.cookie(first.path());
    ///     let _ = cx.io.answer(first.path(), &cookie);
    ///     Accept::Done
    /// }
    /// # }
    /// ```
    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Self::Peer>;

    /// A datagram of a peer. Where it has many sent, half of the outbox is free for that whatever came before
    /// ([`crate::Config::outbox_datagrams`]).
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = u64; type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u64> {
    /// #     Accept::Peer(0)
    /// # }
    /// fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
    ///     if let Some(bytes) = cx.peers.get_mut(from) {
    ///         *bytes += datagram.len() as u64;
    ///     }
    ///     let _ = cx.io.reply(datagram, 1);
    /// }
    /// # }
    /// ```
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let _ = (cx, from, datagram);
    }

    /// Whether this handler takes trains whole: several datagrams of a peer that the kernel received as one then
    /// come to [`Handler::on_train`] and not one by one to [`Handler::on_datagram`].
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Mirror;
    /// # impl Handler for Mirror {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// const WHOLE_TRAINS: bool = true;
    /// fn on_train(&mut self, cx: &mut Context<'_, Self>, _: PeerId, train: ReceivedTrain<'_>) {
    ///     let _ = cx.io.reply_train(train); // all of it, as one send
    /// }
    /// # }
    /// ```
    const WHOLE_TRAINS: bool = false;

    /// Several datagrams of a peer that were received as one, if [`Handler::WHOLE_TRAINS`] says that they may come
    /// so. Single ones, the first of a stranger, and those too long for [`crate::Config::max_datagram`] come to
    /// the other callbacks as ever. Unless it is written, each is given to [`Handler::on_datagram`].
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Count { datagrams: usize }
    /// # impl Handler for Count {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// # const WHOLE_TRAINS: bool = true;
    /// fn on_train(&mut self, _: &mut Context<'_, Self>, _: PeerId, train: ReceivedTrain<'_>) {
    ///     self.datagrams += train.datagrams();
    /// }
    /// # }
    /// ```
    fn on_train(&mut self, cx: &mut Context<'_, Self>, from: PeerId, train: ReceivedTrain<'_>) {
        for datagram in train {
            self.on_datagram(cx, from, datagram);
        }
    }

    /// A timer that [`crate::Io::set_timer`] or [`crate::Io::set_peer_timer`] set. Never early, and never in
    /// the turn in which it was set.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = PeerId; type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
    ///     if cx.io.send(peer, b"are you there?").is_ok() {
    ///         let _ = cx.io.set_peer_timer(peer, cx.io.now() + std::time::Duration::from_secs(15), peer);
    ///     }
    /// }
    /// # }
    /// ```
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, timer: Self::Timer) {
        let _ = (cx, timer);
    }

    /// A message. Those of one sender come in the order in which it sent them.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = PeerId;
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, kick: PeerId) {
    ///     if from == Origin::Handle {
    ///         cx.io.close(kick);
    ///     }
    /// }
    /// # }
    /// ```
    fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, message: Self::Message) {
        let _ = (cx, from, message);
    }

    /// There is room again for a peer to which a send was refused as [`crate::SendError::Full`], whichever bound was met.
    /// At most once for all refusals of a turn.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game { unsent: Vec<Vec<u8>> }
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
    ///     while let Some(news) = self.unsent.last()
    ///         && cx.io.send(peer, news).is_ok()
    ///     {
    ///         self.unsent.pop();
    ///     }
    /// }
    /// # }
    /// ```
    fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let _ = (cx, peer);
    }

    /// An address of a dialed peer ([`Context::dial`]) is tried: from now on it is the peer's, and what is sent
    /// here is the first thing that it gets. Each address is one call; a peer that was dialed by its address has
    /// one as well. Not called for peers that were opened or came by themselves.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = u32; type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
    /// #     Accept::Done
    /// # }
    /// fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, _remote: std::net::SocketAddr) {
    ///     if let Some(sequence) = cx.peers.get_mut(peer) {
    ///         *sequence = 0; // whoever is there knows nothing of what was said to another
    ///     }
    ///     let _ = cx.io.send(peer, b"hello");
    /// }
    /// # }
    /// ```
    fn on_attempt(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, remote: SocketAddr) {
        let _ = (cx, peer, remote);
    }

    /// Something went wrong with one peer. It stays open. A peer with a socket of its own
    /// ([`crate::Tier::Connected`]) is told what the network reports; one of the listener's only what a send
    /// of its own meets.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
    ///     if matches!(error, PeerError::Refused | PeerError::NotOpened { .. }) {
    ///         cx.io.close(peer);
    ///     }
    /// }
    /// # }
    /// ```
    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let _ = (cx, peer, error);
    }

    /// A group that [`crate::Io::join`] or [`crate::Io::leave`] asked for was not joined, or not left.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_group_error(&mut self, _: &mut Context<'_, Self>, _: Via, group: Membership, error: JoinError) {
    ///     eprintln!("{group}: {error}");
    /// }
    /// # }
    /// ```
    fn on_group_error(&mut self, cx: &mut Context<'_, Self>, via: Via, group: Membership, error: JoinError) {
        let _ = (cx, via, group, error);
    }

    /// A peer is gone; here is its state. Its id is stale already.
    ///
    /// A handler that took over from one that panicked hears of the other's peers here, as
    /// [`CloseReason::Restarted`], after its own [`Handler::on_start`]. Where peers are kept
    /// ([`Handler::AFTER_PANIC`]) it hears of the one over which a callback panicked, as [`CloseReason::Panicked`].
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game { saved: Vec<String> }
    /// # impl Handler for Game {
    /// # type Peer = String; type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<String> {
    /// #     Accept::Done
    /// # }
    /// fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, name: String, why: CloseReason) {
    ///     println!("{name} ({peer}) left: {why:?}");
    ///     self.saved.push(name);
    /// }
    /// # }
    /// ```
    fn on_closed(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, state: Self::Peer, why: CloseReason) {
        let _ = (cx, peer, state, why);
    }

    /// Before any other callback, on the shard's thread. There are no peers yet: those of a handler that
    /// panicked, from which this one takes over, come to [`Handler::on_closed`] right after. Only with
    /// [`AfterPanic::KeepPeers`] may there be peers, which [`Context::peers`] has.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_start(&mut self, cx: &mut Context<'_, Self>) {
    ///     let server = ([192, 0, 2, 1], 9000).into();
    ///     let Ok(socket) = cx.io.endpoint(Endpoint::towards(server)) else { return };
    ///     let _ = cx.open(Via::Endpoint(socket), server, ());
    /// }
    /// # }
    /// ```
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let _ = cx;
    }

    /// After each turn's datagrams, messages and timers, before what they queued leaves. It has the room that these left
    /// in the outbox, and they leave as much as it took at most in the last 16 turns.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # struct Game { news: Vec<u8> }
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
    ///     let news = std::mem::take(&mut self.news); // all that this turn brought
    ///     if let (false, Ok(news)) = (news.is_empty(), cx.io.share(&news)) {
    ///         for (peer, _state) in cx.peers.iter() {
    ///             let _ = cx.io.send_shared(peer, news);
    ///         }
    ///     }
    /// }
    /// # }
    /// ```
    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        let _ = cx;
    }

    /// The server drains: say what it takes. Whatever is decided, the shard ends at `deadline`. A handler
    /// that takes over during the drain is asked anew.
    ///
    /// ```
    /// # use shardgram_core::*;
    /// # use std::time::Instant;
    /// # struct Game;
    /// # impl Handler for Game {
    /// # type Peer = (); type Timer = (); type Message = ();
    /// # fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
    /// #     Accept::Peer(())
    /// # }
    /// fn on_drain(&mut self, cx: &mut Context<'_, Self>, _deadline: Instant) -> Drain {
    ///     for (peer, _state) in cx.peers.iter() {
    ///         let _ = cx.io.send(peer, b"going down: finish your game");
    ///     }
    ///     Drain::WhenPeersGone
    /// }
    /// # }
    /// ```
    fn on_drain(&mut self, cx: &mut Context<'_, Self>, deadline: Instant) -> Drain {
        let _ = (cx, deadline);
        Drain::WhenIdle
    }
}
