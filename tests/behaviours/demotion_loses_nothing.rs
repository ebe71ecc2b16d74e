//! Peers that flood while they are promoted and demoted again and again lose nothing, and stay in order.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerId, Tier};

use crate::common::lab::loopback_of_both;
use crate::common::{Bed, PATIENCE};

/// What is kept of a peer.
#[derive(Default)]
struct Flow {
    last: u64,
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
        let number = u64::from_be_bytes(datagram[..].try_into().expect("a number"));
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
                Some(Tier::Connected) if (self.turns + n as u64) % (3 + n as u64) == 0 => cx.io.demote(*peer),
                _ => {}
            }
        }
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, tell: mpsc::Sender<u64>) {
        self.calm = true;
        tell.send(self.out_of_order).expect("the test waits");
    }
}

fn flood(sockets: &[UdpSocket], to: SocketAddr, stop: &AtomicBool) -> u64 {
    let mut sent = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        sent += 1;
        for socket in sockets {
            socket.send_to(&sent.to_be_bytes(), to).expect("sent");
        }
    }
    sent * sockets.len() as u64
}

fn restless(config: Config, peers: usize, demotions: u64) {
    let Some(mut bed) = Bed::uring() else { return };
    let server = bed.serve(config, |_| Restless::default());
    let at = bed.address(&server);
    let sockets: Vec<_> = (0..peers).map(|_| UdpSocket::bind((at.ip(), 0)).expect("a free port")).collect();
    let stop = AtomicBool::new(false);
    let sent = std::thread::scope(|scope| {
        let flood = scope.spawn(|| flood(&sockets, at, &stop));
        let mut last = 0;
        bed.until("many demotions", |bed| {
            last = bed.stats(&server).demoted;
            last >= demotions
        });
        stop.store(true, Ordering::Relaxed);
        flood.join().expect("no panic")
    });
    bed.until("all of it is accounted for", |bed| {
        let stats = bed.stats(&server);
        stats.received + stats.kernel_dropped >= sent
    });
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
