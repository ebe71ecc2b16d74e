//! Handlers that several behaviours are shown with.

use std::net::SocketAddr;

use shardgram_core::{Accept, Context, Datagram, Ecn, Endpoint, Handler, Origin, PeerId, Via};

/// Sends everything back, in place.
///
/// ```
/// use shardgram_conformance::{Bed, Echo, loopback};
/// fn serve<B: Bed>(bed: &mut B) -> B::Server<()> { bed.serve(loopback(), |_| Echo) }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Echo;

impl Handler for Echo {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}

/// The first byte of what it is sent says what to do: `m` sends a datagram for each further byte, marked so, `r` marks
/// the peer with the next byte and replies, `s` sends a datagram, `c` closes the peer. A stranger's `?` is answered
/// without a peer.
///
/// A message has it open a peer at an address, over an endpoint, with the mark ECT(1), and greet it. Each datagram has
/// [`Marks::LEN`] bytes.
#[derive(Clone, Copy, Debug)]
pub struct Marks;

impl Marks {
    /// Bytes of each datagram that is sent.
    pub const LEN: usize = 100;
}

impl Handler for Marks {
    type Peer = ();
    type Timer = ();
    type Message = SocketAddr;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if first.starts_with(b"?") {
            cx.io.answer(first.path(), &[7; Self::LEN]).unwrap();
            return Accept::Reply(first.len());
        }
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, to: SocketAddr) {
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).unwrap();
        cx.io.set_ecn(peer, Ecn::Ect1);
        cx.io.send(peer, b"hello").unwrap();
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        match datagram[..] {
            [b'm', ref marks @ ..] => {
                for (number, mark) in (0..).zip(marks) {
                    cx.io.set_ecn(from, Ecn::from_bits(*mark));
                    cx.io.send(from, &[number; Self::LEN]).unwrap();
                }
            }
            [b'r', mark, ..] => {
                cx.io.set_ecn(from, Ecn::from_bits(mark));
                let len = datagram.len();
                cx.io.reply(datagram, len).unwrap();
            }
            [b's'] => cx.io.send(from, &[0; Self::LEN]).unwrap(),
            [b'c'] => cx.io.close(from),
            _ => {}
        }
    }
}

/// Answers with the number of its shard.
pub(super) struct Where;

impl Handler for Where {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let shard = cx.io.shard().to_be_bytes();
        cx.io.answer(first.path(), &shard).unwrap();
        Accept::Done
    }
}
