use super::*;
use crate::peers::states::Peers;

fn train(peer: PeerId, via: SocketId, len: u32) -> Train {
    let path = Path {
        local: ([10, 0, 0, 1], 9).into(),
        remote: ([10, 0, 0, 2], 1).into(),
        socket: SocketId::listener(0),
    };
    Train::single(Some(peer), path, via, len)
}

fn bed(peers: usize) -> (Backlog, Vec<PeerId>) {
    let mut table = Peers::new(0, peers);
    (Backlog::new(10_000, 1_000), (0..peers).map(|_| table.insert(()).expect("room")).collect())
}

fn put(backlog: &mut Backlog, peer: PeerId, via: SocketId, byte: u8) -> bool {
    backlog.defer(&train(peer, via, 10), [&[byte; 10][..]].into_iter())
}

#[test]
fn peers_take_turns_and_each_keeps_its_order() {
    let (mut backlog, peers) = bed(2);
    let socket = SocketId::listener(0);
    for (peer, byte) in [(0, 1), (0, 2), (1, 3), (0, 4)] {
        assert!(put(&mut backlog, peers[peer], socket, byte));
    }
    let mut order = Vec::new();
    while let Some(front) = backlog.front(socket) {
        order.push(front.bytes[0]);
        backlog.advance(socket);
    }
    assert_eq!(order, [1, 3, 2, 4]);
    assert!(backlog.is_empty());
    assert_eq!((backlog.cost, backlog.datagrams()), (0, 0));
}

/// What leaves in one flush, of a backlog all of whose sockets have room, but `full`.
fn flushed(backlog: &mut Backlog, full: Option<SocketId>) -> Vec<SocketId> {
    let mut left = Vec::new();
    let flushed = backlog.flush(|backlog, socket| {
        let waits = backlog.front(socket).is_some() && Some(socket) != full;
        left.extend(waits.then_some(socket));
        Ok::<_, ()>(if waits { Late::Gone } else { Late::NoRoom })
    });
    assert_eq!(flushed, Ok(!left.is_empty()));
    left
}

#[test]
fn sockets_take_turns_over_flushes_too() {
    const SOCKETS: usize = 3;
    let sockets = [SocketId::listener(0), SocketId::endpoint(4, 0), SocketId::connected(9)];
    let mut table = Peers::new(0, SOCKETS);
    let peers = sockets.map(|_| table.insert(()).expect("room"));
    let mut backlog = Backlog::new(1 << 20, 1 << 20);
    let mut left = [0; SOCKETS];
    for turn in 1..=10 {
        // As much as leaves in a turn comes to each: one of them alone would take all of it.
        for (peer, socket) in peers.iter().zip(sockets) {
            (0..LATE_PER_TURN).for_each(|_| assert!(put(&mut backlog, *peer, socket, 0)));
        }
        let gone = flushed(&mut backlog, None);
        assert_eq!(gone.len(), LATE_PER_TURN);
        for socket in gone {
            left[sockets.iter().position(|at| *at == socket).expect("one of them")] += 1;
        }
        let (most, least) = (left.iter().max(), left.iter().min());
        assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 1), "turn {turn}: {left:?}");
    }
}

#[test]
fn more_sockets_than_leave_in_a_turn_have_theirs_in_the_next() {
    let peers = 2 * LATE_PER_TURN + 10;
    let mut table = Peers::new(0, peers);
    let mut backlog = Backlog::new(1 << 20, 1 << 20);
    for at in 0..peers {
        let peer = table.insert(()).expect("room");
        let socket = SocketId::connected(at as u32);
        assert!(put(&mut backlog, peer, socket, 1) && put(&mut backlog, peer, socket, 2));
    }
    let mut left = Vec::new();
    for _ in 0..3 {
        left.extend(flushed(&mut backlog, None));
    }
    left.truncate(peers);
    left.sort_unstable();
    left.dedup();
    assert_eq!(left.len(), peers, "each before any has its second");
}

#[test]
fn a_full_socket_holds_up_itself() {
    let (mut backlog, peers) = bed(2);
    let (full, roomy) = (SocketId::listener(0), SocketId::listener(1));
    for byte in 0..3 {
        assert!(put(&mut backlog, peers[0], full, byte) && put(&mut backlog, peers[1], roomy, byte));
    }
    assert_eq!(flushed(&mut backlog, Some(full)), [roomy; 3]);
    assert_eq!(flushed(&mut backlog, Some(full)), []);
    assert_eq!((flushed(&mut backlog, None), backlog.is_empty()), (vec![full; 3], true));
}

#[test]
fn where_nothing_can_be_sent_none_loses_its_turn() {
    let (mut backlog, peers) = bed(2);
    let sockets = [SocketId::listener(0), SocketId::listener(1)];
    for (peer, socket) in peers.iter().zip(sockets) {
        assert!(put(&mut backlog, *peer, socket, 1));
    }
    let mut asked = Vec::new();
    for _ in 0..2 {
        let flushed = backlog.flush(|_, socket| {
            asked.push(socket);
            Ok::<_, ()>(Late::NotNow)
        });
        assert_eq!(flushed, Ok(false));
    }
    assert_eq!(asked, [sockets[0]; 2]);
    assert_eq!(backlog.flush(|_, _| Err("broken")), Err("broken"));
}

#[test]
fn a_train_that_is_split_keeps_its_place_and_what_it_costs() {
    let (mut backlog, peers) = bed(1);
    let socket = SocketId::listener(0);
    let mut long = train(peers[0], socket, 10);
    (long.segment, long.datagrams, long.ecn) = (4, 3, Ecn::Ect1);
    assert!(backlog.defer(&long, [&b"aaaabbbbcc"[..]].into_iter()));
    assert!(put(&mut backlog, peers[0], socket, b'd'));
    backlog.split(socket);
    assert_eq!((backlog.datagrams(), backlog.cost), (4, 20 + 4 * OVERHEAD));
    let mut left = Vec::new();
    while let Some(front) = backlog.front(socket) {
        left.push((front.bytes.clone(), front.ecn));
        backlog.advance(socket);
    }
    let marked = [&b"aaaa"[..], b"bbbb", b"cc"].map(|bytes| (bytes.to_vec(), Ecn::Ect1));
    assert_eq!(left[..3], marked);
    assert_eq!(left[3..], [(b"dddddddddd".to_vec(), Ecn::NotEct)]);
    assert_eq!((backlog.datagrams(), backlog.cost), (0, 0));
}

/// Sends as a handler does: what will have to wait is refused beyond the bounds.
fn send(backlog: &mut Backlog, peer: PeerId, via: SocketId) -> bool {
    let taken = !backlog.must_wait(peer, via) || backlog.bound_for(peer, 10).is_none();
    if taken && backlog.must_wait(peer, via) {
        backlog.expect(peer, 10);
    }
    taken
}

#[test]
fn what_was_taken_within_the_bounds_is_not_lost() {
    let (mut backlog, peers) = bed(20);
    let socket = SocketId::listener(0);
    let each = 1_000 / (10 + OVERHEAD);
    assert!(put(&mut backlog, peers[0], socket, 0), "the socket is found full");
    let taken: Vec<PeerId> = peers
        .iter()
        .flat_map(|peer| (0..each + 5).map(move |_| *peer))
        .filter(|peer| send(&mut backlog, *peer, socket))
        .collect();
    let of = |peer: PeerId| taken.iter().filter(|taken| **taken == peer).count();
    assert_eq!((of(peers[0]), of(peers[1])), (each - 1, each), "each has its bound");
    assert_eq!(taken.len() + 1, 10_000 / (10 + OVERHEAD), "and the shard has one");
    let bounds = [0, 19].map(|peer| backlog.bound_for(peers[peer], 10));
    assert_eq!(bounds, [Some(Bound::PeerQueue), Some(Bound::Backlog)]);
    assert!(!put(&mut backlog, peers[19], socket, 0), "what is expected has its place");
    assert!(taken.iter().all(|peer| put(&mut backlog, *peer, socket, 0)));
    backlog.expect_no_more();
    assert!(!put(&mut backlog, peers[19], socket, 0), "the shard's bound is kept");
    assert_eq!(backlog.drop_socket(socket), taken.len() as u64 + 1);
    assert!(backlog.is_empty());
    assert_eq!((backlog.cost, backlog.expected_cost), (0, 0));
}

#[test]
fn what_was_queued_before_a_socket_was_found_full_may_exceed_the_bound_of_a_peer() {
    let (mut backlog, peers) = bed(1);
    let socket = SocketId::listener(0);
    let taken = (0..200).filter(|_| put(&mut backlog, peers[0], socket, 0)).count();
    assert_eq!(taken, 10_000 / (10 + OVERHEAD));
    assert_eq!(backlog.bound_for(peers[0], 0), Some(Bound::PeerQueue));
    assert!(!backlog.is_half_empty(peers[0]));
    while !backlog.is_half_empty(peers[0]) {
        backlog.advance(socket);
    }
    assert_eq!(backlog.datagrams(), (1_000 / (10 + OVERHEAD) / 2) as u64);
    assert_eq!(backlog.bound_for(peers[0], 0), None);
}

#[test]
fn what_is_expected_and_does_not_come_is_forgotten() {
    let (mut backlog, peers) = bed(2);
    let socket = SocketId::listener(0);
    assert!(put(&mut backlog, peers[0], socket, 0));
    assert!(backlog.must_wait(peers[1], socket), "another peer's datagram is before it");
    assert!(!backlog.must_wait(peers[1], SocketId::connected(1)));
    while send(&mut backlog, peers[1], socket) {}
    backlog.expect_no_more();
    assert_eq!(backlog.bound_for(peers[1], 10), None);
    assert_eq!(backlog.clear(), 1);
    assert!(!backlog.must_wait(peers[1], socket));
}

#[test]
fn a_closed_socket_takes_along_what_stands_behind_too() {
    let (mut backlog, peers) = bed(2);
    let (listener, endpoint) = (SocketId::listener(0), SocketId::endpoint(3, 0));
    for (peer, via, byte) in [(0, listener, 1), (0, endpoint, 2), (0, listener, 3), (1, endpoint, 4)] {
        assert!(put(&mut backlog, peers[peer], via, byte));
    }
    assert_eq!(backlog.drop_socket(endpoint), 2);
    assert_eq!((backlog.sockets(), backlog.datagrams()), (vec![listener], 2));
    assert!(!backlog.holds(peers[1]));
    let mut left = Vec::new();
    while let Some(front) = backlog.front(listener) {
        left.push(front.bytes[0]);
        backlog.advance(listener);
    }
    assert_eq!(left, [1, 3]);
    assert!(backlog.is_empty());
    assert_eq!(backlog.cost, 0);
}

#[test]
fn a_socket_that_goes_leaves_its_queue_to_the_listener() {
    let (mut backlog, peers) = bed(2);
    let own = SocketId::connected(7);
    assert!(put(&mut backlog, peers[0], own, 1) && put(&mut backlog, peers[0], own, 2));
    let other = SocketId::connected(8);
    assert!(put(&mut backlog, peers[1], other, 3) && put(&mut backlog, peers[1], own, 4));
    backlog.reroute(peers[0], own);
    backlog.reroute(peers[1], own);
    assert_eq!(backlog.front(other).map(|w| w.bytes[0]), Some(3));
    assert_eq!(backlog.front(SocketId::listener(0)).map(|w| w.bytes[0]), Some(1));
    backlog.advance(other);
    assert_eq!(backlog.sockets(), [SocketId::listener(0)], "what stood behind goes there too");
    assert_eq!(backlog.drop_socket(SocketId::listener(0)), 3);
    assert!(backlog.is_empty());
}
