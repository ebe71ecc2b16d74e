//! The client side: endpoints speak first, hear only whom they speak with, and say when they cannot open.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Bed, loopback};
use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Endpoint, EndpointId, Handler, OpenError, PeerError,
    PeerId, Via,
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

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, order: Order) {
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

fn expect<B: Bed>(bed: &mut B, seen: &Receiver<Seen>, want: &Seen) {
    assert_eq!(&bed.hear(seen), want);
}

pub fn an_endpoint_speaks_and_hears_its_peer_only<B: Bed>(mut bed: B) {
    for like in ["127.0.0.1:0", "[::1]:0"] {
        let (sender, seen) = channel();
        // A listener receives all the time, and must not keep the socket of a closed endpoint.
        let client =
            bed.serve(loopback(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
        let friend = bed.peer(like.parse().unwrap());
        let stranger = bed.peer(like.parse().unwrap());
        bed.tell(
            &client,
            0,
            Order::Open(Endpoint::towards(bed.address_of(&friend)), bed.address_of(&friend)),
        );
        bed.tell(&client, 0, Order::Say(b"first"));
        let (from, bytes) = bed.receive(&friend);
        assert_eq!(bytes, b"first");
        bed.send(&stranger, from, b"psst");
        bed.send(&friend, from, b"well met");
        expect(&mut bed, &seen, &Seen::Datagram(b"well met".to_vec()));

        bed.tell(&client, 0, Order::Close);
        expect(&mut bed, &seen, &Seen::Closed(CloseReason::EndpointClosed));
        assert!(bed.is_free(from), "a closed endpoint's port is free");
        let stats = bed.drain(client);
        assert_eq!((stats.dropped_foreign, stats.delivered), (1, 1));
    }
}

pub fn an_endpoint_for_anyone_accepts<B: Bed>(mut bed: B) {
    let (sender, seen) = channel();
    let client =
        bed.serve(Config::new(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
    let friend = bed.peer("127.0.0.1:0".parse().unwrap());
    let stranger = bed.peer("127.0.0.1:0".parse().unwrap());
    let endpoint = Endpoint::bound("127.0.0.1:0".parse().unwrap()).any_source(true);
    bed.tell(&client, 0, Order::Open(endpoint, bed.address_of(&friend)));
    bed.tell(&client, 0, Order::Say(b"here I am"));
    let (at, _) = bed.receive(&friend);
    bed.tell(&client, 0, Order::Where);
    expect(&mut bed, &seen, &Seen::Address(at));
    bed.send(&stranger, at, b"hello");
    expect(&mut bed, &seen, &Seen::Accepted(b"hello".to_vec()));
    bed.drain(client);
}

pub fn a_socket_that_cannot_be_opened_is_reported_to_its_peers<B: Bed>(mut bed: B) {
    let (sender, seen) = channel();
    let client =
        bed.serve(Config::new(), move |_| Client { seen: sender.clone(), endpoint: None, peer: None });
    // TEST-NET-3 (RFC 5737): no host here has that address.
    let nowhere = Endpoint::bound("203.0.113.9:0".parse().unwrap());
    bed.tell(&client, 0, Order::Open(nowhere, ([127, 0, 0, 1], 9).into()));
    let got = bed.hear(&seen);
    assert!(matches!(got, Seen::Error(PeerError::NotOpened { .. })), "{got:?}");
    bed.tell(&client, 0, Order::Say(b"into the void"));
    // EBADF: what is sent along a socket that is not open.
    expect(&mut bed, &seen, &Seen::Error(PeerError::NotOpened { errno: 9 }));
    bed.tell(&client, 0, Order::Close);
    expect(&mut bed, &seen, &Seen::Closed(CloseReason::EndpointClosed));
    let stats = bed.drain(client);
    assert_eq!((stats.send_failed_other, stats.sent()), (1, 0));
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

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, panic: bool) {
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

pub fn a_port_is_opened_anew_after_its_close_and_after_a_restart<B: Bed>(mut bed: B) {
    let friend = bed.peer("127.0.0.1:0".parse().unwrap());
    let own = bed.quiet_addresses(1)[0];
    let (sender, seen) = channel();
    let to = bed.address_of(&friend);
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

pub fn a_turn_in_which_an_opening_failed_has_an_end<B: Bed>(mut bed: B) {
    let (sender, ended) = channel();
    let config = Config::new().idle_timeout(None);
    let client = bed.serve(config, move |_| Hopeful { failed: false, ended: sender.clone() });
    bed.hear(&ended);
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

pub fn all_ports_are_free_when_the_server_has_ended<B: Bed>(mut bed: B) {
    let addresses = bed.quiet_addresses(300).split_off(100);
    for _ in 0..3 {
        let ports = addresses.clone();
        let client = bed.serve(Config::new(), move |_| Crowd(ports.clone()));
        let stats = bed.stats(&client);
        assert_eq!(stats.restarts, 0);
        bed.drain(client);
        let taken = addresses.iter().filter(|address| !bed.is_free(**address)).count();
        assert_eq!(taken, 0, "ports are free at once");
    }
}
