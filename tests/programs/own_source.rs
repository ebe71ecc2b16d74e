//! One datagram that claims to come from this process itself is dropped and counted, and nobody is asked: whichever listener
//! of the process it names, and however new its address is. A client that is built in may talk with its own server.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use shardgram::{Accept, Config, Context, Datagram, Endpoint, Handler, OpenError, Origin, PeerId, Via};

use crate::common::namespace::ip;
use crate::common::{Bed, Served, raw};

/// Echoes everything, as a peer's. A message has it speak to an address, by an endpoint; by a listener it may not.
struct Echo;

impl Handler for Echo {
    type Peer = bool;
    type Timer = ();
    type Message = (SocketAddr, SocketAddr);

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<bool> {
        Accept::Peer(false)
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, (from, to): Self::Message) {
        assert_eq!(cx.open(Via::Listener(from), to, true), Err(OpenError::OwnAddress));
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
        let peer = cx.open(Via::Endpoint(endpoint), to, true).expect("room");
        cx.io.send(peer, b"from within").expect("room");
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        if cx.peers.get(peer) == Some(&false) {
            let len = datagram.len();
            let _ = cx.io.reply(datagram, len);
        }
    }
}

const PORT: u16 = 9_000;
const OTHER_PORT: u16 = 9_001;
const SECOND_SERVER: u16 = 9_100;

type Server = Served<(SocketAddr, SocketAddr)>;

fn at(text: &str, port: u16) -> SocketAddr {
    SocketAddr::new(text.parse::<IpAddr>().expect("an address"), port)
}

/// Sends one, and it is dropped as expected: as one's own, or as nobody's.
fn is_dropped(bed: &mut Bed, server: &Server, (from, to): (SocketAddr, SocketAddr), own: bool) {
    let before = bed.stats(server);
    raw::forge(from, to, b"forged");
    bed.until(&format!("what says it is from {from} comes to {to}"), |bed| {
        bed.stats(server).received > before.received
    });
    let stats = bed.stats(server);
    let dropped = (stats.dropped_own_source, stats.dropped_malformed);
    let expected = (before.dropped_own_source + u64::from(own), before.dropped_malformed + u64::from(!own));
    assert_eq!(dropped, expected, "from {from} to {to}: {stats:?}");
    assert_eq!((stats.peers(), stats.sent(), stats.forwarded_out), (before.peers(), before.sent(), 0));
}

fn whatever_listener_it_names(mut bed: Bed) {
    if !raw::allowed() {
        return;
    }
    for address in ["10.77.0.1/24", "10.77.0.2/24", "fd77::1/64 nodad", "fd77::2/64 nodad"] {
        ip(&format!("addr add {address} dev lo"));
    }
    let any = [at("0.0.0.0", PORT), at("::", PORT), at("10.77.0.1", OTHER_PORT)];
    for shards in [1, 3] {
        let config = any.into_iter().fold(Config::new().shards(shards), Config::listen);
        let server = bed.serve(config, |_| Echo);
        let second = bed.serve(Config::new().listen(at("0.0.0.0", SECOND_SERVER)), |_| Echo);
        let (here, here6) = (at("10.77.0.1", PORT), at("fd77::1", PORT));
        let own = [
            (here, here),
            (at("10.77.0.2", PORT), here),
            (at("127.0.0.1", PORT), at("127.0.0.1", PORT)),
            (at("127.9.8.7", PORT), here),
            (at("10.77.0.1", OTHER_PORT), here),
            (here, at("10.77.0.1", OTHER_PORT)),
            (at("10.77.0.2", SECOND_SERVER), here),
            (here6, here6),
            (at("fd77::2", PORT), here6),
            (at("::1", PORT), at("::1", PORT)),
        ];
        for pair in own {
            is_dropped(&mut bed, &server, pair, true);
        }
        is_dropped(&mut bed, &second, (here, at("10.77.0.2", SECOND_SERVER)), true);
        for nobody in [at("10.77.0.255", 5), at("224.0.0.7", 5), at("255.255.255.255", 5)] {
            is_dropped(&mut bed, &server, (nobody, here), false);
        }
        // Linux itself drops what is from a group of IPv6.
        for nobody in [at("::", PORT), at("::", 5)] {
            is_dropped(&mut bed, &server, (nobody, here6), false);
        }
        let before = bed.stats(&server).dropped_own_source;
        let socket = bed.peer(here);
        assert_eq!(bed.ask(&socket, here, b"a client of this host"), b"a client of this host");
        assert_eq!(bed.stats(&server).dropped_own_source, before);
        bed.drain(server);
        // A server that has ended listens nowhere.
        let stranger = at("10.77.0.2", PORT);
        raw::forge(stranger, at("10.77.0.1", SECOND_SERVER), b"no longer");
        bed.until("it is a stranger's", |bed| bed.stats(&second).peers_opened == 1);
        bed.drain(second);
    }
}

fn at_an_address_that_came_later(mut bed: Bed) {
    if !raw::allowed() {
        return;
    }
    let config = Config::new().listen(at("0.0.0.0", PORT)).listen(at("::", PORT));
    let server = bed.serve(config, |_| Echo);
    let (old, old6) = (at("127.0.0.1", PORT), at("::1", PORT));
    // Lists are young.
    is_dropped(&mut bed, &server, (old, old), true);
    is_dropped(&mut bed, &server, (old6, old6), true);
    // All of a prefix, by a route; nothing lists it.
    ip("route add local 192.0.2.0/24 dev lo");
    for (from, to) in [("192.0.2.1", "192.0.2.1"), ("192.0.2.1", "192.0.2.7"), ("192.0.2.7", "192.0.2.1")] {
        // Each was written to before it is said to write.
        is_dropped(&mut bed, &server, (at(from, PORT), at(to, PORT)), true);
    }
    ip("addr add 10.77.3.1/24 dev lo");
    ip("addr add fd77:3::1/64 dev lo nodad");
    let (new, new6) = (at("10.77.3.1", PORT), at("fd77:3::1", PORT));
    for pair in [(new, new), (new6, new6)] {
        is_dropped(&mut bed, &server, pair, true);
    }
    // Gone again, it is anybody's.
    ip("addr del 10.77.3.1/24 dev lo");
    let before = bed.stats(&server).peers_opened;
    bed.until("its loss is known", |bed| {
        raw::forge(new, old, b"a neighbour's now");
        bed.pass(Duration::from_millis(5));
        bed.stats(&server).peers_opened > before
    });
    bed.drain(server);
}

fn a_client_within_talks_with_its_server(mut bed: Bed) {
    for local in [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)] {
        let server = bed.serve(Config::new().listen(SocketAddr::new(local, 0)), |_| Echo);
        let here = bed.address(&server);
        bed.tell(&server, 0, (here, here));
        bed.until("both have heard", |bed| bed.stats(&server).delivered == 2);
        let stats = bed.drain(server);
        assert_eq!((stats.dropped_own_source, stats.sent(), stats.peers_opened), (0, 2, 2));
    }
}

in_namespaces!(
    whatever_listener_it_names,
    at_an_address_that_came_later,
    a_client_within_talks_with_its_server,
);
