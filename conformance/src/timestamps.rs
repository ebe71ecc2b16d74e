//! Where it is asked for, each datagram says when the system received it: by listeners, in each tier, and in trains.
use std::net::SocketAddr;
use std::time::Duration;

use super::places::{Place, places};
use super::witness::{Witness, heard};
use super::{Bed, Sending, tiers};
use shardgram_core::{Config, TierPolicy};

/// A clock that is set meanwhile may go back a little.
const SLACK: Duration = Duration::from_millis(5);

/// Singles and trains have a time between that before they were sent and the one after they came.
fn expect<B: Bed>(bed: &mut B, witness: &Witness<B>, client: &B::Peer, to: SocketAddr, told: bool) {
    for (segment, bytes, count) in [(None, &b"alone"[..], 1), (Some(2), b"aabbc", 3)] {
        let before = bed.system_time();
        bed.send_as(client, to, Sending { segment, ..Sending::of(bytes) });
        for _ in 0..count {
            let time = heard(bed, witness).meta.kernel_time;
            assert_eq!(time.is_some(), told, "{to}");
            let (time, after) = (time.unwrap_or(before), bed.system_time());
            assert!(
                time + SLACK >= before && time <= after + SLACK,
                "{time:?} not in {before:?} to {after:?}"
            );
        }
    }
}

pub fn as_asked_for<B: Bed>(mut bed: B) {
    for (ecn, told) in [(false, false), (false, true), (true, true)] {
        let config = Config::new().receive_timestamps(told).ecn(ecn);
        let config = places().iter().fold(config, |config, place| config.listen(place.listen));
        let witness = Witness::serve(&mut bed, config);
        for (at, Place { ip, .. }) in bed.addresses(&witness.server).into_iter().zip(places()) {
            let client = bed.observer(ip);
            expect(&mut bed, &witness, &client, SocketAddr::new(ip, at.port()), told);
        }
        bed.drain(witness.server);
    }
}

pub fn in_each_tier<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        for Place { listen, ip } in &places()[..2] {
            for told in [false, true] {
                let config = Config::new().receive_timestamps(told).tier(tier).listen(*listen);
                let witness = Witness::serve(&mut bed, config);
                let (client, to) = (bed.observer(*ip), bed.address(&witness.server));
                witness.acquaint(&mut bed, &client, to, tier == TierPolicy::Connected);
                expect(&mut bed, &witness, &client, to, told);
                bed.drain(witness.server);
            }
        }
    }
}
