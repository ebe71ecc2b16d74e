//! Datagrams without a payload are datagrams: each is received, answered and counted, in its place among the
//! others of its peer. With io_uring each ends the receive that brought it, which is armed again.

use std::net::SocketAddr;

use super::table::Driver;
use super::{Bed, Echo, both_families};

/// What a peer sends as its nth datagram: nothing, some of the time in a row, or its number.
fn payload(n: u32) -> Vec<u8> {
    if n % 7 < 4 { Vec::new() } else { n.to_be_bytes().to_vec() }
}

/// Peers of both families, with the address each writes to.
fn peers<B: Bed>(bed: &mut B, addresses: &[SocketAddr], each: usize) -> Vec<(SocketAddr, B::Peer)> {
    let all = (0..each).flat_map(|_| addresses.to_vec());
    all.map(|at| (at, bed.peer(at))).collect()
}

pub fn they_are_answered_in_their_order<B: Bed>(mut bed: B) {
    const PEERS: usize = 25;
    const EACH: u32 = 40;
    const ROUNDS: u32 = 5;
    for config in [both_families(), both_families().receive_buffers(8)] {
        let server = bed.serve(config, |_| Echo);
        let addresses = bed.addresses(&server);
        let peers = peers(&mut bed, &addresses, PEERS);
        for round in 0..ROUNDS {
            // One after another, so that those of many peers stand in the queue by turns.
            for n in round * EACH..(round + 1) * EACH {
                peers.iter().for_each(|(at, peer)| bed.send(peer, *at, &payload(n)));
            }
            for (at, peer) in &peers {
                for n in round * EACH..(round + 1) * EACH {
                    assert_eq!(bed.receive(peer), (*at, payload(n)), "the datagram {n}");
                }
            }
        }
        let stats = bed.stats(&server);
        let sent = 2 * PEERS as u64 * u64::from(ROUNDS * EACH);
        assert_eq!((stats.received, stats.delivered, stats.kernel_dropped), (sent, sent, 0));
        let bytes = (0..ROUNDS * EACH).map(|n| payload(n).len() as u64).sum::<u64>() * 2 * PEERS as u64;
        assert_eq!(stats.received_bytes, bytes);
        if bed.platform().driver == Driver::Uring {
            let empty = (0..ROUNDS * EACH).filter(|n| payload(*n).is_empty()).count() * 2 * PEERS;
            assert!(stats.rearmed >= empty as u64, "each ends a receive: {stats:?}");
        }
        let stats = bed.drain(server);
        assert_eq!(stats.sent(), sent);
    }
}

pub fn nothing_but_empty_ones_is_served_too<B: Bed>(mut bed: B) {
    // The answers of a burst fit into the peer's own buffer.
    const BURST: u32 = 100;
    const BURSTS: u32 = 20;
    let server = bed.serve(both_families(), |_| Echo);
    let addresses = bed.addresses(&server);
    for at in &addresses {
        let peer = bed.peer(*at);
        for _ in 0..BURSTS {
            (0..BURST).for_each(|_| bed.send(&peer, *at, b""));
            for _ in 0..BURST {
                assert_eq!(bed.receive(&peer), (*at, Vec::new()));
            }
        }
        assert_eq!(bed.ask(&peer, *at, b"after them"), b"after them");
    }
    let stats = bed.drain(server);
    let sent = 2 * u64::from(BURSTS * BURST + 1);
    assert_eq!((stats.received, stats.sent(), stats.kernel_dropped), (sent, sent, 0));
}
