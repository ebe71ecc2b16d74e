//! Addresses to which the host has no route are passed over at once, also where the better part of a name's are such.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::caller::{Call, HELLO};
use crate::common::{Bed, PATIENCE};
use shardgram::{AttemptFault, Config, Dial, PeerError};

/// So long is not waited for.
const LONG: Duration = Duration::from_secs(60);

fn addresses_without_a_route_are_passed_over(bed: Bed) {
    // TEST-NET-1 and the prefix of documentation (RFC 5737, RFC 3849): this namespace has loopback and nothing else.
    let [four, six]: [IpAddr; 2] = ["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()];
    let friend = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).unwrap();
    friend.set_read_timeout(Some(PATIENCE)).unwrap();
    let here = friend.local_addr().unwrap();
    let at = |ip| SocketAddr::new(ip, here.port());
    let begin = Instant::now();
    let mut call = Call::start(bed, Config::new());
    call.name("game.test", &[six, four, here.ip()]);
    let peer = call.dial(Dial::to("game.test", here.port()).unwrap().try_for(LONG));
    for remote in [at(six), at(four), here] {
        call.tries(peer, remote);
    }
    let mut bytes = [0; 16];
    let (len, from) = friend.recv_from(&mut bytes).expect("it is greeted");
    assert_eq!(&bytes[..len], HELLO);
    friend.send_to(b"welcome", from).unwrap();
    call.hears(peer, b"welcome");
    // Once one has answered, what befalls the peer is its handler's to hear; until then it is the next one's turn.
    call.name("game.test", &[four]);
    call.run(0, move |cx| cx.io.redial(peer)).unwrap();
    call.tries(peer, at(four));
    call.meets(peer, PeerError::NoAnswer { addresses: 1, last: AttemptFault::Unreachable });
    call.run(0, move |cx| cx.io.send(peer, b"once more")).unwrap();
    call.meets(peer, PeerError::Unreachable);
    assert!(begin.elapsed() < LONG);
    let stats = call.drain();
    assert_eq!((stats.attempts, stats.attempts_failed, stats.send_failed_unreachable), (4, 3, 4));
}

in_namespaces!(addresses_without_a_route_are_passed_over);
