//! How a shard waits changes what it costs, not what it does: datagrams, messages and timers are served with each policy.
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use super::{Bed, loopback};
use shardgram_core::{Accept, Context, Datagram, Handler, Origin, PeerId, WaitPolicy};

/// Echoes, and does what messages say.
struct Waiter;

enum Order {
    /// Have the next shard say something after that time; how late it was.
    Remind(Duration, Sender<Duration>),
    Say(Sender<Duration>, Duration),
}

impl Handler for Waiter {
    type Peer = ();
    type Timer = (Instant, Sender<Duration>);
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Remind(after, tell) => {
                let at = cx.io.now() + after;
                assert!(cx.io.set_timer(at, (at, tell)).is_ok(), "room for a timer");
            }
            Order::Say(tell, late) => tell.send(late).unwrap(),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (at, tell): Self::Timer) {
        assert!(cx.io.now() >= at, "it is too early");
        let next = (cx.io.shard() + 1) % cx.io.shards();
        let late = cx.io.now() - at;
        assert!(cx.io.tell(next, Order::Say(tell, late)).is_ok(), "room for a message");
    }
}

const POLICIES: [WaitPolicy; 4] = [
    WaitPolicy::Block,
    WaitPolicy::Spin,
    WaitPolicy::SpinFor(Duration::from_micros(50)),
    WaitPolicy::SpinFor(Duration::from_millis(20)),
];

pub fn each_policy_serves<B: Bed>(mut bed: B) {
    for policy in POLICIES {
        let server = bed.serve(loopback().wait(policy).shards(2), |_| Waiter);
        let at = bed.address(&server);
        let peers: Vec<_> = (0..8).map(|_| bed.peer(at)).collect();
        for round in 0..5_u8 {
            for peer in &peers {
                assert_eq!(bed.ask(peer, at, &[round]), [round], "{policy}");
            }
            // With some the shards are asleep by now, with others not.
            bed.pass(Duration::from_millis(1));
        }
        for shard in 0..2 {
            let (tell, told) = mpsc::channel();
            bed.tell(&server, shard, Order::Remind(Duration::from_millis(30), tell));
            bed.hear(&told);
        }
        let stats = bed.drain(server);
        assert_eq!(
            (stats.received, stats.sent(), stats.timers_fired, stats.messages),
            (40, 40, 2, 4),
            "{policy}"
        );
    }
}
