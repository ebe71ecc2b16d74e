//! What is sent to a multicast group or a broadcast address is heard once and handled by the shard that owns its sender,
//! or heard by every shard where that is asked for; answers leave from an address of the server.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::mpsc::{Receiver, Sender, channel};

use shardgram::{Accept, Config, Context, Datagram, Handler, Interface, Membership, PeerId, flow_shard};

use crate::common::{Bed, PATIENCE, Peer, Served};

const GROUP: IpAddr = IpAddr::V4(Ipv4Addr::new(239, 77, 0, 1));
const SHARDS: u16 = 3;

/// Echoes, and tells on which shard and to which group.
struct Hears(Sender<(u16, Option<IpAddr>)>);

impl Handler for Hears {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let _ = self.0.send((cx.io.shard(), cx.io.group(datagram.meta())));
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}

fn serve(bed: &mut Bed, config: Config) -> (Served<()>, Receiver<(u16, Option<IpAddr>)>) {
    let (to, heard) = channel();
    let config = config.listen(([0, 0, 0, 0], 0).into()).shards(SHARDS);
    (bed.serve(config, move |_| Hears(to.clone())), heard)
}

fn group() -> Membership {
    Membership::any_source(GROUP).on(Interface::of(Ipv4Addr::LOCALHOST))
}

/// Sends to many, and gives the answers, which are from the server's own address.
fn ask_many(bed: &mut Bed, server: &Served<()>, many: IpAddr, answers: usize) -> Peer {
    let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bed.address(server).port());
    let peer = bed.peer(own);
    if let Peer::Real(socket) = &peer {
        socket.set_broadcast(true).expect("a broadcast may be sent");
    }
    bed.send(&peer, SocketAddr::new(many, own.port()), b"anyone?");
    for _ in 0..answers {
        assert_eq!(bed.receive(&peer), (own, b"anyone?".to_vec()));
    }
    peer
}

fn one_hears_and_the_owner_handles(mut bed: Bed) {
    let (server, heard) = serve(&mut bed, Config::new().join(group().shard(1)));
    // All are open until the end, so that no two of them have the same port and are one peer.
    let mut peers = Vec::new();
    for many in [GROUP, IpAddr::V4(Ipv4Addr::BROADCAST)] {
        for _ in 0..12 {
            let peer = ask_many(&mut bed, &server, many, 1);
            let owner = flow_shard(peer.address(), SHARDS);
            assert_eq!(heard.recv_timeout(PATIENCE), Ok((owner, Some(many))));
            let own = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), bed.address(&server).port());
            bed.ask(&peer, own, b"you");
            assert_eq!(heard.recv_timeout(PATIENCE), Ok((owner, None)));
            peers.push(peer);
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.delivered, stats.peers_opened), (48, 48, 24), "{stats:?}");
    assert_eq!(stats.broadcast_copies, 12 * u64::from(SHARDS - 1), "{stats:?}");
    assert!(heard.try_recv().is_err(), "each was heard once");
}

fn every_shard_hears(mut bed: Bed) {
    let (server, heard) = serve(&mut bed, Config::new().join(group().every_shard()));
    ask_many(&mut bed, &server, GROUP, SHARDS.into());
    let mut shards: Vec<_> =
        (0..SHARDS).map(|_| heard.recv_timeout(PATIENCE).expect("it is heard")).collect();
    shards.sort_unstable();
    assert_eq!(shards, [0, 1, 2].map(|shard| (shard, Some(GROUP))));
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.delivered, stats.forwarded_out), (3, 3, 0), "{stats:?}");
}

on_all_drivers!(one_hears_and_the_owner_handles, every_shard_hears);
