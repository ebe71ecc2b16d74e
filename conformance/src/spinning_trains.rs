//! A shard that always spins receives trains as one, and cuts datagrams that are too long.
use super::{Bed, Echo, Sending, loopback, pattern};
use shardgram_core::WaitPolicy;

pub fn trains_and_long_datagrams<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().wait(WaitPolicy::Spin).max_datagram(2_000), |_| Echo);
    let at = bed.address(&server);
    let peer = bed.observer(at.ip());
    bed.send_as(&peer, at, Sending { segment: Some(1_000), ..Sending::of(&pattern(9_500)) });
    assert_eq!(bed.receive(&peer).1, pattern(9_500));
    assert_eq!(bed.ask(&peer, at, &pattern(3_000)), pattern(2_000));
    let stats = bed.drain(server);
    assert_eq!((stats.trains_received, stats.trains_sent, stats.truncated), (1, 1, 1), "{stats:?}");
}
