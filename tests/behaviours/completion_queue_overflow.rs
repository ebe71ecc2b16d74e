//! A completion queue far too short for what happens at once: the kernel keeps the completions it has no room
//! for and ends the receives. Nothing is lost, and every send that fails is counted.

use std::net::SocketAddr;

use crate::common::gate::{Gate, STALL};
use crate::common::{Bed, Peer, loopback};
use shardgram::{Accept, Backend, Config, Context, Datagram, Handler, PeerError, PeerId, Snapshot, Via};

const PEERS: usize = 1_000;

/// Sends everything back, and something with each that must fail.
struct Unlucky {
    gate: Gate,
    /// A broadcast address: sending to one needs leave (SO_BROADCAST), so it fails with EACCES at once.
    forbidden: Option<PeerId>,
}

impl Handler for Unlucky {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let own = cx.io.listeners()[0];
        let everybody = SocketAddr::from(([255, 255, 255, 255], 9));
        self.forbidden = Some(cx.open(Via::Listener(own), everybody, ()).expect("a peer"));
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            self.gate.pass();
        }
        cx.io.send(self.forbidden.expect("it was opened"), &datagram).expect("room for a send");
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        assert_eq!((Some(peer), error), (self.forbidden, PeerError::Forbidden));
    }
}

/// All peers send at once while a callback stalls, so that all of it completes in one turn; then again while
/// the shard works it off.
fn crowd(bed: &mut Bed, config: Config) -> Snapshot {
    const EACH: u32 = 3;
    const ROUNDS: u32 = 4;
    let gate = Gate::default();
    let behind = gate.clone();
    let server = bed.serve(config, move |_| Unlucky { gate: behind.clone(), forbidden: None });
    let at = bed.address(&server);
    let slow = bed.peer(at);
    let peers: Vec<Peer> = (0..PEERS).map(|_| bed.peer(at)).collect();
    for round in 0..ROUNDS {
        let numbers = round * 2 * EACH..(round + 1) * 2 * EACH;
        bed.send(&slow, at, STALL);
        gate.is_stalled();
        for n in numbers.clone() {
            if n == numbers.start + EACH {
                gate.open();
            }
            peers.iter().for_each(|peer| bed.send(peer, at, &n.to_be_bytes()));
        }
        assert_eq!(bed.receive(&slow).1, STALL);
        for peer in &peers {
            for n in numbers.clone() {
                assert_eq!(bed.receive(peer).1, n.to_be_bytes(), "each in its order");
            }
        }
    }
    let received = u64::from(ROUNDS) * (1 + PEERS as u64 * u64::from(2 * EACH));
    bed.until("the failures are known", |bed| bed.stats(&server).send_failed_other == received);
    let stats = bed.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.kernel_dropped), (received, received, 0));
    if let Bed::Real(Backend::Uring) = bed {
        assert!(stats.rearmed > 0, "the test is of no use if the queue suffices: {stats:?}");
    }
    let stats = bed.drain(server);
    assert_eq!((stats.sent(), stats.send_failed()), (received, received), "{stats:?}");
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
    stats
}

fn nothing_is_lost_and_failed_sends_are_counted(mut bed: Bed) {
    for submissions in [4, 8] {
        // Buffers for all that completes at once: what ends a receive is the queue, not want of them.
        let queues = loopback().submission_entries(submissions).completion_entries(8);
        let stats = crowd(&mut bed, queues.turn_budget(1024));
        if let Bed::Real(Backend::Uring) = bed {
            assert_eq!(stats.buffers_exhausted, 0, "{stats:?}");
        }
    }
}

fn with_few_buffers_too(mut bed: Bed) {
    let queues = loopback().submission_entries(4).completion_entries(8);
    crowd(&mut bed, queues.receive_buffers(8));
}

on_real_drivers!(nothing_is_lost_and_failed_sends_are_counted, with_few_buffers_too);
