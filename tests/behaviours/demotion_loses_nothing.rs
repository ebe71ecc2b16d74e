//! Peers that flood while they are promoted and demoted again and again lose nothing. What they sent stays in
//! order as far as the shard keeps up with them.

use std::sync::mpsc;
use std::time::Duration;

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerId, Tier};

use crate::common::lab::{
    Flood, LONG_PATIENCE, Lab, Order, Welcome, alone, loopback_of_both, next_turn, sockets_at,
    until_accounted, wait_in_callback,
};
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
    let _alone = alone();
    let Some(mut bed) = Bed::uring() else { return };
    let server = bed.serve(config, |_| Restless::default());
    let at = bed.address(&server);
    let flood = Flood::start(sockets_at(at.ip(), peers), at, |_, round| {
        // In bursts, so that the shard mostly keeps up with it.
        if round % 64 == 0 {
            std::thread::sleep(Duration::from_micros(100));
        }
        round.to_be_bytes()
    });
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
    loopback_of_both().into_iter().for_each(|config| restless(config, 1, 300));
}

#[test]
fn several_peers() {
    loopback_of_both().into_iter().for_each(|config| restless(config, 24, 2_000));
}

/// What waits in the peer's own socket when it is demoted goes before what comes then, however much it is.
#[test]
fn what_its_socket_holds_goes_first() {
    for config in loopback_of_both() {
        for k in [1, 5, 40, 200] {
            for others in [0, 3] {
                for budget in [1, 64] {
                    in_order(config.clone().turn_budget(budget), k, others);
                }
            }
        }
    }
}

/// The shard is held while `k` datagrams come by the peer's own socket, demotes it, and is held once more while
/// others come.
fn in_order(config: Config, k: u32, others: usize) -> Option<()> {
    let mut lab = Lab::start(config, Welcome::Connect)?;
    let at = lab.address();
    let client = lab.bed.peer(at);
    lab.bed.send(&client, at, b"in");
    let (peer, ..) = lab.datagram();
    lab.until_connected_to(at, &[client.address()]);
    lab.bed.send(&client, at, b"by its socket");
    lab.datagram();
    let others: Vec<_> = (0..others).map(|_| lab.bed.peer(at)).collect();
    let send = |lab: &mut Lab, numbers: std::ops::Range<u32>| {
        for n in numbers {
            others.iter().for_each(|other| lab.bed.send(other, at, &n.to_be_bytes()));
            lab.bed.send(&client, at, &n.to_be_bytes());
        }
    };
    let (begin, begun) = mpsc::channel();
    let (begin_again, begun_again) = mpsc::channel();
    let (release, until) = mpsc::channel();
    let (release_again, until_again) = mpsc::channel();
    let order: Order = Box::new(move |_, cx| {
        wait_in_callback(&begin, &until);
        cx.io.demote(peer);
        next_turn(cx.io, Box::new(move |_, _| wait_in_callback(&begin_again, &until_again)));
    });
    lab.bed.tell(&lab.server, peer.shard(), order);
    begun.recv_timeout(PATIENCE).expect("it is held");
    send(&mut lab, 0..k);
    drop(release);
    begun_again.recv_timeout(PATIENCE).expect("it is held again");
    send(&mut lab, k..2 * k);
    drop(release_again);
    send(&mut lab, 2 * k..3 * k);
    let mut next = 0;
    while next < 3 * k {
        let (_, path, _, bytes) = lab.datagram();
        if path.remote == client.address() {
            assert_eq!(bytes, next.to_be_bytes(), "k = {k}, {} others", others.len());
            next += 1;
        }
    }
    let stats = lab.until("its socket is gone", |stats| stats.demoted >= 1);
    assert_eq!((stats.kernel_dropped, stats.handovers_timed_out), (0, 0));
    lab.drain();
    Some(())
}
