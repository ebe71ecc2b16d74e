//! A wildcard follows the host's addresses while it serves: one that appears has listeners of its own, so its
//! peers can have sockets of their own; when one goes its peers are closed, and others notice nothing.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use crate::common::namespace::{Link, SERVER, ip, two_hosts};
use crate::common::{Bed, PATIENCE, Served};
use shardgram::{Accept, AcceptChoice, CloseReason, Config, Context, Datagram, Handler, PeerId, TierPolicy};

const LATER: [&str; 2] = ["10.77.0.50", "fd77::50"];
const PORT: u16 = 7000;

/// Echoes, and says which peers were closed and why.
struct Told(Sender<(SocketAddr, CloseReason)>);

impl Handler for Told {
    type Peer = Option<SocketAddr>;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<Option<SocketAddr>> {
        Accept::Peer(Some(first.path().local))
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room");
    }

    fn on_closed(
        &mut self,
        _: &mut Context<'_, Self>,
        _: PeerId,
        local: Option<SocketAddr>,
        why: CloseReason,
    ) {
        let _ = local.is_none_or(|local| self.0.send((local, why)).is_ok());
    }
}

fn server(link: &mut Link) {
    let mut bed = Bed::uring().expect("probed outside");
    let wildcards = ["0.0.0.0", "::"].map(|ip| SocketAddr::new(ip.parse().unwrap(), PORT));
    let config = wildcards.into_iter().fold(Config::new(), Config::listen);
    let (closed, told) = channel();
    let config = config.shards(2).tier(TierPolicy::Connected).idle_timeout(None);
    let server = bed.serve(config, move |_| Told(closed.clone()));
    link.say("serving");

    let first = SERVER.len() as u64;
    until_connected(link, || bed.stats(&server).connected() == first);

    for address in LATER {
        let bits = if address.contains(':') { "64 dev v0 nodad" } else { "24 dev v0" };
        ip(&format!("addr add {address}/{bits}"));
    }
    link.say("there are more");
    let all = first + LATER.len() as u64;
    until_connected(link, || bed.stats(&server).connected() == all);

    for address in LATER {
        ip(&format!("addr del {address}/{} dev v0", if address.contains(':') { 64 } else { 24 }));
    }
    let mut gone: Vec<_> = LATER.iter().map(|_| told.recv_timeout(PATIENCE).expect("closed")).collect();
    gone.sort_by_key(|(local, _)| *local);
    let expected = LATER.map(|ip| (SocketAddr::new(ip.parse().unwrap(), PORT), CloseReason::AddressGone));
    assert_eq!(gone, expected);
    bed.until("their sockets are closed", |bed| bed.stats(&server).connected() == first);
    link.say("they are gone");
    link.expect("done");
    let Served::Real(handle) = server else { unreachable!("a real server") };
    let total = handle.drain(PATIENCE).unwrap().total;
    assert_eq!((total.peers_opened, total.unaccounted()), (all, 0), "{total:?}");
}

/// The client speaks on until its peers are connected: what it says before an address has listeners of its
/// own comes by the wildcard's.
fn until_connected(link: &mut Link, mut connected: impl FnMut() -> bool) {
    let end = Instant::now() + PATIENCE;
    loop {
        link.expect("spoken");
        if connected() {
            return link.say("enough");
        }
        assert!(Instant::now() < end, "they are not connected");
        link.say("go on");
    }
}

fn speak_until_connected(link: &mut Link, to: &[(UdpSocket, SocketAddr)]) {
    loop {
        to.iter().for_each(|(socket, to)| speak(socket, *to));
        link.say("spoken");
        if link.hear() == "enough" {
            return;
        }
    }
}

fn speak(socket: &UdpSocket, to: SocketAddr) {
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    for round in 0..3_u8 {
        socket.send_to(&[round; 20], to).unwrap();
        let mut bytes = [0; 64];
        let (len, from) = socket.recv_from(&mut bytes).expect("an answer");
        assert_eq!((&bytes[..len], from), (&[round; 20][..], to));
    }
}

fn client(link: &mut Link) {
    let bound = |to: &str| {
        let to = SocketAddr::new(to.parse().unwrap(), PORT);
        let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        (UdpSocket::bind(any).unwrap(), to)
    };
    link.expect("serving");
    let first: Vec<_> = SERVER.iter().map(|to| bound(to)).collect();
    speak_until_connected(link, &first);
    link.expect("there are more");
    let later: Vec<_> = LATER.iter().map(|to| bound(to)).collect();
    speak_until_connected(link, &later);
    link.expect("they are gone");
    first.iter().for_each(|(socket, to)| speak(socket, *to));
    link.say("done");
}

#[test]
fn they_come_and_go() {
    if Bed::uring().is_some() {
        two_hosts("local_addresses::they_come_and_go", server, client);
    }
}

/// Speaks until so many peers have sockets of their own.
fn speak_until(bed: &mut Bed, server: &Served<()>, socket: &UdpSocket, to: SocketAddr, connected: u64) {
    bed.until("its peer is connected", |bed| {
        speak(socket, to);
        bed.stats(server).connected() == connected
    });
}

/// The address of an interface has a listener of its own at the cost of one that somebody asked for, whose peers stay.
fn an_address_that_was_asked_for_gives_way(mut bed: Bed) {
    let config = Config::new().listen(([0, 0, 0, 0], PORT).into()).max_local_addresses(2).shards(2);
    let (closed, told) = channel();
    let config = config.tier(TierPolicy::Connected).idle_timeout(None);
    let server = bed.serve(config, move |_| Told(closed.clone()));
    let bound =
        |ip: [u8; 4]| (UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap(), SocketAddr::from((ip, PORT)));
    let asked_for = bound([127, 0, 0, 9]);
    speak_until(&mut bed, &server, &asked_for.0, asked_for.1, 1);
    ip("addr add 10.9.9.1/24 dev lo");
    let of_interface = bound([10, 9, 9, 1]);
    speak_until(&mut bed, &server, &of_interface.0, of_interface.1, 2);
    speak(&asked_for.0, asked_for.1);
    assert!(told.try_recv().is_err(), "nobody is closed");
    assert_eq!(bed.drain(server).peers_opened, 2);
}

/// Where peers' own sockets are in its port group, they are closed for that, and the peers stay.
fn it_gives_way_with_the_sockets_of_its_peers(mut bed: Bed) {
    let config = Config::new().listen(([0, 0, 0, 0], PORT).into()).max_local_addresses(2).shards(2);
    let config = config.tier(TierPolicy::Connected).accept(AcceptChoice::SameGroup).idle_timeout(None);
    let (closed, told) = channel();
    let server = bed.serve(config, move |_| Told(closed.clone()));
    let bound =
        |ip: [u8; 4]| (UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap(), SocketAddr::from((ip, PORT)));
    let asked_for = bound([127, 0, 0, 9]);
    speak_until(&mut bed, &server, &asked_for.0, asked_for.1, 1);
    for last in 1..4 {
        let came = format!("10.9.9.{last}/32 dev lo");
        ip(&format!("addr add {came}"));
        let of_interface = bound([10, 9, 9, last]);
        let promoted = bed.stats(&server).promoted;
        bed.until("only the peer of the interface's address is connected", |bed| {
            speak(&asked_for.0, asked_for.1);
            speak(&of_interface.0, of_interface.1);
            let stats = bed.stats(&server);
            (stats.promoted, stats.connected()) == (promoted + 1, 1)
        });
        ip(&format!("addr del {came}"));
        assert_eq!(told.recv_timeout(PATIENCE), Ok((of_interface.1, CloseReason::AddressGone)));
        // There is room for the other again, and nothing is left of its group.
        speak_until(&mut bed, &server, &asked_for.0, asked_for.1, 1);
    }
    assert!(told.try_recv().is_err(), "nobody else is closed");
    assert_eq!(bed.drain(server).peers_opened, 4);
}

/// Of several the one by which least comes, whether by its listeners or by sockets of its peers' own.
fn the_least_used_gives_way(mut bed: Bed) {
    let config = Config::new().listen(([0, 0, 0, 0], PORT).into()).max_local_addresses(3).shards(2);
    let config = config.tier(TierPolicy::Connected).idle_timeout(None);
    let (closed, _told) = channel();
    let server = bed.serve(config, move |_| Told(closed.clone()));
    let bound =
        |ip: [u8; 4]| (UdpSocket::bind(SocketAddr::from((ip, 0))).unwrap(), SocketAddr::from((ip, PORT)));
    let (first, second) = (bound([127, 0, 0, 9]), bound([127, 0, 0, 10]));
    speak_until(&mut bed, &server, &first.0, first.1, 1);
    speak_until(&mut bed, &server, &second.0, second.1, 2);
    (0..20).for_each(|_| speak(&first.0, first.1));
    ip("addr add 10.9.9.1/32 dev lo");
    let of_interface = bound([10, 9, 9, 1]);
    speak_until(&mut bed, &server, &of_interface.0, of_interface.1, 3);
    assert!(listeners_at(first.1) > 0 && listeners_at(of_interface.1) > 0);
    bed.until("nobody listens where least came", |_| listeners_at(second.1) == 0);
    for (socket, to) in [&first, &second, &of_interface] {
        speak(socket, *to);
    }
    bed.drain(server);
}

/// Sockets of this host that are bound to an address and not connected (`/proc/net/udp`, proc_pid_net(5)).
fn listeners_at(at: SocketAddr) -> usize {
    let SocketAddr::V4(at) = at else { unreachable!("IPv4") };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let table = std::fs::read_to_string("/proc/thread-self/net/udp").expect("proc is mounted");
    let is_one = |line: &&str| {
        let mut words = line.split_whitespace().skip(1);
        words.next() == Some(local.as_str()) && words.next() == Some("00000000:0000")
    };
    table.lines().filter(is_one).count()
}

in_namespaces_with_uring!(
    the_least_used_gives_way,
    an_address_that_was_asked_for_gives_way,
    it_gives_way_with_the_sockets_of_its_peers,
);
