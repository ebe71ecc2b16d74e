//! Datagrams of equal size that go to one peer in one turn leave as one, in order, and as what they were.
use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId};

use super::{Bed, Random, loopback, pattern, tiers, to_loopback};

/// Sends what a datagram lists: lengths, two bytes each, in one turn.
struct Lengths;

impl Handler for Lengths {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        for (number, len) in lengths(&datagram).enumerate() {
            cx.io.send(from, &numbered(number, len)).expect("room");
        }
    }
}

fn lengths(bytes: &[u8]) -> impl Iterator<Item = usize> + '_ {
    bytes.chunks_exact(2).map(|two| usize::from(u16::from_be_bytes([two[0], two[1]])))
}

fn asking_for(lengths: &[usize]) -> Vec<u8> {
    lengths.iter().flat_map(|len| (*len as u16).to_be_bytes()).collect()
}

fn numbered(number: usize, len: usize) -> Vec<u8> {
    let mut bytes = pattern(len);
    bytes.iter_mut().for_each(|byte| *byte = byte.wrapping_add(number as u8));
    bytes
}

/// On every address of loopback, so that replies say whence they leave, and on one.
fn places() -> [Config; 3] {
    ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"].map(|at| Config::new().listen(at.parse().unwrap()))
}

pub fn their_lengths_and_order_are_kept<B: Bed>(mut bed: B) {
    let mut random = Random::of(&bed);
    let mut pick = |below: usize| random.below(below);
    for (tier, place) in tiers(&bed).into_iter().flat_map(|tier| places().map(|place| (tier, place))) {
        let server = bed.serve(place.tier(tier), |_| Lengths);
        let at = to_loopback(bed.address(&server));
        let peer = bed.peer(at);
        // Made known, and connected in the tier where that happens.
        bed.send(&peer, at, &asking_for(&[1]));
        assert_eq!(bed.receive(&peer).1, numbered(0, 1));
        for _ in 0..50 {
            let kinds = [pick(4), 1 + pick(1_400), 1 + pick(1_400)];
            let all: Vec<usize> = (0..pick(100)).map(|_| kinds[pick(3)]).collect();
            bed.send(&peer, at, &asking_for(&all));
            for (number, len) in all.iter().enumerate() {
                assert_eq!(bed.receive(&peer).1, numbered(number, *len), "number {number} of {all:?}");
            }
        }
        let stats = bed.drain(server);
        assert!(stats.trains_sent > 100 && stats.trains_refused == 0, "{stats:?}");
        assert_eq!(stats.send_failed(), 0, "{stats:?}");
    }
}

/// A peer that receives trains as they come shows how they left.
pub fn they_leave_as_one<B: Bed>(mut bed: B) {
    for (tier, place) in tiers(&bed).into_iter().flat_map(|tier| places().map(|place| (tier, place))) {
        let server = bed.serve(place.tier(tier), |_| Lengths);
        let at = to_loopback(bed.address(&server));
        let peer = bed.observer(at.ip());
        bed.send(&peer, at, &asking_for(&[9]));
        bed.receive(&peer);
        let all = [vec![1_000; 64], vec![1_000; 2], vec![7], vec![8], vec![0], vec![8; 3], vec![5]].concat();
        bed.send(&peer, at, &asking_for(&all));
        let came: Vec<usize> = (0..5).map(|_| bed.receive(&peer).1.len()).collect();
        assert_eq!(came, [64_000, 2_007, 8, 0, 3 * 8 + 5]);
        let stats = bed.drain(server);
        assert_eq!((stats.trains_sent, stats.submitted), (3, 1 + all.len() as u64), "{stats:?}");
    }
}

pub fn they_can_be_turned_off<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback().trains(false), |_| Lengths);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, &asking_for(&[100; 20]));
    (0..20).for_each(|number| assert_eq!(bed.receive(&peer).1, numbered(number, 100)));
    assert_eq!(bed.drain(server).trains_sent, 0);
}
