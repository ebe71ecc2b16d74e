//! The system gives each datagram to the shard that owns its flow, so that none has to be forwarded.
use super::handlers::Where;
use super::{Bed, Echo, both_families, pattern};

pub fn no_flow_has_to_be_forwarded<B: Bed>(mut bed: B) {
    let server = bed.serve(both_families().shards(4), |_| Where);
    for at in bed.addresses(&server) {
        for _ in 0..100 {
            let peer = bed.peer(at);
            bed.ask(&peer, at, b"?");
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.stateless, stats.forwarded_out), (200, 0));
}

/// A steering program looks at headers only, so however short a payload is, it reaches the shard that owns its
/// flow.
pub fn short_ones_are_steered_like_others<B: Bed>(mut bed: B) {
    let server = bed.serve(both_families().shards(3), |_| Echo);
    let mut sent = 0;
    for at in bed.addresses(&server) {
        for size in [0, 1, 2, 3, 65_000] {
            for _ in 0..30 {
                let peer = bed.peer(at);
                assert_eq!(bed.ask(&peer, at, &pattern(size)), pattern(size));
                sent += 1;
            }
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.forwarded_out), (sent, 0), "{stats:?}");
    assert_eq!((stats.restarts, stats.kernel_dropped, stats.send_failed()), (0, 0, 0), "{stats:?}");
}
