//! Port 0 takes one free port for all shards, and every flow reaches the shard that owns it.
use crate::common::{Bed, loopback};
use shardgram::{Accept, Config, Context, Datagram, Handler, flow_shard};

const SHARDS: u16 = 4;

/// Answers with the number of its shard.
struct Where;

impl Handler for Where {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        let shard = cx.io.shard().to_be_bytes();
        cx.io.answer(first.path(), &shard).unwrap();
        Accept::Done
    }
}

fn every_flow_reaches_its_shard(mut bed: Bed) {
    let config = loopback().listen("[::1]:0".parse().unwrap()).shards(SHARDS);
    let server = bed.serve(config, |_| Where);
    let addresses = bed.addresses(&server);
    assert!(addresses.iter().all(|a| a.port() != 0));
    let mut seen = [0; SHARDS as usize];
    for at in addresses {
        for _ in 0..100 {
            let peer = bed.peer(at);
            let owner = flow_shard(peer.address(), SHARDS);
            assert_eq!(bed.ask(&peer, at, b"?"), owner.to_be_bytes());
            seen[usize::from(owner)] += 1;
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "200 flows use all shards: {seen:?}");
    let stats = bed.drain(server);
    assert_eq!((stats.stateless, stats.forwarded_out), (200, 0), "none had to be forwarded");
}

fn two_servers_get_two_ports(mut bed: Bed) {
    let one = bed.serve(loopback().shards(2), |_| Where);
    let two = bed.serve(Config::new().listen(([127, 0, 0, 1], 0).into()).shards(2), |_| Where);
    assert_ne!(bed.address(&one), bed.address(&two));
    bed.drain(one);
    bed.drain(two);
}

on_all_drivers!(every_flow_reaches_its_shard, two_servers_get_two_ports);
