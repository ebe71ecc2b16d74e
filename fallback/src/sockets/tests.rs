use std::net::UdpSocket;

use super::*;

fn listener() -> Listener {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    Listener::new(socket, &SocketOptions::default()).expect("taken over")
}

#[test]
fn a_socket_without_control_messages_receives_all_the_same() {
    let listener = listener();
    let to = listener.local_addr().expect("its address");
    let mut socket = Socket::new(listener, SocketId::listener(0)).expect("a socket");
    socket.state = None;
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bind");
    peer.send_to(b"one", to).expect("sent");
    let mut poll = mio::Poll::new().expect("poll");
    poll.registry().register(&mut socket.io, Token(0), Interest::READABLE).expect("watched");
    poll.poll(&mut mio::Events::with_capacity(1), None).expect("it comes");
    let (mut bytes, mut metas) = ([0; 2_000], [RecvMeta::default(); 2]);
    let mut receiver = Receiver::default();
    let mut receive = || {
        let result = socket.receive(&mut receiver, &mut [IoSliceMut::new(&mut bytes)], &mut metas);
        result.map(|batch| batch.count)
    };
    assert_eq!(receive().expect("one"), 1);
    assert_eq!(receive().expect_err("no more").kind(), io::ErrorKind::WouldBlock);
    let from = peer.local_addr().expect("its address");
    assert_eq!((metas[0].len, metas[0].stride, metas[0].addr, metas[0].dst_ip), (3, 3, from, None));
}

#[test]
fn sockets_take_turns_and_are_listed_once() {
    let poll = mio::Poll::new().expect("poll");
    let listeners = (0..3).map(|_| listener()).collect();
    let mut sockets = Sockets::new(poll.registry(), listeners).expect("sockets");
    for place in [2, 0, 2, 1] {
        sockets.readable(Token(place));
    }
    let mut order = Vec::new();
    for _ in 0..5 {
        let id = sockets.next_ready().expect("ready").id;
        sockets.put_back(id);
        order.push(id.as_listener().expect("listener"));
    }
    assert_eq!(order, [2, 0, 1, 2, 0]);
    let failed = sockets.next_ready().expect("ready").id;
    sockets.rest(failed);
    sockets.readable(Token(1));
    assert_eq!((sockets.ready.len(), sockets.any_resting()), (2, true), "readiness does not end a rest");
    sockets.end_rest();
    assert_eq!((sockets.ready.len(), sockets.any_resting()), (3, false));
}

#[test]
fn a_budget_that_ends_within_a_turn_shortens_no_turn() {
    let poll = mio::Poll::new().expect("poll");
    let listeners = (0..3).map(|_| listener()).collect();
    let mut sockets = Sockets::new(poll.registry(), listeners).expect("sockets");
    (0..3).for_each(|place| sockets.readable(Token(place)));
    sockets.begin(8);
    let mut had = [0; 3];
    for budget in (0..600).map(|at| [1, 7, 16, 20, 64][at % 5]) {
        let mut left: usize = budget;
        while left > 0 {
            let room = left.min(sockets.share());
            let id = sockets.next_ready().expect("ready").id;
            sockets.had(id, room);
            had[usize::from(id.as_listener().expect("listener"))] += room;
            left -= room;
        }
    }
    let (least, most) = (had.iter().min().expect("some"), had.iter().max().expect("some"));
    assert!(most - least <= 8, "{had:?}");
}

#[test]
fn a_duplicate_is_watched_for_room_only() {
    let mut poll = mio::Poll::new().expect("poll");
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    let receiver = Listener::for_all(socket, &SocketOptions::default()).expect("taken over");
    let to = receiver.local_addr().expect("its address");
    let duplicate = receiver.to_send_by().expect("a duplicate");
    let mut sockets = Sockets::new(poll.registry(), vec![duplicate]).expect("sockets");
    let id = SocketId::listener(0);
    let peer = UdpSocket::bind("127.0.0.1:0").expect("bind");
    peer.send_to(b"for the receiver", to).expect("sent");
    let mut events = mio::Events::with_capacity(4);
    let mut wait = |millis| {
        poll.poll(&mut events, Some(std::time::Duration::from_millis(millis))).expect("waits");
        let tokens: Vec<_> = events.iter().map(|event| (event.token(), event.is_writable())).collect();
        (tokens, poll.registry().try_clone().expect("registry"))
    };
    assert!(wait(20).0.is_empty(), "what arrives wakes nobody here");
    sockets.readable(Token(0));
    assert!(!sockets.any_ready());
    for _ in 0..2 {
        sockets.is_now_full(id);
        let registry = wait(0).1;
        sockets.watch_full(&registry);
        let (told, registry) = wait(10_000);
        assert_eq!(told, [(Token(0), true)], "there is room");
        sockets.writable(&registry, Token(0));
        assert!(!sockets.get(id).expect("it is open").is_full());
    }
    assert!(wait(20).0.is_empty());
}

#[test]
fn a_full_socket_that_cannot_be_watched_is_tried_after_a_rest() {
    let poll = mio::Poll::new().expect("poll");
    let mut sockets = Sockets::new(poll.registry(), vec![listener()]).expect("sockets");
    let id = SocketId::listener(0);
    // The system does not know it, and cannot change what it watches for (ENOENT in epoll_ctl(2)).
    let socket = sockets.places[0].as_mut().expect("it is open");
    poll.registry().deregister(&mut socket.io).expect("it was registered");
    for _ in 0..2 {
        sockets.is_now_full(id);
        sockets.watch_full(poll.registry());
        assert!(sockets.get(id).expect("it is open").is_full());
        assert!(sockets.any_resting(), "so the wait is bounded");
        sockets.end_rest();
        assert!(!sockets.get(id).expect("it is open").is_full() && !sockets.any_resting());
    }
}

#[test]
fn a_closed_endpoint_leaves_the_lists() {
    let poll = mio::Poll::new().expect("poll");
    let mut sockets = Sockets::new(poll.registry(), Vec::new()).expect("sockets");
    let (id, options) = (SocketId::endpoint(1, 0), SocketOptions::default());
    let endpoint = Endpoint::bound("127.0.0.1:0".parse().expect("address"));
    sockets.open(poll.registry(), id, &endpoint, &options).expect("open");
    sockets.put_back(id);
    sockets.close(poll.registry(), id);
    assert!(!sockets.any_ready());
    sockets.open(poll.registry(), id, &endpoint, &options).expect("its number is free at once");
    sockets.rest(id);
    sockets.close(poll.registry(), id);
    assert!(!sockets.any_resting());
}
