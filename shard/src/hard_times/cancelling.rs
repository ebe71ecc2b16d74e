//! What is armed on a socket that is closed, and cannot be cancelled at once.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::Instant;

use shardgram_core::Config;
use shardgram_sys::{Lease, ListenerSocket, SocketOptions};
use socket2::SockRef;

use super::{Bed, CLOSE, OPEN, PATIENCE, send};
use crate::addresses;
use crate::arrived::Arrived;
use crate::exchange::Exchange;
use crate::faults;
use crate::places::Places;
use crate::retiring::Retiring;
use crate::sockets::Sockets;
use crate::wake::Fleet;
use crate::wakeups::Wakeups;

#[test]
fn an_endpoint_whose_receive_cannot_be_cancelled_at_once_gives_its_port_back() {
    for errno in [libc::ETIME, libc::EPERM, libc::EINTR] {
        let Some(mut bed) = Bed::new(false) else { return };
        let port = {
            let free = UdpSocket::bind("127.0.0.1:0").expect("a port");
            free.local_addr().expect("its address").port()
        };
        let is_free = || UdpSocket::bind(("127.0.0.1", port)).is_ok();
        let [high, low] = port.to_be_bytes();
        send(&bed.clients[0], &[OPEN, high, low]);
        bed.until("it is open", |_| !is_free());
        // Its receive is armed with the next turn.
        bed.turn();
        faults::plan_cancels([errno; 20]);
        // Those that follow may miss it, too.
        faults::plan_misses(3);
        send(&bed.clients[0], &[CLOSE]);
        let end = Instant::now() + PATIENCE;
        while !is_free() {
            assert!(Instant::now() < end, "its port is free");
            // The kernel may close it later than it says that the receive has ended, and nothing wakes a shard for that.
            send(&bed.clients[0], &[CLOSE]);
            bed.turn();
        }
        bed.buffers_go_round();
        faults::no_more_cancels();
        bed.add_up();
    }
}

/// The watch for room in its send buffer keeps it, and until that is over nothing else is bound there.
#[test]
fn a_listener_of_an_address_whose_watch_cannot_be_cancelled_keeps_its_lease() {
    let Ok(probed) = crate::probe() else { return };
    for fixed in [false, probed.fixed_files] {
        let (mut rings, _) = crate::prepare(&Config::new()).expect("rings");
        let engine = rings.remove(0).enable().expect("enabled");
        let places = Places { listeners: 0, addresses: 1, connected: 0, endpoints: 0 };
        let mut sockets =
            Sockets::new(&engine.ring, places, SocketOptions::default(), fixed, false).expect("a table");
        let fleet = Fleet::new(1, false).expect("events");
        let mut retiring = Retiring::new(fleet.clone());
        let mut exchange = Exchange::new(engine, Arrived::new(1, places.own()), Wakeups::new(0, fleet));

        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let at = socket.local_addr().expect("its address");
        let (tell, ended) = channel();
        let lease = Some(Lease::new(move || tell.send(()).unwrap_or(())));
        // What waits for more of its datagram fills the send buffer.
        let only = SockRef::from(&socket);
        only.set_send_buffer_size(0).expect("the least there is");
        let corked = only.send_to_with_flags(&[0; 4_000], &at.into(), libc::MSG_MORE);
        assert_eq!(corked.expect("it waits"), 4_000);
        let listener =
            ListenerSocket { listen: 0, local: Some(at), steered: true, socket, lease, usage: None };
        addresses::listen(&mut sockets, &exchange.engine.ring, listener).expect("a place");
        sockets.is_now_full(&mut exchange.engine, 0);
        exchange.submit_all(&mut sockets).expect("submitted");
        assert!(sockets.get(0).expect("it is there").credit.blocked, "there is no room");

        faults::plan_cancels([libc::EPERM; 20]);
        faults::plan_misses(3);
        retiring.close(&mut sockets, &mut exchange, 0);
        faults::no_more_cancels();
        let error = UdpSocket::bind(at).expect_err("the watch keeps it");
        assert_eq!((error.kind(), ended.try_recv()), (ErrorKind::AddrInUse, Err(TryRecvError::Empty)));
        let end = Instant::now() + PATIENCE;
        while let Err(TryRecvError::Empty) = ended.try_recv() {
            assert!(Instant::now() < end, "it ends");
            assert!(sockets.deadline().is_some(), "a shard does not sleep meanwhile");
            sockets.catch_up(&mut exchange.engine);
            exchange.submit_all(&mut sockets).expect("submitted");
        }
        UdpSocket::bind(at).expect("its port is free");
        sockets.catch_up(&mut exchange.engine);
        assert_eq!(sockets.deadline(), None);
    }
}
