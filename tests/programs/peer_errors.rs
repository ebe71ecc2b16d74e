//! What the network says of one peer with a socket of its own reaches the handler, and touches nothing else.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::common::namespace::{Host, await_link, run};
use crate::common::source::{Client, Order, Seen, Source, slow_cable};
use crate::common::talker::{BOTH, Friend, Heard, Say, next, on_loopback, serve, sleeps};
use crate::common::{Bed, PATIENCE, Served};
use shardgram::{Config, PeerError, TierPolicy};

fn a_peer_that_comes_and_goes_is_refused_and_received(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let mut friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let address = friend.address();
        for round in 0..300 {
            drop(friend);
            // The first of them is refused; the next may be kept back by that.
            bed.tell(&server, 0, Say::Now { count: 1 + round % 4, len: 9 });
            assert_eq!(next(&heard, address), PeerError::Refused);
            friend = Friend { socket: UdpSocket::bind(address).unwrap(), at };
            friend.socket.send_to(&round.to_be_bytes(), at).unwrap();
            // One that was still on its way may come first.
            friend.socket.set_read_timeout(Some(PATIENCE)).unwrap();
            while friend.socket.recv(&mut [0; 16]).expect("an answer") == 9 {}
            while let Ok((peer, error)) = heard.try_recv() {
                assert_eq!((peer, error), (address, PeerError::Refused));
            }
        }
        sleeps(&mut bed, &server);
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.delivered, stats.demoted), (302, 302, 1), "{stats:?}");
        assert!(stats.peer_errors >= 300, "{stats:?}");
        assert_eq!(stats.send_failed(), stats.send_failed_refused, "{stats:?}");
    }
}

/// This host, a router, and a host behind it.
pub struct Routed {
    pub router: Host,
    pub far: Host,
}

pub const HERE: [&str; 2] = ["10.77.0.1", "fd77::1"];

const ROUTER: [&str; 2] = ["10.77.0.2", "fd77::2"];

const BEHIND: [&str; 2] = ["10.88.0.1", "fd88::1"];

const FAR: [&str; 2] = ["10.88.0.2", "fd88::2"];

impl Routed {
    pub fn new() -> Self {
        let (router, far) = (Host::new(), Host::new());
        router.cable_to("r1", &far, "f0");
        router.cable("v0", "r0");
        let on_router = |command: &str| router.run(command);
        let on_far = |command: &str| far.run(command);
        // Nothing the router has to say is held back.
        for setting in ["net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.icmp_ratemask=0"]
        {
            on_router(&format!("sysctl -qw {setting}"));
        }
        on_router("sysctl -qw net.ipv6.icmp.ratelimit=0");
        plug(&run, "v0", &HERE);
        plug(&on_router, "r0", &ROUTER);
        plug(&on_router, "r1", &BEHIND);
        plug(&on_far, "f0", &FAR);
        await_link(run, "v0");
        await_link(on_router, "r0");
        await_link(on_router, "r1");
        await_link(on_far, "f0");
        for (way, back) in ROUTER.into_iter().zip(BEHIND) {
            run(&format!("ip route add default via {way}"));
            on_far(&format!("ip route add default via {back}"));
        }
        Self { router, far }
    }

    fn friend(&self, bed: &mut Bed, server: &Served<Say>, at: SocketAddr) -> Friend {
        let ip: IpAddr = FAR[usize::from(at.is_ipv6())].parse().unwrap();
        let socket = self.far.inside(|| on_loopback(ip));
        Friend::new(bed, server, at, socket)
    }
}

fn plug(run: &impl Fn(&str) -> String, device: &str, addresses: &[&str]) {
    for address in addresses {
        let rest = if address.contains(':') { "64 nodad" } else { "24" };
        let (bits, nodad) = rest.split_once(' ').unwrap_or((rest, ""));
        run(&format!("ip addr add {address}/{bits} dev {device} {nodad}"));
    }
    run(&format!("ip link set {device} up"));
}

/// Datagrams are sent until this is heard, again and again; nothing else is heard.
fn tell_until(bed: &mut Bed, server: &Served<Say>, heard: &Heard, about: SocketAddr, error: PeerError) {
    for _ in 0..3 {
        // A router that has said so a few times says it once a second (net.ipv4.route.error_cost).
        bed.until(&format!("{error:?}"), |bed| {
            bed.tell(server, 0, Say::Now { count: 1, len: 9 });
            match heard.recv_timeout(Duration::from_millis(100)) {
                Ok(told) => assert_eq!(told, (about, error)),
                Err(_) => return false,
            }
            true
        });
    }
}

/// What was said before is heard before this.
fn nothing_more(heard: &Heard) {
    assert_eq!(heard.recv_timeout(Duration::from_millis(50)).ok(), None);
}

fn what_a_router_says_is_heard(mut bed: Bed) {
    let net = Routed::new();
    for ip in HERE {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = net.friend(&mut bed, &server, at);
        let (to, bits) = (friend.address().ip(), if at.is_ipv4() { 32 } else { 128 });
        for (kind, error) in [
            ("unreachable", PeerError::Unreachable),
            ("prohibit", PeerError::Forbidden),
            ("throw", PeerError::Unreachable),
        ] {
            net.router.run(&format!("ip route add {kind} {to}/{bits}"));
            tell_until(&mut bed, &server, &heard, friend.address(), error);
            net.router.run(&format!("ip route del {kind} {to}/{bits}"));
            friend.ask(b"there again");
            nothing_more(&heard);
        }
        sleeps(&mut bed, &server);
        let stats = bed.drain(server);
        assert_eq!(stats.send_failed(), 0, "they had left: {stats:?}");
        assert_eq!((stats.peer_errors, stats.delivered), (9, 5), "{stats:?}");
    }
}

fn what_this_host_s_routes_say_is_heard(mut bed: Bed) {
    let net = Routed::new();
    for ip in HERE {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = net.friend(&mut bed, &server, at);
        let (to, bits) = (friend.address().ip(), if at.is_ipv4() { 32 } else { 128 });
        for (kind, error) in [
            ("unreachable", PeerError::Unreachable),
            ("prohibit", PeerError::Forbidden),
            ("blackhole", PeerError::Unreachable),
        ] {
            run(&format!("ip route add {kind} {to}/{bits}"));
            tell_until(&mut bed, &server, &heard, friend.address(), error);
            run(&format!("ip route del {kind} {to}/{bits}"));
            friend.ask(b"there again");
            nothing_more(&heard);
        }
        // IPv6 goes on to send from an address that the host has no longer, and nobody says anything.
        if at.is_ipv4() {
            run(&format!("ip addr del {ip}/24 dev v0"));
            tell_until(&mut bed, &server, &heard, friend.address(), PeerError::Unreachable);
            run(&format!("ip addr add {ip}/24 dev v0"));
            run(&format!("ip route add default via {}", ROUTER[0]));
            friend.ask(b"there again");
            nothing_more(&heard);
        }
        sleeps(&mut bed, &server);
        let (failed, delivered) = if at.is_ipv4() { (12, 6) } else { (9, 5) };
        let stats = bed.drain(server);
        assert_eq!((stats.send_failed(), stats.delivered), (failed, delivered), "{stats:?}");
        assert_eq!(stats.peer_errors, 0, "what a send says is no error beside: {stats:?}");
    }
}

/// Forbids that datagrams are cut into fragments.
#[allow(unsafe_code, reason = "options that socket2 does not have")]
fn dont_fragment(socket: &socket2::Socket, address: SocketAddr) -> std::io::Result<()> {
    let (level, name) = match address {
        SocketAddr::V4(_) => (libc::SOL_IP, libc::IP_MTU_DISCOVER),
        SocketAddr::V6(_) => (libc::SOL_IPV6, libc::IPV6_MTU_DISCOVER),
    };
    let (fd, value) = (std::os::fd::AsRawFd::as_raw_fd(socket), libc::IP_PMTUDISC_DO);
    let len = size_of_val(&value) as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel reads one live int.
    let code = unsafe { libc::setsockopt(fd, level, name, (&raw const value).cast(), len) };
    if code == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}

fn too_long_says_for_what(mut bed: Bed) {
    let net = Routed::new();
    net.router.run("ip link set r1 mtu 1400");
    net.far.run("ip link set f0 mtu 1400");
    for ip in HERE {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = net.friend(&mut bed, &server, at);
        let about = friend.address();
        bed.tell(&server, 0, Say::Now { count: 1, len: 1_430 });
        assert_eq!(next(&heard, about), PeerError::TooLong { mtu: Some(1_400) }, "the router says so");
        bed.tell(&server, 0, Say::Now { count: 2, len: 1_430 });
        let fragments = friend.hears(Duration::from_millis(200));
        assert_eq!(fragments, [1_430, 1_430], "by now the kernel cuts them");
        nothing_more(&heard);
        let stats = bed.drain(server);
        assert_eq!((stats.peer_errors, stats.send_failed()), (1, 0), "{stats:?}");

        let (server, heard) = serve(&mut bed, &[ip], Some(std::sync::Arc::new(dont_fragment)));
        let friend = net.friend(&mut bed, &server, at);
        for count in [1, 3, 150] {
            bed.tell(&server, 0, Say::Now { count, len: 1_430 });
            for _ in 0..count {
                let told = PeerError::TooLong { mtu: Some(1_400) };
                assert_eq!(next(&heard, friend.address()), told, "the kernel remembers");
            }
        }
        friend.ask(&[7; 1_300]);
        let (via, far) = if at.is_ipv4() { (ROUTER[0], "10.88.0.0/24") } else { (ROUTER[1], "fd88::/64") };
        run(&format!("ip route replace {far} via {via} mtu lock 1290"));
        bed.tell(&server, 0, Say::Now { count: 1, len: 1_300 });
        assert_eq!(next(&heard, friend.address()), PeerError::TooLong { mtu: Some(1_290) }, "of the route");
        friend.ask(&[7; 1_200]);
        sleeps(&mut bed, &server);
        let stats = bed.drain(server);
        assert_eq!((stats.peer_errors, stats.send_failed_too_long), (0, 155), "{stats:?}");
    }
}

/// Nobody has spoken by that socket yet.
fn a_peer_that_never_spoke_is_heard_of(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let silent = on_loopback(at.ip());
        let address = silent.local_addr().unwrap();
        bed.tell(&server, 0, Say::Open { via: at, to: address });
        bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
        drop(silent);
        for _ in 0..20 {
            bed.tell(&server, 0, Say::Now { count: 1, len: 9 });
            assert_eq!(next(&heard, address), PeerError::Refused);
        }
        let friend = Friend { socket: UdpSocket::bind(address).unwrap(), at };
        friend.ask(b"hello");
        sleeps(&mut bed, &server);
        bed.drain(server);
    }
}

/// What a full queue of the device drops is no datagram that was sent.
fn what_the_device_drops_is_told(mut bed: Bed) {
    let host = slow_cable(1_000);
    run("tc qdisc replace dev v0 root tbf rate 10000kbit burst 1600 limit 20000");
    for ip in HERE {
        let (sender, seen) = channel();
        let config = Config::new().listen(SocketAddr::new(ip.parse().unwrap(), 7_000));
        // One by one, so that the queue drops one by one.
        let config = config.tier(TierPolicy::Connected).trains(false);
        let server = bed.serve(config, move |_| Source::new(sender.clone()));
        let client = Client::new(&host, bed.address(&server));
        client.ask(Order { count: 0, len: 0, per_turn: 1 });
        bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
        client.ask(Order { count: 200, len: 1_000, per_turn: 200 });
        let came = u64::from(client.rising(Duration::from_millis(500)));
        let stats = bed.drain(server);
        let told = seen.try_iter().filter(|seen| *seen == Seen::Error(PeerError::NoBuffers)).count() as u64;
        assert!((1..200).contains(&came), "{came} of 200 came");
        assert_eq!(
            (stats.sent(), stats.send_failed_other, told),
            (came, 200 - came, 200 - came),
            "{stats:?}"
        );
    }
}

in_namespaces_with_uring!(
    a_peer_that_comes_and_goes_is_refused_and_received,
    what_a_router_says_is_heard,
    what_this_host_s_routes_say_is_heard,
    too_long_says_for_what,
    a_peer_that_never_spoke_is_heard_of,
    what_the_device_drops_is_told,
);
