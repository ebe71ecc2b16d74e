//! What anybody may send to a port: nothing of it ends a server, all of it is counted, and others are served.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};

use crate::common::raw::{self, Udp};
use crate::common::{Bed, Peer, Served, loopback, pattern};
use shardgram::Config;
use shardgram_conformance::Echo;

fn both_families() -> Config {
    loopback().listen("[::1]:0".parse().unwrap())
}

/// A peer of each listener that goes on being served.
struct Witnesses(Vec<(SocketAddr, Peer)>, u64);

impl Witnesses {
    fn new(bed: &mut Bed, server: &Served<()>) -> Self {
        Self(bed.addresses(server).into_iter().map(|at| (at, bed.peer(at))).collect(), 0)
    }

    fn are_served(&mut self, bed: &mut Bed) {
        for (at, peer) in &self.0 {
            assert_eq!(bed.ask(peer, *at, &self.1.to_be_bytes()), self.1.to_be_bytes());
            self.1 += 1;
        }
    }
}

/// Drains the server, of whose datagrams so many others were received and so many dropped by the kernel.
fn account(bed: &mut Bed, server: Served<()>, witnesses: &Witnesses, received: u64, dropped: u64) {
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.kernel_dropped), (witnesses.1 + received, dropped), "{stats:?}");
    assert_eq!((stats.restarts, stats.send_failed()), (0, 0), "{stats:?}");
}

/// Sends what UDP sockets would not to each listener, while witnesses are served.
fn forged_datagrams(mut bed: Bed) {
    const EACH: u64 = 20;
    if !raw::allowed() {
        return;
    }
    let server = bed.serve(both_families(), |_| Echo);
    let mut witnesses = Witnesses::new(&mut bed, &server);
    let good = Udp::from_port(9);
    for _ in 0..EACH {
        for at in bed.addresses(&server) {
            // Nobody can be answered at port 0; dropped and counted before any decision.
            Udp::from_port(0).send(at, b"from nowhere");
            Udp::from_port(0).send(at, b"");
            // A wrong checksum: that of a short datagram is looked at before it comes to a socket, that of a
            // longer one when it is received, so that it counts as the socket's loss.
            Udp { spoilt: true, ..good }.send(at, b"spoilt");
            Udp { spoilt: true, ..good }.send(at, &pattern(1000));
            // Longer than it is, or than its own header: not UDP, and gone before it comes to a socket.
            Udp { len: Some(100), ..good }.send(at, b"cut on the way");
            Udp { len: Some(7), ..good }.send(at, b"");
            witnesses.are_served(&mut bed);
        }
    }
    let each = 2 * EACH;
    bed.until("all of it is counted", |bed| {
        let stats = bed.stats(&server);
        stats.dropped_port_zero == 2 * each && stats.kernel_dropped == each
    });
    account(&mut bed, server, &witnesses, 2 * each, each);
}

/// The errors made up here are believed by the kernel: a connected socket hears of them.
fn errors_are_believed(at: SocketAddr) {
    let client = UdpSocket::bind(SocketAddr::new(at.ip(), 0)).unwrap();
    client.connect(at).unwrap();
    let (kind, code) = if at.is_ipv4() { (3, 3) } else { (1, 4) };
    raw::icmp_error(kind, code, client.local_addr().unwrap(), at);
    assert_eq!(client.recv(&mut [0]).unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

/// ICMP errors by type and code (RFC 792): net, host, protocol and port unreachable, forbidden; source quench; time
/// exceeded; parameter problem.
const ICMP: [(u8, u8); 9] = [(3, 0), (3, 1), (3, 2), (3, 3), (3, 13), (4, 0), (11, 0), (11, 1), (12, 0)];
/// The same of ICMPv6 (RFC 4443): no route, forbidden, address and port unreachable; time exceeded; parameter problem.
const ICMP_V6: [(u8, u8); 8] = [(1, 0), (1, 1), (1, 3), (1, 4), (3, 0), (3, 1), (4, 0), (4, 1)];

/// Errors about datagrams the server never sent, as anybody may make up who knows its port, and about some that
/// it did.
fn made_up_icmp_errors(mut bed: Bed) {
    const EACH: u16 = 20;
    if !raw::allowed() {
        return;
    }
    let server = bed.serve(both_families(), |_| Echo);
    let mut witnesses = Witnesses::new(&mut bed, &server);
    bed.addresses(&server).into_iter().for_each(errors_are_believed);
    let gone_from = SocketAddr::from(([127, 66, 66, 1], 0));
    for n in 0..EACH {
        for (at, friend) in &witnesses.0 {
            // Nobody has the one address; the other is the documentation's (RFC 3849).
            let (errors, nobody, too_big) = if at.is_ipv4() {
                (&ICMP[..], SocketAddr::from(([127, 66, 66, 66], 6_000 + n)), (3, 4))
            } else {
                (&ICMP_V6[..], format!("[2001:db8::66]:{}", 6_000 + n).parse().unwrap(), (2, 0))
            };
            raw::icmp_error(too_big.0, too_big.1, *at, nobody);
            for (kind, code) in errors {
                raw::icmp_error(*kind, *code, *at, nobody);
                // What is made up about a peer that is there does not cut it off.
                raw::icmp_error(*kind, *code, *at, friend.address());
            }
        }
        // And a true one: the answer to a peer that is gone, from an address where nobody takes the port over.
        let gone = UdpSocket::bind(gone_from).unwrap();
        gone.send_to(b"bye", bed.address(&server)).unwrap();
        drop(gone);
        witnesses.are_served(&mut bed);
    }
    let gone = u64::from(EACH);
    bed.until("all are received", |bed| bed.stats(&server).received == witnesses.1 + gone);
    account(&mut bed, server, &witnesses, gone, 0);
}

on_real_drivers!(forged_datagrams, made_up_icmp_errors);
