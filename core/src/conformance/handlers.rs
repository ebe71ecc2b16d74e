//! Handlers that several behaviours are shown with.

use crate::{Accept, Context, Datagram, Handler, PeerId};

/// Sends everything back, in place.
///
/// ```
/// use shardgram_core::conformance::{Bed, Echo, loopback};
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
