//! A socket taken out of service keeps what it has and gets nothing new, and no datagram is lost on the way.
#![cfg(target_os = "linux")]

mod support;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use shardgram_sys::accept::{connected, is_drained, refuse_all, retire};
use shardgram_sys::grace::GracePeriods;
use shardgram_sys::socket::drop_count;
use shardgram_sys::{AcceptMode, SocketOptions, accept_support, flow_shard};
use support::accept::{client, listen, loopbacks};

fn modes() -> Vec<AcceptMode> {
    match accept_support().mode {
        AcceptMode::SideGroup => vec![AcceptMode::SideGroup, AcceptMode::SameGroup],
        mode => vec![mode],
    }
}

#[test]
fn what_is_queued_stays_and_what_is_new_goes_to_the_listener() {
    let options = SocketOptions::default();
    for (mode, at) in modes().into_iter().flat_map(|mode| loopbacks().map(move |at| (mode, at))) {
        let (local, listeners) = listen(at, 2, &options);
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        assert!(is_drained(&socket).expect("poll"));
        for payload in [&b"first"[..], b"", b"last"] {
            peer.send_to(payload, local).expect("send");
        }
        support::until("they have arrived", || !is_drained(&socket).expect("poll"));
        retire(&socket).expect("retire");
        peer.send_to(b"new", local).expect("send");
        let listener = &listeners[usize::from(flow_shard(name, 2))];
        assert_eq!(support::receive(listener).expect("receive").payload, b"new");

        for payload in [&b"first"[..], b"", b"last"] {
            assert!(!is_drained(&socket).expect("poll"), "an empty datagram counts too");
            let received = support::receive(&socket).expect("receive");
            assert_eq!((&received.payload[..], received.source), (payload, name));
        }
        assert!(is_drained(&socket).expect("poll"));
        // Its place is free for the peer's next socket.
        let next = connected(mode, local, name, &options).expect("accepted again");
        peer.send_to(b"again", local).expect("send");
        assert_eq!(support::receive(&next).expect("receive").payload, b"again");
    }
}

#[test]
fn a_socket_that_refuses_all_keeps_what_it_has_and_counts_what_comes() {
    let options = SocketOptions::default();
    for (mode, at) in modes().into_iter().flat_map(|mode| loopbacks().map(move |at| (mode, at))) {
        let (local, _listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        let send = |payload: &[u8]| assert_eq!(peer.send_to(payload, local).expect("send"), payload.len());
        [&b"first"[..], b"", b"last"].into_iter().for_each(send);
        support::until("they have arrived", || !is_drained(&socket).expect("poll"));
        refuse_all(&socket).expect("a filter");
        (0..5).for_each(|_| send(b"new"));
        for payload in [&b"first"[..], b"", b"last"] {
            assert_eq!(support::receive(&socket).expect("receive").payload, payload);
        }
        support::until("the others are counted", || drop_count(&socket).expect("a count") == 5);
        assert!(is_drained(&socket).expect("poll"));
    }
}

#[test]
fn a_pending_error_is_no_datagram_and_stays() {
    let options = SocketOptions::default();
    for (mode, at) in modes().into_iter().flat_map(|mode| loopbacks().map(move |at| (mode, at))) {
        let (local, _listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        drop(peer);
        socket.send(b"is anybody there").expect("send");
        socket.set_nonblocking(true).expect("non-blocking");
        let mut error = io::ErrorKind::WouldBlock;
        support::until("the peer's host has refused it", || {
            assert!(is_drained(&socket).expect("poll"));
            error = socket.recv(&mut [0; 8]).expect_err("nothing comes").kind();
            error != io::ErrorKind::WouldBlock
        });
        assert_eq!(error, io::ErrorKind::ConnectionRefused);
    }
}

/// Rounds of accepting and retiring under load, for each mode and family.
const ROUNDS: u32 = 5_000;

#[test]
fn no_datagram_is_lost() {
    for (mode, at) in modes().into_iter().flat_map(|mode| loopbacks().map(move |at| (mode, at))) {
        let options = SocketOptions { receive_buffer: 4 << 20, ..SocketOptions::default() };
        let (local, listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        let (periods, mut retired) = (GracePeriods::start().expect("a thread"), VecDeque::new());
        let mut tally = Tally { listener: &listeners[0], received: 0, dropped: 0 };
        let sent = std::thread::scope(|scope| {
            // Dropped, and the load over, also where the test fails.
            let going = Arc::new(());
            let (peer, still) = (&peer, Arc::downgrade(&going));
            let sender = scope.spawn(move || send_while(peer, local, &still));
            for _ in 0..ROUNDS {
                let socket = connected(mode, local, name, &options).expect("accepted");
                tally.drain_for(&socket, Duration::from_micros(100));
                retire(&socket).expect("retire");
                tally.drain(&socket);
                retired.push_back((periods.ask(Instant::now()), socket));
                while let Some((grace, socket)) = retired.front()
                    && periods.is_over(*grace, Instant::now())
                {
                    tally.close(socket);
                    retired.pop_front();
                }
            }
            for (grace, socket) in &retired {
                while !periods.is_over(*grace, Instant::now()) {
                    tally.drain(tally.listener);
                }
                tally.close(socket);
            }
            drop(going);
            sender.join().expect("sender")
        });
        let accounted =
            |tally: &Tally<'_>| tally.received + tally.dropped + drop_count(tally.listener).expect("drops");
        support::until("all have arrived", || {
            tally.drain(tally.listener);
            accounted(&tally) >= sent
        });
        assert_eq!(accounted(&tally), sent, "{mode} {local}");
        assert!(sent > u64::from(ROUNDS), "there was load: {sent}");
    }
}

fn send_while(peer: &UdpSocket, to: SocketAddr, going: &Weak<()>) -> u64 {
    let mut sent = 0;
    while going.strong_count() > 0 {
        peer.send_to(b"one of many", to).expect("send");
        sent += 1;
    }
    sent
}

struct Tally<'a> {
    listener: &'a UdpSocket,
    received: u64,
    dropped: u64,
}

impl Tally<'_> {
    fn drain(&mut self, socket: &UdpSocket) {
        socket.set_nonblocking(true).expect("non-blocking");
        while socket.recv(&mut [0; 32]).is_ok() {
            self.received += 1;
        }
    }

    /// What a socket holds that is given nothing any more.
    fn close(&mut self, socket: &UdpSocket) {
        self.drain(socket);
        self.dropped += drop_count(socket).expect("drops");
    }

    /// Receives from `socket` and the listener for `time`.
    fn drain_for(&mut self, socket: &UdpSocket, time: Duration) {
        let start = Instant::now();
        for each in [socket, self.listener] {
            each.set_nonblocking(true).expect("non-blocking");
        }
        while start.elapsed() < time {
            for each in [socket, self.listener] {
                self.received += u64::from(each.recv(&mut [0; 32]).is_ok());
            }
        }
    }
}
