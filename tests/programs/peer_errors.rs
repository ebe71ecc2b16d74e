//! What the network says of one peer with a socket of its own reaches the handler, and touches nothing else.
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use crate::common::icmp::{Forger, Says};
use crate::common::namespace::{Host, await_link, run};
use crate::common::source::{Client, Order, Seen, Source, set_rate, shard_cpu, slow_cable};
use crate::common::{Bed, PATIENCE, Served};
use shardgram::{
    Accept, Config, Context, Datagram, Handler, PeerError, PeerId, Server, SocketHook, TierPolicy, Via,
};

enum Say {
    /// So many datagrams of this length to every peer, in one turn.
    Now {
        count: u32,
        len: usize,
    },
    /// Makes a peer of somebody who never spoke, with a socket of its own.
    Open {
        via: SocketAddr,
        to: SocketAddr,
    },
    Demote,
    Promote,
    /// Says that it is in a callback, waits there, and then sends one datagram to every peer.
    Later {
        there: Sender<()>,
        go: Receiver<()>,
    },
}

/// Sends back what comes, sends what it is told to, and says what it hears of its peers.
struct Talker(Sender<(SocketAddr, PeerError)>);

impl Talker {
    fn say(cx: &mut Context<'_, Self>, count: u32, len: usize) {
        for (peer, ()) in cx.peers.iter() {
            for _ in 0..count {
                cx.io.send(peer, &vec![7; len]).unwrap();
            }
        }
    }
}

impl Handler for Talker {
    type Peer = ();
    type Timer = ();
    type Message = Say;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, say: Say) {
        match say {
            Say::Now { count, len } => Self::say(cx, count, len),
            Say::Open { via, to } => {
                let peer = cx.open(Via::Listener(via), to, ()).unwrap();
                cx.io.promote(peer);
            }
            Say::Demote => cx.peers.iter().for_each(|(peer, ())| cx.io.demote(peer)),
            Say::Promote => cx.peers.iter().for_each(|(peer, ())| cx.io.promote(peer)),
            Say::Later { there, go } => {
                there.send(()).unwrap();
                go.recv().unwrap();
                Self::say(cx, 1, 1);
            }
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let _ = self.0.send((cx.io.path(peer).unwrap().remote, error));
    }
}

type Heard = Receiver<(SocketAddr, PeerError)>;

fn serve(bed: &mut Bed, listen: &[&str], hook: Option<SocketHook>) -> (Served<Say>, Heard) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let config = Config::new().backend(*backend).tier(TierPolicy::Connected).idle_timeout(None);
    let listen = listen.iter().map(|ip| SocketAddr::new(ip.parse().unwrap(), 7_000));
    let (sender, heard) = channel();
    let server = Server::bind_with(listen.fold(config, Config::listen), hook).expect("the server binds");
    (Served::Real(server.spawn(move |_| Talker(sender.clone())).expect("it starts")), heard)
}

/// A peer that the server knows, and that has a socket of its own there.
struct Friend {
    socket: UdpSocket,
    at: SocketAddr,
}

impl Friend {
    fn new(bed: &mut Bed, server: &Served<Say>, at: SocketAddr, socket: UdpSocket) -> Self {
        let promoted = bed.stats(server).promoted;
        let friend = Self { socket, at };
        friend.ask(b"hello");
        bed.until("it is connected", |bed| bed.stats(server).promoted > promoted);
        // By its own socket now.
        friend.ask(b"hello again");
        friend
    }

    fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    fn ask(&self, bytes: &[u8]) {
        self.socket.set_read_timeout(Some(PATIENCE)).unwrap();
        self.socket.send_to(bytes, self.at).unwrap();
        let mut buffer = [0; 2_000];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..len], from), (bytes, self.at));
    }

    /// Lengths of what comes in this time.
    fn hears(&self, within: Duration) -> Vec<usize> {
        self.socket.set_read_timeout(Some(within)).unwrap();
        std::iter::from_fn(|| self.socket.recv(&mut [0; 70_000]).ok()).collect()
    }
}

fn on_loopback(ip: IpAddr) -> UdpSocket {
    UdpSocket::bind((ip, 0)).unwrap()
}

/// What is heard next; that it is about this peer.
fn next(heard: &Heard, about: SocketAddr) -> PeerError {
    let (peer, error) = heard.recv_timeout(PATIENCE).expect("the handler hears of it");
    assert_eq!(peer, about);
    error
}

/// No thread of the kernel does what the ring should have done without.
fn no_workers() {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).unwrap_or_default());
    let workers: Vec<_> = names.filter(|name| name.starts_with("iou-wrk")).collect();
    assert!(workers.is_empty(), "{workers:?}");
}

/// The shard's thread sleeps, which it must once nothing more comes.
fn sleeps(bed: &mut Bed, server: &Served<Say>) {
    let mut last = (0, 0);
    bed.until("the shard is at rest", |bed| {
        let (cpu, turns) = (shard_cpu(0), bed.stats(server).turns);
        std::thread::sleep(Duration::from_millis(200));
        last = (shard_cpu(0) - cpu, bed.stats(server).turns - turns);
        last.0 < 10_000_000 && last.1 < 20
    });
    no_workers();
}

const BOTH: [&str; 2] = ["127.0.0.1", "::1"];

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

fn what_a_send_is_told_of_an_earlier_one_loses_nothing(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let forger = Forger::new(at, friend.address());
        for (says, error) in [
            (Says::PortUnreachable, PeerError::Refused),
            (Says::HostUnreachable, PeerError::Unreachable),
            (Says::Prohibited, PeerError::Forbidden),
            (Says::TooBig(1_300), PeerError::TooLong { mtu: Some(1_300) }),
        ] {
            for _ in 0..20 {
                let ((there, is_there), (go, goes)) = (channel(), channel());
                bed.tell(&server, 0, Say::Later { there, go: goes });
                is_there.recv().unwrap();
                // The error waits at the socket when the shard comes to send.
                forger.send(says);
                go.send(()).unwrap();
                assert_eq!(next(&heard, friend.address()), error);
                friend.socket.set_read_timeout(Some(PATIENCE)).unwrap();
                assert_eq!(friend.socket.recv(&mut [0; 16]).expect("it is sent all the same"), 1);
                assert_eq!(heard.try_recv().ok(), None, "it is told once");
            }
        }
        friend.ask(b"still there");
        sleeps(&mut bed, &server);
        let stats = bed.drain(server);
        assert_eq!((stats.send_failed(), stats.peer_errors), (0, 80), "{stats:?}");
    }
}

/// This host, a router, and a host behind it.
struct Routed {
    router: Host,
    far: Host,
}

const HERE: [&str; 2] = ["10.77.0.1", "fd77::1"];
const ROUTER: [&str; 2] = ["10.77.0.2", "fd77::2"];
const BEHIND: [&str; 2] = ["10.88.0.1", "fd88::1"];
const FAR: [&str; 2] = ["10.88.0.2", "fd88::2"];

impl Routed {
    fn new() -> Self {
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

/// Errors at full speed for one peer, while it and others talk.
fn a_flood_of_forged_errors_stalls_nothing(mut bed: Bed) {
    const ASKED: usize = 1_000;
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friends: Vec<_> =
            (0..10).map(|_| Friend::new(&mut bed, &server, at, on_loopback(at.ip()))).collect();
        let before = bed.stats(&server);
        let (done, flooded) =
            (std::sync::atomic::AtomicBool::new(false), std::sync::atomic::AtomicU64::new(0));
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let answered: Vec<usize> = std::thread::scope(|scope| {
            let victim = friends[0].address();
            let (done, flooded) = (&done, &flooded);
            scope.spawn(move || {
                let forger = Forger::new(at, victim);
                let all =
                    [Says::PortUnreachable, Says::HostUnreachable, Says::Prohibited, Says::TooBig(1_300)];
                for says in all.into_iter().cycle().take_while(|_| !done.load(relaxed)) {
                    forger.send(says);
                    flooded.fetch_add(1, relaxed);
                }
            });
            let talks: Vec<_> = friends
                .iter()
                .map(|friend| {
                    scope.spawn(move || {
                        let ask = |n: &usize| {
                            friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
                            friend.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                            friend.socket.recv(&mut [0; 16]).is_ok()
                        };
                        (0..ASKED).filter(ask).count()
                    })
                })
                .collect();
            let answered = talks.into_iter().map(|talk| talk.join().unwrap()).collect();
            done.store(true, relaxed);
            answered
        });
        let flooded = flooded.into_inner();
        assert!(flooded > 1_000, "{flooded}");
        assert!(answered[1..].iter().all(|n| *n == ASKED), "nobody else is touched: {answered:?}");
        assert!(answered[0] > ASKED * 9 / 10, "{} of {ASKED} answers in {flooded} errors", answered[0]);
        friends.iter().for_each(|friend| friend.ask(b"still there"));
        sleeps(&mut bed, &server);
        let told = heard.try_iter().inspect(|(about, _)| assert_eq!(*about, friends[0].address())).count();
        assert!(told > 100, "{told} of {flooded}");
        let stats = bed.drain(server);
        assert_eq!(stats.kernel_dropped, 0, "{stats:?}");
        assert_eq!(stats.received - before.received, 10 * (ASKED as u64 + 1), "all was received");
        let total: usize = answered.iter().sum();
        assert_eq!(stats.sent() - before.sent(), total as u64 + 10, "{stats:?}");
        assert_eq!(stats.send_failed(), (10 * ASKED - total) as u64, "what was not answered is counted");
    }
}

/// More errors than are taken out at once wait when the shard comes to look, and datagrams behind them.
fn a_heap_of_errors_is_worked_off(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let forger = Forger::new(at, friend.address());
        let mut lost = 0;
        for _ in 0..5 {
            let ((there, is_there), (go, goes)) = (channel(), channel());
            bed.tell(&server, 0, Say::Later { there, go: goes });
            is_there.recv().unwrap();
            for _ in 0..1_000 {
                forger.send(Says::HostUnreachable);
                forger.send(Says::TooBig(1_300));
            }
            for n in 0..100u32 {
                friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
            }
            go.send(()).unwrap();
            let came = friend.hears(Duration::from_millis(300));
            let stats = bed.stats(&server);
            assert_eq!(came.len() as u64, 101 - (stats.send_failed() - lost), "{stats:?}");
            lost = stats.send_failed();
            friend.ask(b"still there");
        }
        sleeps(&mut bed, &server);
        assert!(heard.try_iter().count() >= 5 * 2);
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.kernel_dropped), (2 + 505, 0), "{stats:?}");
    }
}

/// Sockets come and go meanwhile.
fn errors_for_a_peer_that_is_demoted_and_promoted(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let done = std::sync::atomic::AtomicBool::new(false);
        let relaxed = std::sync::atomic::Ordering::Relaxed;
        let mut answered = 0;
        std::thread::scope(|scope| {
            let (done, victim) = (&done, friend.address());
            scope.spawn(move || {
                let forger = Forger::new(at, victim);
                let all = [Says::PortUnreachable, Says::HostUnreachable, Says::TooBig(1_300)];
                all.into_iter()
                    .cycle()
                    .take_while(|_| !done.load(relaxed))
                    .for_each(|says| forger.send(says));
            });
            friend.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
            for round in 0..100 {
                bed.tell(&server, 0, if round % 2 == 0 { Say::Demote } else { Say::Promote });
                for n in 0..10u64 {
                    friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
                    answered += u64::from(friend.socket.recv(&mut [0; 16]).is_ok());
                }
            }
            done.store(true, relaxed);
        });
        friend.ask(b"still there");
        sleeps(&mut bed, &server);
        assert!(heard.try_iter().all(|(about, _)| about == friend.address()));
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.kernel_dropped), (1_003, 0), "{stats:?}");
        assert_eq!((stats.sent(), stats.sent() + stats.send_failed()), (answered + 3, 1_003), "{stats:?}");
        assert!(stats.promoted > 25, "{stats:?}");
    }
}

/// Its socket is full meanwhile, and watched for room, which an error ends too.
fn errors_for_a_peer_whose_socket_is_full(mut bed: Bed) {
    let host = slow_cable(2_000);
    for ip in HERE {
        set_rate(2_000);
        let (sender, seen) = channel();
        let config = Config::new().listen(SocketAddr::new(ip.parse().unwrap(), 7_000)).idle_timeout(None);
        let config = config.send_socket_bytes(16 << 10).tier(TierPolicy::Connected);
        let server = bed.serve(config, move |_| Source::new(sender.clone()));
        let at = bed.address(&server);
        let client = Client::new(&host, at);
        client.ask(Order { count: 0, len: 0, per_turn: 1 });
        bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
        let order = Order { count: 100, len: 1_000, per_turn: 100 };
        client.ask(order);
        bed.until("it waits", |bed| bed.stats(&server).send_waiting > 50);
        let forger = host.inside(|| Forger::new(at, client.socket.local_addr().unwrap()));
        let before = (shard_cpu(0), bed.stats(&server));
        for _ in 0..50 {
            forger.send(Says::HostUnreachable);
            std::thread::sleep(Duration::from_millis(2));
        }
        let (cpu, stats) = (shard_cpu(0) - before.0, bed.stats(&server));
        assert!(stats.peer_errors > 25, "{stats:?}");
        assert!(stats.turns - before.1.turns < 500 && cpu < 100_000_000, "{cpu} ns, {before:?} {stats:?}");
        set_rate(100_000);
        client.expect_all(order);
        assert!(seen.try_iter().any(|seen| seen == Seen::Error(PeerError::Unreachable)));
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.send_failed()), (100, 0), "{stats:?}");
    }
}

/// What a full queue of the device drops is no datagram that was sent.
fn what_the_device_drops_is_told(mut bed: Bed) {
    let host = slow_cable(1_000);
    run("tc qdisc replace dev v0 root tbf rate 10000kbit burst 1600 limit 20000");
    for ip in HERE {
        let (sender, seen) = channel();
        let config = Config::new().listen(SocketAddr::new(ip.parse().unwrap(), 7_000));
        let server = bed.serve(config.tier(TierPolicy::Connected), move |_| Source::new(sender.clone()));
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
    a_flood_of_forged_errors_stalls_nothing,
    a_heap_of_errors_is_worked_off,
    errors_for_a_peer_that_is_demoted_and_promoted,
    errors_for_a_peer_whose_socket_is_full,
    what_the_device_drops_is_told,
    what_a_send_is_told_of_an_earlier_one_loses_nothing,
);
