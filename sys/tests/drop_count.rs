//! Received and dropped datagrams add up to those sent.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;

use shardgram_sys::socket::drop_count;
use shardgram_sys::{ListenerGroup, SocketOptions};

const SENT: u64 = 1000;

#[test]
fn received_and_dropped_make_all() {
    let options = SocketOptions { receive_buffer: 4096, ..SocketOptions::default() };
    let mut group = ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 1, &options).expect("group");
    let server = group.take_sockets().remove(0);
    server.set_nonblocking(true).expect("non-blocking");
    assert_eq!(drop_count(&server).expect("drop count"), 0);

    let client = UdpSocket::bind("127.0.0.1:0").expect("client");
    for _ in 0..SENT {
        client.send_to(&[7; 100], group.local_addr()).expect("send");
    }

    // Loopback may still hold some when the last send returns, so this waits for the sum and then
    // looks that it does not grow.
    let (mut received, mut dropped) = (0, 0);
    support::until("all datagrams are accounted for", || {
        while server.recv_from(&mut [0; 128]).is_ok() {
            received += 1;
        }
        dropped = drop_count(&server).expect("drop count");
        received + dropped >= SENT
    });
    assert_eq!(received + dropped, SENT, "{received} received, {dropped} dropped");
    assert!(dropped > SENT / 2, "a buffer this small drops most: {dropped}");
    assert!(received > 0);
    assert_eq!(drop_count(&server).expect("drop count"), dropped, "reading does not clear it");
}
