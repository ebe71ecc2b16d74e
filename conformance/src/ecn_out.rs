//! What is sent to a peer is marked as its handler says, from then on and nothing before, in each tier.
use std::net::SocketAddr;

use super::handlers::Marks;
use super::places::{Place, places};
use super::{Bed, Sending, tiers};
use shardgram_core::{Capability, Config, Ecn, TierPolicy};

/// Does something with a client of a server, for each address and in each tier.
fn everywhere<B: Bed>(mut bed: B, check: impl Fn(&mut B, &B::Peer, SocketAddr)) {
    for tier in tiers(&bed) {
        let config =
            places().iter().fold(Config::new().tier(tier), |config, place| config.listen(place.listen));
        // Those of a wildcard have listeners of their own, unless there are to be none.
        for config in [config.clone(), config.max_local_addresses(0)] {
            let server = bed.serve(config, |_| Marks);
            for (promoted, (at, Place { ip, .. })) in
                (1..).zip(bed.addresses(&server).into_iter().zip(places()))
            {
                let (client, to) = (bed.observer(ip), SocketAddr::new(ip, at.port()));
                bed.send(&client, to, b"m\0");
                assert_eq!(bed.next(&client).ecn, Some(Ecn::NotEct), "{to} {tier}");
                let own = tier == TierPolicy::Connected && bed.stats(&server).promotions_refused == 0;
                if own && promoted <= 2 {
                    bed.until("it is connected", |bed| bed.stats(&server).promoted == promoted);
                }
                check(&mut bed, &client, to);
            }
            let stats = bed.drain(server);
            assert_eq!(stats.send_failed(), 0, "{stats:?}");
        }
    }
}

/// Asks for datagrams with these marks, in one turn, and wants them in order, each in a train of its like where there
/// are trains.
fn expect<B: Bed>(bed: &mut B, client: &B::Peer, to: SocketAddr, marks: &[u8]) {
    let trains = bed.expected(Capability::TrainsOut).reason().is_none();
    bed.send(client, to, &[b"m", marks].concat());
    let mut number = 0;
    for run in marks.chunk_by(|a, b| trains && a == b) {
        let came = bed.next(client);
        let bytes: Vec<u8> = (number..).take(run.len()).flat_map(|number: u8| [number; Marks::LEN]).collect();
        number += run.len() as u8;
        assert_eq!(came.ecn, Some(Ecn::from_bits(run[0])), "{marks:?}: {run:?} to {to}");
        assert_eq!(came.segment, (run.len() > 1).then_some(Marks::LEN), "{marks:?}: {run:?} to {to}");
        assert_eq!(came.bytes, bytes, "{marks:?} to {to}");
    }
}

/// Marks that change in a turn and from one to the next.
pub fn each_datagram_has_its_mark<B: Bed>(bed: B) {
    everywhere(bed, |bed, client, to| {
        for mark in [0, 1, 2, 3, 0, 2] {
            expect(bed, client, to, &[mark]);
            expect(bed, client, to, &[mark; 5]);
        }
        for marks in [
            &[2, 2, 2, 3, 3, 0, 0, 2][..],
            &[2, 2, 2, 2],
            &[0, 0, 1, 1, 1, 0],
            &[1, 2, 3, 0, 1, 2, 3, 0],
            &[3; 64],
            &[0; 64],
        ] {
            expect(bed, client, to, marks);
        }
        for mark in [3, 1, 0] {
            bed.send(client, to, &[b'r', mark]);
            let came = bed.next(client);
            assert_eq!((came.ecn, &came.bytes[..]), (Some(Ecn::from_bits(mark)), &[b'r', mark][..]));
        }
    });
}

pub fn stateless_answers_have_none<B: Bed>(bed: B) {
    everywhere(bed, |bed, client, to| {
        expect(bed, client, to, &[3, 3]);
        let stranger = bed.observer(to.ip());
        bed.send_as(&stranger, to, Sending { ecn: Ecn::Ce, ..Sending::of(b"?") });
        for len in [Marks::LEN, 1] {
            let answer = bed.next(&stranger);
            assert_eq!((answer.ecn, answer.bytes.len()), (Some(Ecn::NotEct), len));
        }
    });
}

pub fn a_mark_lasts_as_long_as_its_peer<B: Bed>(mut bed: B) {
    let server = bed.serve(Config::new().listen(places()[0].listen).max_peers(1), |_| Marks);
    let at = bed.address(&server);
    let client = bed.observer(at.ip());
    for _ in 0..3 {
        for (order, mark) in [(&b"s"[..], 0), (b"m\x03", 3), (b"s", 3), (b"s", 3)] {
            bed.send(&client, at, order);
            assert_eq!(bed.next(&client).ecn, Some(Ecn::from_bits(mark)), "{order:?}");
        }
        bed.send(&client, at, b"c");
        bed.until("it is closed", |bed| bed.stats(&server).peers() == 0);
    }
    bed.drain(server);
}

pub fn by_an_endpoint<B: Bed>(mut bed: B) {
    let server = bed.serve(Config::new(), |_| Marks);
    for Place { ip, .. } in &places()[..2] {
        let friend = bed.observer(*ip);
        let to = bed.address_of(&friend);
        bed.tell(&server, 0, to);
        let hello = bed.next(&friend);
        assert_eq!((hello.ecn, &hello.bytes[..]), (Some(Ecn::Ect1), &b"hello"[..]));
    }
    bed.drain(server);
}
