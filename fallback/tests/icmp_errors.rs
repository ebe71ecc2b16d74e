//! ICMP errors that surface at a socket end nothing and make nothing spin.
//!
//! The kernel tells them on connected sockets only, so the shard's listener is connected to a port where
//! nobody listens, and later somebody does.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;

use shardgram_core::{PeerError, Via};
use support::{Bound, Seen, client, config, until};

#[test]
fn a_refusal_is_survived() {
    let listener = UdpSocket::bind("127.0.0.1:0").expect("listener");
    let gone = client("127.0.0.1:0");
    let remote = gone.local_addr().expect("address");
    listener.connect(remote).expect("connect");
    drop(gone);
    let shards = Bound::with(config(&[]), vec![listener]).start(true);
    let local = shards.address();

    // Each send draws a refusal. It surfaces at the receive that its readiness asks for, or at the next
    // send, which is then tried again.
    shards.run(0, move |_, cx| {
        let peer = cx.open(Via::Listener(local), remote, ()).expect("peer");
        for _ in 0..50 {
            cx.io.send(peer, b"anyone?").expect("queued");
        }
    });
    until("all are sent", || shards.snapshot().submitted == 50);
    // Only a refusal that comes between the two attempts is told, and no more than one a send.
    for seen in shards.seen.try_iter() {
        assert_eq!(seen, Seen::Error(PeerError::Refused));
    }
    let counters = shards.snapshot();
    assert!(counters.send_failed() < 25, "{counters:?}");
    assert_eq!(counters.send_failed(), counters.send_failed_refused);
    let before = shards.snapshot().turns;
    std::thread::sleep(std::time::Duration::from_millis(200));
    let turns = shards.snapshot().turns - before;
    assert!(turns <= 3, "{turns} turns while nothing happened");

    let back = UdpSocket::bind(remote).expect("the port is free");
    back.set_read_timeout(Some(support::PATIENCE)).expect("timeout");
    back.send_to(b"here", local).expect("send");
    assert_eq!(support::receive(&back), (b"here".to_vec(), local));
    shards.stop();
}
