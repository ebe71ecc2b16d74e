//! The client side: endpoints speak first, hear only whom they speak with, and say when they cannot open.
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};

use crate::common::caller::{self, Call};
use crate::common::{Bed, Peer, loopback};
use shardgram::{
    Accept, Backend, CloseReason, Config, Context, Datagram, Endpoint, EndpointId, Handler, Interface,
    OpenError, PeerError, PeerId, Via,
};

#[derive(Debug, PartialEq)]
enum Seen {
    Datagram(Vec<u8>),
    Error(PeerError),
    Closed(CloseReason),
    Address(SocketAddr),
    Accepted(Vec<u8>),
}

enum Order {
    Open(Endpoint, SocketAddr),
    Say(&'static [u8]),
    Where,
    Close,
}

/// Does as it is told and says what it sees.
struct Client {
    seen: Sender<Seen>,
    endpoint: Option<EndpointId>,
    peer: Option<PeerId>,
}

impl Handler for Client {
    type Peer = ();
    type Timer = ();
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let _ = self.seen.send(Seen::Accepted(first.to_vec()));
        Accept::Done
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, order: Order) {
        match order {
            Order::Open(endpoint, to) => {
                let id = cx.io.endpoint(endpoint).unwrap();
                self.endpoint = Some(id);
                let peer = cx.open(Via::Endpoint(id), to, ()).unwrap();
                assert_eq!(cx.open(Via::Endpoint(id), to, ()), Err(OpenError::InUse(peer)));
                self.peer = Some(peer);
            }
            Order::Say(text) => cx.io.send(self.peer.unwrap(), text).unwrap(),
            Order::Where => {
                let address = cx.io.endpoint_address(self.endpoint.unwrap()).unwrap();
                let _ = self.seen.send(Seen::Address(address));
            }
            Order::Close => cx.close_endpoint(self.endpoint.unwrap()),
        }
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let _ = self.seen.send(Seen::Datagram(datagram.to_vec()));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.seen.send(Seen::Error(error));
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        let _ = self.seen.send(Seen::Closed(why));
    }
}

fn expect(bed: &mut Bed, seen: &std::sync::mpsc::Receiver<Seen>, want: &Seen) {
    let mut got = None;
    bed.until(&format!("{want:?}"), |_| {
        got = seen.try_iter().next();
        got.is_some()
    });
    assert_eq!(got.as_ref(), Some(want));
}

fn an_endpoint_speaks_and_hears_its_peer_only(mut bed: Bed) {
    for like in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, seen) = channel();
        // A listener receives all the time, and must not keep the socket of a closed endpoint.
        let client =
            bed.serve(loopback(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
        let friend = bed.peer(like.parse().unwrap());
        let stranger = bed.peer(like.parse().unwrap());
        bed.tell(&client, 0, Order::Open(Endpoint::towards(friend.address()), friend.address()));
        bed.tell(&client, 0, Order::Say(b"first"));
        let (from, bytes) = bed.receive(&friend);
        assert_eq!(bytes, b"first");
        bed.send(&stranger, from, b"psst");
        bed.send(&friend, from, b"well met");
        expect(&mut bed, &seen, &Seen::Datagram(b"well met".to_vec()));

        bed.tell(&client, 0, Order::Close);
        expect(&mut bed, &seen, &Seen::Closed(CloseReason::EndpointClosed));
        if let Peer::Real(_) = friend {
            assert!(std::net::UdpSocket::bind(from).is_ok(), "a closed endpoint's port is free");
        }
        let stats = bed.drain(client);
        assert_eq!((stats.dropped_foreign, stats.delivered), (1, 1));
    }
}

fn an_endpoint_for_anyone_accepts(mut bed: Bed) {
    let (sender, seen) = channel();
    let client =
        bed.serve(Config::new(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
    let friend = bed.peer("127.0.0.1:0".parse().unwrap());
    let stranger = bed.peer("127.0.0.1:0".parse().unwrap());
    let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap()).any_source(true);
    bed.tell(&client, 0, Order::Open(endpoint, friend.address()));
    bed.tell(&client, 0, Order::Say(b"here I am"));
    let (at, _) = bed.receive(&friend);
    bed.tell(&client, 0, Order::Where);
    expect(&mut bed, &seen, &Seen::Address(at));
    bed.send(&stranger, at, b"hello");
    expect(&mut bed, &seen, &Seen::Accepted(b"hello".to_vec()));
    bed.drain(client);
}

fn a_socket_that_cannot_be_opened_is_reported_to_its_peers(mut bed: Bed) {
    let (sender, seen) = channel();
    let client =
        bed.serve(Config::new(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
    // TEST-NET-3 (RFC 5737): no host here has that address.
    let nowhere = Endpoint::bound("203.0.113.9:0".parse().unwrap());
    bed.tell(&client, 0, Order::Open(nowhere, ([127, 0, 0, 1], 9).into()));
    let mut got = None;
    bed.until("the error", |_| {
        got = seen.try_iter().next();
        got.is_some()
    });
    assert!(matches!(got, Some(Seen::Error(PeerError::NotOpened { .. }))), "{got:?}");
    bed.tell(&client, 0, Order::Say(b"into the void"));
    // EBADF: what is sent along a socket that is not open.
    expect(&mut bed, &seen, &Seen::Error(PeerError::NotOpened { errno: 9 }));
    bed.tell(&client, 0, Order::Close);
    expect(&mut bed, &seen, &Seen::Closed(CloseReason::EndpointClosed));
    let stats = bed.drain(client);
    assert_eq!((stats.send_failed_other, stats.sent()), (1, 0));
}

fn an_interface_that_is_not_there_is_reported(bed: Bed) {
    let mut call = Call::start(bed, Config::new());
    let names = [Interface::named("no-such-one").unwrap(), Interface::index(u32::MAX).unwrap()];
    for interface in names {
        let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap()).on_interface(interface);
        let (_, lost) = call.open(endpoint, ([127, 0, 0, 1], 9).into(), b"hello");
        // ENODEV, then EBADF for what was sent along it.
        for errno in [19, 9] {
            let error = PeerError::NotOpened { errno };
            assert_eq!(call.next(), caller::Seen::Error { peer: lost, error });
        }
    }
    assert_eq!(call.drain().send_failed_other, 2);
}

/// Keeps an endpoint on one port: opens it at its start, and again whenever it is closed.
struct Stubborn {
    own: SocketAddr,
    peer: SocketAddr,
    seen: Sender<Seen>,
}

impl Stubborn {
    fn open(&mut self, cx: &mut Context<'_, Self>) {
        let id = cx.io.endpoint(Endpoint::bound(self.own)).unwrap();
        let peer = cx.open(Via::Endpoint(id), self.peer, id).unwrap();
        cx.io.send(peer, b"open").unwrap();
    }
}

impl Handler for Stubborn {
    type Peer = EndpointId;
    type Timer = ();
    type Message = bool;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<EndpointId> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        self.open(cx);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram::Origin, panic: bool) {
        assert!(!panic, "as the message asks");
        let ids: Vec<_> = cx.peers.iter().map(|(_, id)| *id).collect();
        ids.into_iter().for_each(|id| cx.close_endpoint(id));
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, _: EndpointId, why: CloseReason) {
        if why == CloseReason::EndpointClosed {
            self.open(cx);
        }
        let _ = self.seen.send(Seen::Closed(why));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        let _ = self.seen.send(Seen::Error(error));
    }
}

fn a_port_is_opened_anew_after_its_close_and_after_a_restart(mut bed: Bed) {
    let friend = bed.peer("127.0.0.1:0".parse().unwrap());
    let own = quiet_addresses(&bed, 1)[0];
    let (sender, seen) = channel();
    let to = friend.address();
    let config = Config::new().max_endpoints(1);
    let server = bed.serve(config, move |_| Stubborn { own, peer: to, seen: sender.clone() });
    let (at, _) = bed.receive(&friend);
    for (panic, why) in [
        (false, CloseReason::EndpointClosed),
        (true, CloseReason::Restarted),
        (true, CloseReason::Restarted),
        (false, CloseReason::EndpointClosed),
    ] {
        bed.tell(&server, 0, panic);
        assert_eq!(bed.receive(&friend), (at, b"open".to_vec()), "the same port again");
        expect(&mut bed, &seen, &Seen::Closed(why));
    }
    let stats = bed.drain(server);
    assert_eq!((stats.restarts, stats.send_failed()), (2, 0));
}

/// Opens an endpoint that cannot be, and says when its turn ended after it heard so.
struct Hopeful {
    failed: bool,
    ended: Sender<()>,
}

impl Handler for Hopeful {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let id = cx.io.endpoint(Endpoint::bound("203.0.113.9:0".parse().unwrap())).unwrap();
        cx.open(Via::Endpoint(id), ([127, 0, 0, 1], 9).into(), ()).unwrap();
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: PeerError) {
        self.failed = true;
    }

    fn on_turn_end(&mut self, _: &mut Context<'_, Self>) {
        if self.failed {
            let _ = self.ended.send(());
        }
    }
}

fn a_turn_in_which_an_opening_failed_has_an_end(mut bed: Bed) {
    let (sender, ended) = channel();
    let config = Config::new().idle_timeout(None);
    let client = bed.serve(config, move |_| Hopeful { failed: false, ended: sender.clone() });
    bed.until("the end of the turn", |_| ended.try_recv().is_ok());
    bed.drain(client);
}

/// Opens as many endpoints as there are ports to bind.
struct Crowd(Vec<SocketAddr>);

impl Handler for Crowd {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for address in &self.0 {
            cx.io.endpoint(Endpoint::bound(*address).any_source(true)).unwrap();
        }
    }
}

fn all_ports_are_free_when_the_server_has_ended(mut bed: Bed) {
    let addresses = quiet_addresses(&bed, 300).split_off(100);
    for _ in 0..3 {
        let ports = addresses.clone();
        let client = bed.serve(Config::new(), move |_| Crowd(ports.clone()));
        let stats = bed.stats(&client);
        assert_eq!(stats.restarts, 0);
        bed.drain(client);
        let taken = addresses.iter().filter(|address| std::net::UdpSocket::bind(**address).is_err()).count();
        assert_eq!(taken, 0, "ports are free at once");
    }
}

mod ports {
    on_real_drivers!(all_ports_are_free_when_the_server_has_ended);
    use super::all_ports_are_free_when_the_server_has_ended;
}

/// Addresses that nobody has and nobody takes: below the ports that are handed out, and on an address of
/// this test's own for each driver, since tests run at once.
fn quiet_addresses(bed: &Bed, count: usize) -> Vec<SocketAddr> {
    let ip = match bed {
        Bed::Real(Backend::Uring) => [127, 77, 0, 1],
        Bed::Real(_) => [127, 77, 0, 2],
        Bed::Sim(_) => return (4_000..).take(count).map(|port| ([127, 0, 0, 1], port).into()).collect(),
    };
    let free = |address: &SocketAddr| std::net::UdpSocket::bind(address).is_ok();
    (20_000..30_000).map(|port| (ip, port).into()).filter(free).take(count).collect()
}

on_all_drivers!(
    an_interface_that_is_not_there_is_reported,
    a_turn_in_which_an_opening_failed_has_an_end,
    a_port_is_opened_anew_after_its_close_and_after_a_restart,
    an_endpoint_speaks_and_hears_its_peer_only,
    an_endpoint_for_anyone_accepts,
    a_socket_that_cannot_be_opened_is_reported_to_its_peers,
);
