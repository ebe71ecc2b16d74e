//! What is sent is copied as seldom as can be: a reply not at all, what many get once.
use super::{Bed, Echo, loopback, pattern};
use shardgram_core::{Accept, Context, Datagram, Handler, PeerId};

fn numbered(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = pattern(len);
    bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(number as u8));
    bytes
}

/// Replies leave from where they were received, one by one and in trains.
pub fn replies_are_not_copied<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Echo);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for len in [0, 1, 100, 1_400, 4_000] {
        (0..20).for_each(|number| bed.send(&peer, at, &numbered(number, len)));
        (0..20).for_each(|number| assert_eq!(bed.receive(&peer).1, numbered(number, len)));
    }
    let stats = bed.drain(server);
    assert_eq!((stats.copied_bytes, stats.submitted), (0, 100), "{stats:?}");
}

/// Sends what comes to all its peers.
struct FanOut;

impl Handler for FanOut {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let news = cx.io.share(&datagram).expect("room");
        for (peer, ()) in cx.peers.iter() {
            cx.io.send_shared(peer, news).expect("room");
        }
    }
}

pub fn what_many_get_is_copied_once<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| FanOut);
    let at = bed.address(&server);
    let peers: Vec<B::Peer> = (0..10).map(|_| bed.peer(at)).collect();
    for (already, peer) in peers.iter().enumerate() {
        bed.send(peer, at, b"hello");
        peers[..=already].iter().for_each(|peer| assert_eq!(bed.receive(peer).1, b"hello"));
    }
    bed.send(&peers[3], at, &pattern(1_200));
    peers.iter().for_each(|peer| assert_eq!(bed.receive(peer).1, pattern(1_200)));
    let stats = bed.drain(server);
    assert_eq!((stats.copied_bytes, stats.submitted), (10 * 5 + 1_200, 55 + 10), "{stats:?}");
}
