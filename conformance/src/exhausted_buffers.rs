//! A burst far beyond the receive buffers is served: each turn fills them all with replies, which leave in the next.
use super::table::Driver;
use super::{Bed, Echo, loopback};

/// The smallest number there may be.
const BUFFERS: u16 = 8;

pub fn a_burst_is_served<B: Bed>(mut bed: B) {
    const BURST: u32 = 2_000;
    // Every datagram is answered in place, so a turn's budget of them holds all buffers at once.
    let server = bed.serve(loopback().receive_buffers(BUFFERS).turn_budget(64), |_| Echo);
    let at = bed.address(&server);
    let peers: Vec<_> = (0..20).map(|_| bed.peer(at)).collect();
    for round in 0..5 {
        for n in 0..BURST {
            bed.send(&peers[n as usize % peers.len()], at, &(round * BURST + n).to_be_bytes());
        }
        for n in 0..BURST {
            let (_, bytes) = bed.receive(&peers[n as usize % peers.len()]);
            assert_eq!(bytes, (round * BURST + n).to_be_bytes(), "each in its order");
        }
    }
    let stats = bed.stats(&server);
    assert_eq!((stats.received, stats.kernel_dropped), (u64::from(5 * BURST), 0));
    // mio has buffers of its own, and more of them.
    if matches!(bed.platform().driver, Driver::Uring | Driver::Sim) {
        assert!(stats.buffers_exhausted > 0, "the test is of no use if the buffers suffice: {stats:?}");
        // A receive that was armed in vain would end with nothing, again and again.
        assert!(stats.buffers_exhausted <= stats.received, "each brought something: {stats:?}");
        assert!(stats.rearmed >= stats.buffers_exhausted);
    }
    bed.drain(server);
}
