//! A flood on one listener leaves the others theirs, however small the budget of a turn is.
use super::{Bed, Echo};
use shardgram_core::Config;

const LISTENERS: usize = 8;

pub fn a_flood_on_one_listener_leaves_the_others_theirs<B: Bed>(mut bed: B) {
    let config = (0..LISTENERS)
        .fold(Config::new().turn_budget(1), |config, _| config.listen("127.0.0.1:0".parse().unwrap()));
    let server = bed.serve(config, |_| Echo);
    let addresses = bed.addresses(&server);
    let (flood, client) = (bed.peer(addresses[0]), bed.peer(addresses[0]));
    let mut received = 0;
    for round in 0..20_u32 {
        for &at in &addresses[1..] {
            // Much more than a turn handles waits there when the one datagram comes.
            for _ in 0..50 {
                bed.send(&flood, addresses[0], b"flood");
            }
            assert_eq!(bed.ask(&client, at, &round.to_be_bytes()), round.to_be_bytes());
            received += 51;
        }
    }
    let stats = bed.drain(server);
    assert_eq!(stats.received + stats.kernel_dropped, received, "{stats:?}");
}
