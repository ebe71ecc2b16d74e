//! With queues of four and eight entries many endpoints are armed and shards woken, in many pieces where the driver has
//! such queues, and nothing is lost.
use std::net::SocketAddr;

use super::Bed;
use shardgram_core::{Accept, Config, Context, Datagram, Endpoint, Handler, Origin, PeerId, Via};

/// Opens many endpoints at once and speaks with one peer along each; tells its neighbour of every answer.
struct Caller {
    to: SocketAddr,
    calls: u32,
}

impl Handler for Caller {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for n in 0..self.calls {
            let endpoint = cx.io.endpoint(Endpoint::bound(([127, 0, 0, 1], 0).into())).expect("an endpoint");
            let number = u32::from(cx.io.shard()) * self.calls + n;
            let peer = cx.open(Via::Endpoint(endpoint), self.to, number).expect("a peer");
            cx.io.send(peer, &number.to_be_bytes()).expect("room for a send");
        }
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Drop("nobody calls here")
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let number = cx.peers.get(from).copied().expect("a peer");
        assert_eq!(&datagram[..], number.to_be_bytes(), "each hears its own number");
        let neighbour = 1 - cx.io.shard();
        cx.io.tell(neighbour, ()).expect("room for a message");
        cx.io.send(from, &datagram).expect("room for a send");
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, from: Origin, (): ()) {
        assert!(matches!(from, Origin::Shard(_)));
    }
}

pub fn many_endpoints_and_wake_ups<B: Bed>(mut bed: B) {
    // What all endpoints say at once fits into their friend's buffer.
    const CALLS: u32 = 50;
    const ROUNDS: u32 = 5;
    let friend = bed.peer(([127, 0, 0, 1], 0).into());
    let to = bed.address_of(&friend);
    let config = Config::new().submission_entries(4).completion_entries(8).shards(2);
    let client = bed.serve(config, move |_| Caller { to, calls: CALLS });
    for round in 0..=ROUNDS {
        let mut heard: Vec<_> = (0..2 * CALLS).map(|_| bed.receive(&friend)).collect();
        if round < ROUNDS {
            heard.iter().for_each(|(from, bytes)| bed.send(&friend, *from, bytes));
        }
        heard.sort_by(|a, b| a.1.cmp(&b.1));
        let numbers = heard.into_iter().map(|(_, bytes)| u32::from_be_bytes(bytes[..].try_into().unwrap()));
        assert!(numbers.eq(0..2 * CALLS), "each endpoint is heard once a round");
    }
    let expected = u64::from(2 * CALLS * ROUNDS);
    bed.until("all messages come", |bed| bed.stats(&client).messages == expected);
    let stats = bed.drain(client);
    assert_eq!((stats.delivered, stats.kernel_dropped), (expected, 0));
    assert_eq!((stats.sent(), stats.send_failed()), (expected + u64::from(2 * CALLS), 0));
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}
