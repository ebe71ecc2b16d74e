//! A listener that is bound to an interface, by its link-local address or by a socket hook, serves again when that is made
//! anew, and until then it counts as deaf. Its peers' own sockets are given up, and groups that are joined or sent to by an
//! interface work again.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use crate::common::namespace::{Host, await_link, ip, run};
use crate::common::{Bed, Served};
use shardgram::{
    Accept, Backend, Config, Context, Datagram, Handler, Interface, Membership, OpenError, PeerId, Server,
    SocketHook, Via,
};

const PORT: u16 = 7_000;
const SHARDS: u16 = 2;

/// Echoes without peers.
struct Echo;

impl Handler for Echo {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        Accept::Reply(first.len())
    }
}

/// A cable to the other host, whose ends have these addresses.
fn make(host: &Host) {
    host.cable("v0", "far");
    run("ip link set v0 addrgenmode none");
    host.run("ip link set far addrgenmode none");
    for (v4, v6, on) in [(1, 1, None), (9, 9, Some(host))] {
        let device = if on.is_some() { "far" } else { "v0" };
        for command in [
            format!("ip addr add 10.78.0.{v4}/24 dev {device}"),
            format!("ip addr add fe80::{v6}/64 dev {device} nodad"),
            format!("ip link set {device} up"),
        ] {
            on.map_or_else(|| run(&command), |host| host.run(&command));
        }
    }
    await_link(run, "v0");
}

fn index_of(host: Option<&Host>, device: &str) -> u32 {
    let command = format!("ip -o link show {device}");
    let line = host.map_or_else(|| run(&command), |host| host.run(&command));
    line.split(':').next().and_then(|index| index.parse().ok()).expect("it begins with the index")
}

/// Whether some flows of the other host are answered.
fn answers(host: &Host, ip: &str) -> bool {
    let to: SocketAddr = match ip.parse().expect("an address") {
        IpAddr::V4(v4) => (v4, PORT).into(),
        IpAddr::V6(_) => format!("[{ip}%{}]:{PORT}", index_of(Some(host), "far")).parse().expect("scoped"),
    };
    host.inside(|| {
        (0..8).all(|_| {
            let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
            let socket = UdpSocket::bind((any, 0)).expect("bound");
            socket.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
            socket.send_to(b"hello", to).is_ok() && socket.recv(&mut [0; 16]).is_ok()
        })
    })
}

fn serves_again(bed: Bed, host: &Host, listen: SocketAddr, hook: Option<SocketHook>, ask: &str) {
    let wildcard = listen.ip().is_unspecified();
    let Bed::Real(backend) = bed else { unreachable!("real sockets") };
    let config = Config::new().listen(listen).shards(SHARDS).backend(backend);
    let server = Server::bind_with(config, hook).expect("it binds").spawn(|_| Echo).expect("it starts");
    let (mut bed, server) = (Bed::Real(backend), Served::Real(server));
    bed.until("it serves", |_| answers(host, ask));
    let forwarded = bed.stats(&server).forwarded_out;
    for _ in 0..2 {
        ip("link del v0");
        bed.until("it is deaf", |bed| bed.stats(&server).listeners_deaf == u64::from(SHARDS));
        make(host);
        bed.until("it is not deaf", |bed| bed.stats(&server).listeners_deaf == 0);
        bed.until("it serves again", |_| answers(host, ask));
    }
    // A wildcard's own sockets are in no port group afterwards.
    assert!(wildcard || bed.stats(&server).forwarded_out == forwarded, "each shard has its own");
    bed.drain(server);
    let any: IpAddr = if listen.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    UdpSocket::bind((any, PORT)).expect("the port is free when the server has ended");
}

fn of_a_link_local_address(bed: Bed) {
    let host = Host::new();
    make(&host);
    let listen = format!("[fe80::1%{}]:{PORT}", index_of(None, "v0")).parse().expect("an address");
    serves_again(bed, &host, listen, None, "fe80::1");
}

fn by_a_socket_hook(bed: Bed) {
    let host = Host::new();
    make(&host);
    let hook: SocketHook = Arc::new(|socket, _| socket.bind_device(Some(b"v0")));
    serves_again(bed, &host, ([0, 0, 0, 0], PORT).into(), Some(hook), "10.78.0.1");
}

/// Connects who comes, where sockets can be, and echoes.
struct Connects;

impl Handler for Connects {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Connect(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room");
    }
}

/// A peer's own socket is bound as its listener was, and useless once that has gone: the peer is served by the listener then.
fn a_peers_own_socket(bed: Bed) {
    let host = Host::new();
    make(&host);
    let Bed::Real(backend) = bed else { unreachable!("real sockets") };
    let listen: SocketAddr = ([10, 78, 0, 1], PORT).into();
    let hook: SocketHook = Arc::new(|socket, _| socket.bind_device(Some(b"v0")));
    let config = Config::new().listen(listen).shards(SHARDS).backend(backend);
    let server =
        Server::bind_with(config, Some(hook)).expect("it binds").spawn(|_| Connects).expect("it starts");
    let connects = backend == Backend::Uring;
    let (mut bed, server) = (Bed::Real(backend), Served::Real(server));
    let client = host.inside(|| UdpSocket::bind("10.78.0.9:0")).expect("bound");
    client.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
    let ask = || client.send_to(b"hello", listen).is_ok() && client.recv(&mut [0; 16]).is_ok();
    bed.until("it serves", |_| ask());
    bed.until("it is connected", |bed| bed.stats(&server).promoted == u64::from(connects));
    for _ in 0..2 {
        ip("link del v0");
        bed.until("it is deaf", |bed| bed.stats(&server).listeners_deaf == u64::from(SHARDS));
        make(&host);
        bed.until("it is not deaf", |bed| bed.stats(&server).listeners_deaf == 0);
        bed.until("it serves again", |_| ask());
    }
    let stats = bed.drain(server);
    assert_eq!(stats.peers_opened, 1, "it is the same peer: {stats:?}");
}

/// Answers what comes, and tells a group when it is told to.
struct Groups;

const TOLD: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(239, 78, 0, 2)), PORT);

impl Handler for Groups {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        if first[..] == *b"tell" {
            let from = ([10, 78, 0, 1], PORT).into();
            let group = match cx.open(Via::Listener(from), TOLD, ()) {
                Ok(peer) | Err(OpenError::InUse(peer)) => peer,
                Err(error) => panic!("{error}"),
            };
            // It may not leave before the interface is followed.
            let _ = cx.io.send(group, b"news");
        }
        Accept::Reply(first.len())
    }
}

fn groups_that_are_joined_and_sent_to_by_it(bed: Bed) {
    let host = Host::new();
    let make = || {
        make(&host);
        host.run("ip route add 224.0.0.0/4 dev far");
    };
    make();
    let Bed::Real(backend) = bed else { unreachable!("real sockets") };
    let v0 = Interface::named("v0").expect("a name");
    let feed = Membership::source_specific([232, 78, 0, 1], [10, 78, 0, 9]).expect("a source");
    let config = Config::new()
        .listen(([0; 4], PORT).into())
        .listen(([0_u16; 8], PORT).into())
        .join(Membership::any_source([239, 78, 0, 1]).on(v0))
        .join(Membership::any_source("ff12::78".parse::<IpAddr>().expect("a group")).on(v0))
        .join(feed.on(v0))
        .multicast_interface(v0)
        .backend(backend);
    let (mut bed, server) = {
        let server = Server::bind(config).expect("it binds").spawn(|_| Groups).expect("it starts");
        (Bed::Real(backend), Served::Real(server))
    };
    // An answer, or what the group is told.
    let comes = |asked: &UdpSocket, question: &[u8], to: SocketAddr, by: &UdpSocket, what: &[u8]| {
        by.set_read_timeout(Some(Duration::from_millis(300))).expect("a timeout");
        let mut bytes = [0; 16];
        asked.send_to(question, to).is_ok() && by.recv(&mut bytes).is_ok_and(|len| bytes[..len] == *what)
    };
    let all_work = || {
        host.inside(|| {
            let v4 = UdpSocket::bind("10.78.0.9:0").expect("bound");
            let v6 = UdpSocket::bind("[::]:0").expect("bound");
            let hears = UdpSocket::bind(("0.0.0.0", PORT)).expect("bound");
            hears
                .join_multicast_v4(&Ipv4Addr::new(239, 78, 0, 2), &Ipv4Addr::new(10, 78, 0, 9))
                .expect("joined");
            let far = index_of(None, "far");
            let scoped = format!("[ff12::78%{far}]:{PORT}").parse().expect("scoped");
            let at = |ip: [u8; 4]| (ip, PORT).into();
            comes(&v4, b"hello", at([239, 78, 0, 1]), &v4, b"hello")
                && comes(&v4, b"hello", at([232, 78, 0, 1]), &v4, b"hello")
                && comes(&v6, b"hello", scoped, &v6, b"hello")
                && comes(&v4, b"tell", at([239, 78, 0, 1]), &hears, b"news")
        })
    };
    bed.until("groups work", |_| all_work());
    // More often than a socket may be a member of groups (net.ipv4.igmp_max_memberships).
    for _ in 0..22 {
        ip("link del v0");
        make();
        bed.until("groups work again", |_| all_work());
    }
    bed.drain(server);
}

in_namespaces!(
    of_a_link_local_address,
    by_a_socket_hook,
    a_peers_own_socket,
    groups_that_are_joined_and_sent_to_by_it,
);
