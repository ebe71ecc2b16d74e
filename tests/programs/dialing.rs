//! Dialing where it takes a network of one's own: addresses to which there is no route are passed over at once, and a
//! scope says by which interface a link-local address is meant.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use crate::common::caller::{Call, HELLO};
use crate::common::namespace::{Host, await_link, ip, run};
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

fn a_scope_may_be_an_index_or_a_name(bed: Bed) {
    let host = Host::new();
    host.cable("v0", "far");
    host.run("ip addr add fe80::2/64 dev far nodad");
    host.run("ip link set far up");
    ip("addr add fe80::1/64 dev v0 nodad");
    ip("link set v0 up");
    await_link(run, "v0");
    let index: u32 = run("ip -o link show v0").split(':').next().unwrap().parse().unwrap();
    let far: u32 = host.run("ip -o link show far").split(':').next().unwrap().parse().unwrap();
    let friend = host.inside(move || {
        let at = SocketAddrV6::new("fe80::2".parse().unwrap(), 7_000, 0, far);
        let socket = UdpSocket::bind(at).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    });
    let there = SocketAddrV6::new("fe80::2".parse().unwrap(), 7_000, 0, index).into();
    // The name of an interface is for the system to look up, its index needs nobody.
    let mut call = Call::start_with_the_systems_names(bed, Config::new());
    for (text, lookups) in [(format!("[fe80::2%{index}]:7000"), 0), ("[fe80::2%v0]:7000".to_owned(), 1)] {
        let peer = call.dial(text.parse::<Dial>().unwrap().try_for(LONG));
        call.tries(peer, there);
        let mut bytes = [0; 16];
        let (len, from) = friend.recv_from(&mut bytes).expect("it is greeted");
        assert_eq!(&bytes[..len], HELLO);
        friend.send_to(b"welcome", from).unwrap();
        assert_eq!(call.hears(peer, b"welcome").remote, there);
        assert_eq!(call.stats().lookups, lookups);
    }
    assert_eq!(call.drain().dropped_foreign, 0);
}

in_namespaces!(addresses_without_a_route_are_passed_over, a_scope_may_be_an_index_or_a_name);
