//! A node that is killed says nothing, and another one can take its place.

mod support;

use std::time::Duration;

use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, PeerError, PeerId, TierPolicy};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, listening, payloads};

/// Answers with how often it has heard of a peer, and says goodbye when it may.
struct Count;

impl Handler for Count {
    type Peer = u8;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u8> {
        Accept::Peer(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        let count = cx.peers.get_mut(from).expect("it is there");
        *count += 1;
        let count = *count;
        cx.io.send(from, &[count]).expect("room");
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: u8, why: CloseReason) {
        panic!("nobody is left to say {why:?}");
    }
}

#[test]
fn nothing_is_heard_of_it_and_its_ports_are_free() {
    let mut sim = Sim::new(1);
    let config = listening("10.0.0.1:7").shards(2).tier(TierPolicy::Connected);
    let client = sim.socket(addr("10.0.0.2:5000"));
    let ask = |sim: &mut Sim| {
        sim.send(client, addr("10.0.0.1:7"), b"x");
        assert!(sim.run_until_quiet(SECOND));
        payloads(sim, client).concat()
    };
    for _ in 0..3 {
        let node = sim.server(&[ip("10.0.0.1")], &config, |_| Count).expect("the ports are free");
        assert_eq!([ask(&mut sim), ask(&mut sim)], [[1], [2]], "it knows nobody of before");
        // One is on its way when it happens.
        sim.send(client, addr("10.0.0.1:7"), b"x");
        sim.run_for(Duration::from_micros(50));
        sim.kill(&node);
        sim.kill(&node);
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(payloads(&mut sim, client).len(), 0);
        assert_eq!(sim.ended(&node).map(|endings| endings.len()), Some(2));
        assert!(node.tell(0, ()).is_err(), "its mailboxes are gone");
        assert_eq!(ask(&mut sim), b"");
        assert_eq!(sim.receive_error(client), Some((addr("10.0.0.1:7"), PeerError::Refused)));
        assert_eq!((sim.receive_error(client), sim.counts().unaccounted()), (None, 0));
    }
}
