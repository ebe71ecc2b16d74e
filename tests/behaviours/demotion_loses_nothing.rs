//! Peers that flood while they are promoted and demoted again and again lose nothing, and stay in order.

use std::sync::mpsc;

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerId, Tier};

use crate::common::lab::{Flood, LONG_PATIENCE, loopback_of_both, sockets_at, until_accounted};
use crate::common::{Bed, PATIENCE};

/// What is kept of a peer.
#[derive(Default)]
struct Flow {
    last: u32,
    came: u64,
}

/// Puts its peers from tier to tier every few turns.
#[derive(Default)]
struct Restless {
    peers: Vec<PeerId>,
    turns: u64,
    out_of_order: u64,
    calm: bool,
}

impl Handler for Restless {
    type Peer = Flow;
    type Timer = ();
    /// Stop that, and say how many came out of order.
    type Message = mpsc::Sender<u64>;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Flow> {
        Accept::Peer(Flow::default())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let number = u32::from_be_bytes(datagram[..].try_into().expect("a number"));
        let flow = cx.peers.get_mut(from).expect("it is there");
        if flow.came == 0 {
            self.peers.push(from);
        }
        flow.came += 1;
        self.out_of_order += u64::from(number <= flow.last);
        flow.last = number;
    }

    fn on_turn_end(&mut self, cx: &mut Context<'_, Self>) {
        self.turns += 1;
        if self.calm {
            return;
        }
        for (n, peer) in self.peers.iter().enumerate() {
            // Each at its own pace, so that all combinations come about.
            match cx.io.tier(*peer) {
                Some(Tier::Listener) => cx.io.promote(*peer),
                Some(Tier::Connected) if (self.turns + n as u64).is_multiple_of(3 + n as u64) => {
                    cx.io.demote(*peer);
                }
                _ => {}
            }
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, tell: mpsc::Sender<u64>) {
        self.calm = true;
        tell.send(self.out_of_order).expect("the test waits");
    }
}

fn restless(config: Config, peers: usize, demotions: u64) {
    let Some(mut bed) = Bed::uring() else { return };
    let server = bed.serve(config, |_| Restless::default());
    let at = bed.address(&server);
    let flood = Flood::start(sockets_at(at.ip(), peers), at, |_, round| round.to_be_bytes());
    bed.until_within(LONG_PATIENCE, "many demotions", |bed| bed.stats(&server).demoted >= demotions);
    let sent = flood.stop();
    until_accounted(&mut bed, &server, sent);
    let (tell, told) = mpsc::channel();
    bed.tell(&server, 0, tell);
    let out_of_order = told.recv_timeout(PATIENCE).expect("the handler tells");
    let stats = bed.drain(server);
    println!(
        "{peers} peers, {} demotions, {} datagrams, {} dropped, {} hand-overs timed out: {out_of_order} out of order",
        stats.demoted, stats.received, stats.kernel_dropped, stats.handovers_timed_out
    );
    assert_eq!(stats.received + stats.kernel_dropped, sent, "{stats:?}");
    assert_eq!((stats.dropped_closed, stats.dropped_malformed, stats.redispatched), (0, 0, 0));
}

#[test]
fn one_peer() {
    loopback_of_both().into_iter().for_each(|config| restless(config, 1, 1_000));
}

#[test]
fn several_peers() {
    loopback_of_both().into_iter().for_each(|config| restless(config, 8, 3_000));
}
