//! A shard that runs out of receive buffers goes on receiving: what the kernel kept is received, what it
//! dropped is counted, and the order within a peer holds.

use crate::common::handlers::Echo;
use crate::common::{Bed, loopback};
use shardgram::{Backend, Config};

const BURST: u32 = 2_000;

fn few_buffers() -> Config {
    // Every datagram is answered in place, so a turn's budget of them holds all buffers at once.
    loopback().receive_buffers(8).turn_budget(64)
}

fn a_burst_far_beyond_the_buffers_is_served(mut bed: Bed) {
    let server = bed.serve(few_buffers(), |_| Echo);
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
    if let Bed::Real(Backend::Uring) = bed {
        assert!(stats.buffers_exhausted > 0, "the test is of no use if the buffers suffice: {stats:?}");
    }
    bed.drain(server);
}

fn an_empty_datagram_does_not_end_the_receiving(mut bed: Bed) {
    let server = bed.serve(few_buffers(), |_| Echo);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for _ in 0..100 {
        for bytes in [&b""[..], b"after", b"", b""] {
            bed.send(&peer, at, bytes);
        }
        for bytes in [&b""[..], b"after", b"", b""] {
            assert_eq!(bed.receive(&peer).1, bytes);
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.sent()), (400, 400));
}

on_real_drivers!(a_burst_far_beyond_the_buffers_is_served, an_empty_datagram_does_not_end_the_receiving);
