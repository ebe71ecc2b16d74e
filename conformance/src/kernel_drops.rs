//! What the system drops because a receive buffer is full is counted, and the rest is answered.
use super::{Bed, Echo, loopback};

pub fn all_is_received_or_counted<B: Bed>(mut bed: B) {
    // The smallest buffer the kernel grants holds a few datagrams; the rest of a burst is dropped there.
    let config = loopback().receive_socket_bytes(4096);
    let server = bed.serve(config, |_| Echo);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    const SENT: u64 = 50_000;
    for _ in 0..SENT {
        bed.send(&peer, at, &[0; 1000]);
    }
    bed.until("all of it is accounted for", |bed| {
        let stats = bed.stats(&server);
        assert!(stats.received + stats.kernel_dropped <= SENT, "nothing is counted twice: {stats:?}");
        stats.received + stats.kernel_dropped == SENT
    });
    let stats = bed.drain(server);
    assert_eq!(stats.received + stats.kernel_dropped, SENT);
    assert!(stats.kernel_dropped > 0, "the test is of no use if nothing is dropped");
    assert_eq!((stats.delivered, stats.submitted), (stats.received, stats.queued), "{stats:?}");
    assert_eq!(stats.sent() + stats.send_failed(), stats.received, "what was received was answered");
}
