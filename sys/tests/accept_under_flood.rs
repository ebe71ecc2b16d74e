//! A flood of strangers who share the peers' addresses gets into no peer's socket.
#![cfg(target_os = "linux")]

mod support;

use std::collections::VecDeque;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use shardgram_sys::accept::connected;
use shardgram_sys::{AcceptMode, SocketOptions};
use support::accept::{all_drained, client, listen, loopbacks, side_group};

const ACCEPTS: u32 = 3000;
const CONNECTED: usize = 100;

fn flood(to: SocketAddr, sent: &AtomicU64, stop: &AtomicBool) {
    let sources: Vec<UdpSocket> = (0..16).map(|_| client(to).0).collect();
    for source in sources.iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        source.send_to(b"strange", to).expect("send");
        sent.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn no_stranger_gets_into_a_peers_socket() {
    if !side_group() {
        return;
    }
    let options = SocketOptions::default();
    for at in loopbacks() {
        let (local, listeners) = listen(at, 2, &options);
        let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| flood(local, &sent, &stop));
            let mut open = VecDeque::new();
            // Peers of the flood's own address that never send anything themselves.
            let (_silent, mut peer) = client(local);
            for round in 0..ACCEPTS {
                peer.set_port(1024 + (round % 30_000) as u16);
                let before = sent.load(Ordering::Relaxed);
                open.push_back(connected(AcceptMode::SideGroup, local, peer, &options).expect("accepted"));
                if round % 16 == 0 {
                    support::until("the flood goes on", || sent.load(Ordering::Relaxed) > before);
                }
                if open.len() > CONNECTED {
                    let oldest = open.pop_front().expect("one");
                    assert!(all_drained([&oldest]), "caught a stranger's datagram in round {round}");
                }
                while !all_drained(&listeners) {
                    for listener in &listeners {
                        listener.set_nonblocking(true).expect("non-blocking");
                        let _ = listener.recv(&mut [0; 16]);
                    }
                }
            }
            assert!(all_drained(&open), "caught a stranger's datagram");
            stop.store(true, Ordering::Relaxed);
        });
    }
}
