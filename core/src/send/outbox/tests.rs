use super::*;
use crate::peers::routes::Routes;
use crate::peers::standing::Standing;
use crate::peers::states::Peers;
use crate::types::datagram::RxSlice;
use crate::types::datagram::SocketId;

fn path(port: u16) -> Path {
    Path {
        local: ([10, 0, 0, 1], 9).into(),
        remote: ([10, 0, 0, 2], port).into(),
        socket: SocketId::listener(0),
    }
}

struct Bed {
    routes: Routes,
    outbox: Outbox,
    peers: Vec<PeerId>,
}

fn bed(limits: TrainLimits) -> Bed {
    let (mut table, mut routes) = (Peers::new(0, 4), Routes::new(0, 4, 0, 1, (1, 2)));
    let peers = (0..2)
        .map(|i| {
            let peer = table.insert(()).expect("room");
            assert!(routes.insert(peer, path(i), 0, Standing::New));
            peer
        })
        .collect();
    Bed { routes, outbox: Outbox::new(1 << 20, 64, limits), peers }
}

impl Bed {
    fn send(&mut self, peer: usize, bytes: &[u8]) {
        let (id, path) = (self.peers[peer], path(peer as u16));
        let source = self.outbox.copy(bytes).expect("room");
        let route = self.routes.get_mut(id).expect("open");
        self.outbox.push(id, route, &path, source).expect("room");
    }

    fn trains(&self) -> Vec<(u16, Vec<Vec<u8>>)> {
        let outbox = &self.outbox;
        outbox
            .trains()
            .iter()
            .map(|t| {
                let joined: Vec<u8> = outbox
                    .sources(t)
                    .flat_map(|s| match s {
                        Source::Outbox { start, len } => outbox.bytes(start, len).to_vec(),
                        Source::Buffer(_) => unreachable!("nothing was received"),
                    })
                    .collect();
                assert_eq!(joined.len(), t.bytes as usize);
                let parts = joined.chunks(t.segment.max(1) as usize).map(<[u8]>::to_vec).collect();
                (t.path.remote.port(), parts)
            })
            .collect()
    }
}

const LONG: TrainLimits = TrainLimits { datagrams: 64, bytes: 65_000 };

#[test]
fn equal_datagrams_to_one_peer_make_a_train_even_when_peers_interleave() {
    let mut bed = bed(LONG);
    for text in ["aa", "bb", "c"] {
        bed.send(0, text.as_bytes());
        bed.send(1, text.as_bytes());
    }
    bed.send(0, b"dd");
    let want = |parts: &[&str]| parts.iter().map(|p| p.as_bytes().to_vec()).collect::<Vec<_>>();
    assert_eq!(
        bed.trains(),
        [(0, want(&["aa", "bb", "c"])), (1, want(&["aa", "bb", "c"])), (0, want(&["dd"]))],
        "the shorter one ends its train"
    );
    assert_eq!(bed.outbox.datagrams(), 7);
}

#[test]
fn longer_and_empty_datagrams_begin_a_train() {
    let mut bed = bed(LONG);
    for text in ["a", "bb", "", "cc"] {
        bed.send(0, text.as_bytes());
    }
    assert_eq!(bed.outbox.trains().len(), 4);
}

#[test]
fn limits_cut_trains() {
    let mut bed = bed(TrainLimits { datagrams: 2, bytes: 1 << 16 });
    (0..5).for_each(|_| bed.send(0, b"xy"));
    assert_eq!(bed.outbox.trains().iter().map(|t| t.datagrams).collect::<Vec<_>>(), [2, 2, 1]);
    let mut bed = self::bed(TrainLimits::SINGLE);
    (0..3).for_each(|_| bed.send(0, b"xy"));
    assert_eq!(bed.outbox.trains().len(), 3);
}

#[test]
fn datagrams_of_different_marks_share_no_train() {
    let mut bed = bed(LONG);
    for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect0, Ecn::Ce, Ecn::Ect0, Ecn::Ect0] {
        bed.routes.get_mut(bed.peers[0]).expect("open").ecn = ecn;
        bed.send(0, b"xy");
        bed.send(1, b"z");
    }
    let trains = bed.outbox.trains().iter().map(|t| (t.path.remote.port(), t.ecn, t.datagrams));
    assert_eq!(
        trains.collect::<Vec<_>>(),
        [(0, Ecn::NotEct, 1), (1, Ecn::NotEct, 6), (0, Ecn::Ect0, 2), (0, Ecn::Ce, 1), (0, Ecn::Ect0, 2)]
    );
}

#[test]
fn what_lies_side_by_side_is_one_piece() {
    let mut bed = bed(LONG);
    (0..3).for_each(|_| bed.send(0, b"xy"));
    bed.send(1, b"z");
    bed.send(0, b"xy");
    let outbox = &bed.outbox;
    let lengths: Vec<u32> = outbox.sources(&outbox.trains()[0]).map(|source| source.len()).collect();
    assert_eq!(lengths, [6, 2]);
    assert_eq!((outbox.datagrams(), outbox.long_trains()), (5, 1));
    let received = |start| Source::Buffer(RxSlice { buffer: 3, start, len: 2 });
    let route = bed.routes.get_mut(bed.peers[1]).expect("open");
    bed.outbox.clear();
    for start in [10, 12, 14, 18] {
        bed.outbox.push(bed.peers[1], route, &path(1), received(start)).expect("room");
    }
    assert_eq!(bed.outbox.take_kept(), 2, "each piece is to be released");
}

#[test]
fn a_path_that_refused_a_train_gets_none_so_long() {
    let mut bed = bed(LONG);
    let send = |bed: &mut Bed, len: usize| {
        bed.outbox.clear();
        (0..3).for_each(|_| bed.send(0, &vec![7; len]));
        bed.outbox.trains().iter().map(|train| (train.datagrams, train.untried)).collect::<Vec<_>>()
    };
    let peer = bed.peers[0];
    assert_eq!(send(&mut bed, 2_000), [(3, true)]);
    assert_eq!(send(&mut bed, 2_000), [(3, false)]);
    bed.routes.get_mut(peer).expect("open").train_refused(2_000, 1);
    let singles = [(1, true); 3];
    assert_eq!(send(&mut bed, 2_000), singles);
    assert_eq!(send(&mut bed, 1_999), [(3, true)], "that has to be tried as well");
    bed.routes.get_mut(peer).expect("open").train_refused(1_000, 1);
    assert_eq!(send(&mut bed, 10), singles, "it was not for their length");
    bed.outbox.turn_begins(600_000);
    assert_eq!(send(&mut bed, 10), singles, "ten minutes are not over");
    bed.outbox.turn_begins(600_001);
    assert_eq!(send(&mut bed, 2_000)[0].0, 3, "it is tried again");
}

#[test]
fn a_new_turn_begins_new_trains() {
    let mut bed = bed(LONG);
    bed.send(0, b"a");
    bed.outbox.clear();
    bed.send(0, b"b");
    assert_eq!(bed.trains(), [(0, vec![b"b".to_vec()])]);
}

#[test]
fn a_queued_datagram_costs_at_most_160_bytes() {
    assert!(size_of::<Train>() + size_of::<Piece>() <= 160);
}

#[test]
fn both_bounds_are_kept() {
    let mut outbox = Outbox::new(4, 1, LONG);
    assert_eq!(outbox.copy(b"12345"), Err(SendError::Full(Bound::OutboxBytes)));
    assert_eq!(outbox.reserve(5), Err(SendError::Full(Bound::OutboxBytes)));
    let source = outbox.copy(b"1234").expect("room");
    assert_eq!(outbox.push_stateless(path(1), source), Ok(()));
    let full = Err(SendError::Full(Bound::OutboxDatagrams));
    assert_eq!(outbox.push_stateless(path(1), source), full);
    assert_eq!(outbox.room(), full);
}
