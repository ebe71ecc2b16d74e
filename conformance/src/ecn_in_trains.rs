//! Of a train each datagram says how it was marked, whether the train comes as one or not.
use std::net::SocketAddr;

use super::ecn_in::MARKS;
use super::places::{Place, places};
use super::witness::{Witness, heard};
use super::{Bed, DSCP, Sending, tiers};
use shardgram_core::{Config, TierPolicy};

/// Sends trains with each mark, with a DSCP and without.
fn expect<B: Bed>(bed: &mut B, witness: &Witness<B>, client: &B::Peer, to: SocketAddr) {
    for dscp in [0, DSCP] {
        for ecn in MARKS {
            bed.send_as(client, to, Sending { ecn, dscp, segment: Some(2), bytes: b"aabbc" });
            for part in [&b"aa"[..], b"bb", b"c"] {
                let heard = heard(bed, witness);
                assert_eq!((heard.meta.ecn, &heard.bytes[..]), (ecn, part), "{to} {dscp:#x} {ecn:?}");
            }
        }
    }
}

fn everywhere<B: Bed>(mut bed: B, config: Config) {
    for tier in tiers(&bed) {
        for Place { listen, ip } in places() {
            let witness = Witness::serve(&mut bed, config.clone().ecn(true).tier(tier).listen(listen));
            let to = SocketAddr::new(ip, bed.address(&witness.server).port());
            let client = bed.observer(ip);
            witness.acquaint(&mut bed, &client, to, tier == TierPolicy::Connected);
            expect(&mut bed, &witness, &client, to);
            bed.drain(witness.server);
        }
    }
}

pub fn each_says_so<B: Bed>(bed: B) {
    everywhere(bed, Config::new());
}

pub fn without_trains_too<B: Bed>(bed: B) {
    everywhere(bed, Config::new().trains(false));
}
