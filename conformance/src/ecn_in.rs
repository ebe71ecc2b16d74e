//! Where it is asked for, each datagram says how it was marked: by listeners and endpoints, in each tier.
use std::net::SocketAddr;

use super::places::{Place, places};
use super::witness::{Witness, heard};
use super::{Bed, DSCP, Sending, tiers};
use shardgram_core::{Config, Ecn, Tier, TierPolicy};

pub(super) const MARKS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

/// Sends with each mark, with a DSCP and without.
fn expect<B: Bed>(
    bed: &mut B,
    witness: &Witness<B>,
    client: &B::Peer,
    to: SocketAddr,
    (tier, told): (Tier, bool),
) {
    for dscp in [0, DSCP] {
        for ecn in MARKS {
            bed.send_as(client, to, Sending { ecn, dscp, ..Sending::of(b"alone") });
            let expected = if told { ecn } else { Ecn::NotEct };
            let heard = heard(bed, witness);
            let case = format!("{to} {tier:?} {dscp:#x} {ecn:?}");
            assert_eq!(
                (heard.meta.ecn, heard.tier, &heard.bytes[..]),
                (expected, Some(tier), &b"alone"[..]),
                "{case}"
            );
        }
    }
}

pub fn at_a_listener<B: Bed>(mut bed: B) {
    let config = places().iter().fold(Config::new().ecn(true), |config, place| config.listen(place.listen));
    let witness = Witness::serve(&mut bed, config);
    for (at, place) in bed.addresses(&witness.server).into_iter().zip(places()) {
        let (client, to) = (bed.observer(place.ip), SocketAddr::new(place.ip, at.port()));
        expect(&mut bed, &witness, &client, to, (Tier::Listener, true));
    }
    bed.drain(witness.server);
}

pub fn at_an_endpoint<B: Bed>(mut bed: B) {
    let witness = Witness::serve(&mut bed, Config::new().ecn(true));
    for Place { ip, .. } in &places()[..2] {
        let friend = bed.observer(*ip);
        let to = bed.address_of(&friend);
        bed.tell(&witness.server, 0, to);
        let endpoint = bed.next(&friend).from;
        expect(&mut bed, &witness, &friend, endpoint, (Tier::Listener, true));
    }
    bed.drain(witness.server);
}

pub fn only_where_it_is_asked_for<B: Bed>(mut bed: B) {
    for tier in tiers(&bed) {
        for told in [true, false] {
            for Place { listen, ip } in &places()[..2] {
                let config = Config::new().ecn(told).tier(tier).listen(*listen);
                let witness = Witness::serve(&mut bed, config);
                let (client, to) = (bed.observer(*ip), bed.address(&witness.server));
                let tier = witness.acquaint(&mut bed, &client, to, tier == TierPolicy::Connected);
                expect(&mut bed, &witness, &client, to, (tier, told));
                bed.drain(witness.server);
            }
        }
    }
}
