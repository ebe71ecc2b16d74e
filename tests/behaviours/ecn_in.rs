//! Where it is asked for, each datagram says how it was marked, singly and in a train, in both tiers.
#![cfg(target_os = "linux")]

use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};

use shardgram::{
    Accept, Config, Context, Datagram, Ecn, Endpoint, Handler, Meta, Origin, PeerId, Tier, TierPolicy, Via,
};

use crate::common::marks::{DSCP, Marker};
use crate::common::{Bed, PATIENCE, Served};

const MARKS: [Ecn; 4] = [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce];

/// Says what it is told of each datagram, and speaks first where the test says so.
struct Witness(Sender<(Meta, Option<Tier>, Vec<u8>)>);

impl Handler for Witness {
    type Peer = ();
    type Timer = ();
    type Message = SocketAddr;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, to: SocketAddr) {
        let endpoint = cx.io.endpoint(Endpoint::towards(to)).unwrap();
        let peer = cx.open(Via::Endpoint(endpoint), to, ()).unwrap();
        cx.io.send(peer, b"hello").unwrap();
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send((datagram.meta(), cx.io.tier(from), datagram.to_vec()));
    }
}

struct Room {
    bed: Bed,
    server: Served<SocketAddr>,
    told: Receiver<(Meta, Option<Tier>, Vec<u8>)>,
}

fn serve(mut bed: Bed, config: Config) -> Room {
    let (sender, told) = channel();
    let server = bed.serve(config, move |_| Witness(sender.clone()));
    Room { bed, server, told }
}

impl Room {
    fn next(&self) -> (Ecn, Option<Tier>, Vec<u8>) {
        let (meta, tier, bytes) = self.told.recv_timeout(PATIENCE).expect("a datagram comes");
        (meta.ecn, tier, bytes)
    }

    /// Sends singles and trains with each mark, with a DSCP and without; `expected` is what is to be told of them.
    fn expect(&self, client: &Marker, to: SocketAddr, tier: Tier, expected: impl Fn(Ecn) -> Ecn) {
        for class in [0, DSCP] {
            for mark in MARKS {
                let case = format!("{to} {tier:?} {class:#x} {mark:?}");
                client.send(to, class | mark.bits(), None, b"alone");
                assert_eq!(self.next(), (expected(mark), Some(tier), b"alone".to_vec()), "{case}");
                client.send(to, class | mark.bits(), Some(2), b"aabbc");
                for part in [&b"aa"[..], b"bb", b"c"] {
                    assert_eq!(self.next(), (expected(mark), Some(tier), part.to_vec()), "{case}");
                }
            }
        }
    }
}

fn families(ips: [&str; 2]) -> [(SocketAddr, IpAddr); 2] {
    let of = |listen: &str, loopback: &str| {
        (SocketAddr::new(listen.parse().unwrap(), 0), loopback.parse().unwrap())
    };
    [of(ips[0], "127.0.0.1"), of(ips[1], "::1")]
}

fn at_a_listener(bed: Bed) {
    let config = Config::new().ecn(true);
    let all = [families(["127.0.0.1", "::1"]), families(["0.0.0.0", "::"])].concat();
    let room = serve(bed, all.iter().fold(config, |config, (listen, _)| config.listen(*listen)));
    for (at, (_, ip)) in room.bed.addresses(&room.server).into_iter().zip(all) {
        let to = SocketAddr::new(ip, at.port());
        room.expect(&Marker::new(ip), to, Tier::Listener, |mark| mark);
    }
    let Room { mut bed, server, .. } = room;
    bed.drain(server);
}

fn without_trains(bed: Bed) {
    for (listen, ip) in families(["127.0.0.1", "::1"]) {
        let bed = match &bed {
            Bed::Real(backend) => Bed::Real(*backend),
            Bed::Sim(_) => unreachable!("a real driver"),
        };
        let room = serve(bed, Config::new().ecn(true).trains(false).listen(listen));
        let to = room.bed.address(&room.server);
        room.expect(&Marker::new(ip), to, Tier::Listener, |mark| mark);
    }
}

fn at_an_endpoint(mut bed: Bed) {
    let (sender, told) = channel();
    let server = bed.serve(Config::new().ecn(true), move |_| Witness(sender.clone()));
    let mut room = Room { bed, server, told };
    for (_, ip) in families(["127.0.0.1", "::1"]) {
        let friend = Marker::new(ip);
        room.bed.tell(&room.server, 0, friend.address());
        let mut greeting = [0; 16];
        let (_, endpoint) = friend.socket.recv_from(&mut greeting).expect("it speaks first");
        room.expect(&friend, endpoint, Tier::Listener, |mark| mark);
    }
}

fn only_where_it_is_asked_for(bed: Bed) {
    let (listen, ip) = families(["127.0.0.1", "::1"])[0];
    let room = serve(bed, Config::new().listen(listen));
    let to = room.bed.address(&room.server);
    room.expect(&Marker::new(ip), to, Tier::Listener, |_| Ecn::NotEct);
}

on_real_drivers!(at_a_listener, without_trains, at_an_endpoint, only_where_it_is_asked_for);

#[test]
fn at_a_socket_of_the_peers_own() {
    for (listen, ip) in families(["127.0.0.1", "::1"]) {
        for on in [true, false] {
            let Some(bed) = Bed::uring() else { return };
            let config = Config::new().ecn(on).tier(TierPolicy::Connected).listen(listen);
            let mut room = serve(bed, config);
            let (client, to) = (Marker::new(ip), room.bed.address(&room.server));
            client.send(to, 0, None, b"hello");
            room.next();
            let Room { bed, server, .. } = &mut room;
            bed.until("it is connected", |bed| bed.stats(server).promoted == 1);
            let expected = |mark| if on { mark } else { Ecn::NotEct };
            room.expect(&client, to, Tier::Connected, expected);
        }
    }
}
