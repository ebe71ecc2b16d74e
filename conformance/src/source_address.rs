//! Replies leave from the address written to, whether the listener is bound to it or to all.
use std::net::SocketAddr;
use std::sync::mpsc::{Sender, channel};

use super::{Bed, Sending};
use shardgram_core::{Accept, Config, Context, Datagram, Handler, Path, PeerId};

/// Answers from where it was asked, and says along which path.
struct Guide(Sender<Path>);

impl Handler for Guide {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send(datagram.path());
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}

fn wildcards() -> Config {
    Config::new().listen("0.0.0.0:0".parse().unwrap()).listen("[::]:0".parse().unwrap())
}

fn asks<B: Bed>(bed: &mut B, to: SocketAddr, told: &std::sync::mpsc::Receiver<Path>) {
    let peer = bed.peer(to);
    assert_eq!(bed.ask(&peer, to, b"where?"), b"where?");
    let path = bed.hear(told);
    assert_eq!((path.local, path.remote), (to, bed.address_of(&peer)));
}

pub fn of_a_wildcard<B: Bed>(mut bed: B) {
    let (sender, told) = channel();
    let server = bed.serve(wildcards().shards(2), move |_| Guide(sender.clone()));
    let (addresses, mut peers) = (bed.addresses(&server), 0);
    for ip in bed.loopback_addresses() {
        for at in addresses.iter().filter(|at| at.is_ipv4() == ip.is_ipv4()) {
            asks(&mut bed, SocketAddr::new(ip, at.port()), &told);
            peers += 1;
        }
    }
    assert_eq!(bed.drain(server).peers_opened, peers, "each local address is a path of its own");
}

pub fn of_one_peer_that_asks_at_each<B: Bed>(mut bed: B) {
    let (sender, told) = channel();
    let server = bed.serve(wildcards(), move |_| Guide(sender.clone()));
    let addresses = bed.addresses(&server);
    let clients = [bed.peer(addresses[0]), bed.peer(addresses[1])];
    for ip in bed.loopback_addresses() {
        let family = usize::from(ip.is_ipv6());
        let to = SocketAddr::new(ip, addresses[family].port());
        bed.send_as(&clients[family], to, Sending::of(b"and here?"));
        assert_eq!(bed.receive(&clients[family]), (to, b"and here?".to_vec()));
        assert_eq!(bed.hear(&told).local, to);
    }
    bed.drain(server);
}

pub fn of_a_specific_listener<B: Bed>(mut bed: B) {
    for ip in bed.loopback_addresses() {
        let (sender, told) = channel();
        let server = bed.serve(Config::new().listen(SocketAddr::new(ip, 0)), move |_| Guide(sender.clone()));
        let to = bed.address(&server);
        asks(&mut bed, to, &told);
        bed.drain(server);
    }
}
