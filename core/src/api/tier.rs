//! In which way a peer is served.

/// In which way the datagrams of a peer come and go.
///
/// ```
/// use shardgram_core::{Handler, Io, PeerId, Tier};
/// fn describe<H: Handler>(io: &Io<H>, peer: PeerId) -> &'static str {
///     match io.tier(peer) {
///         Some(Tier::Connected) => "a socket of its own",
///         Some(Tier::Listener) => "the listener's",
///         None => "gone",
///     }
/// }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Tier {
    /// By the listener, which it shares. It costs nothing in the kernel.
    Listener,
    /// By a socket of its own: its flood fills only its own queue, and errors of the network reach
    /// [`crate::Handler::on_peer_error`].
    Connected,
}
