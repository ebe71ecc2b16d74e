//! The socket of a peer that cannot be turned away from it (connect(2), refused by a filter that came later) goes all the
//! same, though the peer sends more than the shard handles and its socket is never empty.

use std::net::UdpSocket;
use std::sync::mpsc::{self, TryRecvError};
use std::thread;
use std::time::Duration;

use crate::common::lab::{connected_to, loopback_of_both};
use crate::common::{Bed, seccomp};
use shardgram::{Accept, Context, Datagram, Handler, Origin, PeerId};

/// Takes longer over a datagram than its client.
struct Slow;

impl Handler for Slow {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Connect(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if datagram.starts_with(b"ask") {
            let len = datagram.len();
            cx.io.reply(datagram, len).expect("room for a reply");
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (): ()) {
        seccomp::refuse(libc::SYS_connect, libc::EPERM).expect("a filter on the shard's thread");
        let peers: Vec<_> = cx.peers.iter().map(|(peer, _)| peer).collect();
        peers.into_iter().for_each(|peer| cx.io.demote(peer));
    }
}

#[test]
fn its_place_is_free_in_the_end() {
    for config in loopback_of_both() {
        let Some(mut bed) = Bed::uring() else { return };
        let config = config.receive_buffers(8).receive_socket_bytes(16_384).trains(false);
        let server = bed.serve(config, |_| Slow);
        let at = bed.address(&server);
        let client = UdpSocket::bind((at.ip(), 0)).unwrap();
        client.connect(at).unwrap();
        client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let is_answered = || client.send(b"ask").is_ok() && client.recv(&mut [0; 8]).is_ok();
        bed.until("it is answered", |_| is_answered());
        bed.until("it has a socket of its own", |_| connected_to(at).len() == 1);
        let (go_on, until) = mpsc::channel::<()>();
        thread::scope(|scope| {
            let client = &client;
            let flood = move || {
                while until.try_recv() == Err(TryRecvError::Empty) {
                    client.send(b"flood").unwrap();
                    thread::sleep(Duration::from_micros(50));
                }
            };
            scope.spawn(flood);
            // Dropped, and the flood over, also if the test fails.
            let _go_on = go_on;
            bed.until("its socket is full", |bed| bed.stats(&server).kernel_dropped > 0);
            bed.tell(&server, 0, ());
            bed.until("its socket is gone", |_| connected_to(at).is_empty());
        });
        bed.until("the listener serves it", |_| is_answered());
        let stats = bed.drain(server);
        assert_eq!((stats.promoted, stats.demoted), (1, 1), "{stats:?}");
    }
}
