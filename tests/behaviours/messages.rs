//! A message that comes while a shard is sending what another one asked for is heard, though nothing else comes.
use std::sync::mpsc::{Sender, channel};

use crate::common::{Bed, loopback};
use shardgram::{Accept, Context, Datagram, Handler, Origin};

/// Sends many datagrams for each message, and says that it has handled it.
struct Busy(Sender<u32>);

impl Handler for Busy {
    type Peer = ();
    type Timer = ();
    type Message = u32;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, number: u32) {
        for (peer, ()) in cx.peers.iter() {
            for _ in 0..SENDS {
                // One turn may take so many messages that the outbox is full.
                let _ = cx.io.send(peer, b"one of many");
            }
        }
        let _ = self.0.send(number);
    }
}

/// More than go into one entry of the kernel.
const SENDS: u32 = 1_500;

fn a_shard_that_is_sending_hears(mut bed: Bed) {
    let (sender, heard) = channel();
    let server = bed.serve(loopback().idle_timeout(None), move |_| Busy(sender.clone()));
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, b"here I am");
    bed.until("it is known", |bed| bed.stats(&server).delivered == 1);
    for round in 0..400 {
        bed.tell(&server, 0, 2 * round);
        // At some time of the turn in which it sends.
        let begin = std::time::Instant::now();
        while begin.elapsed() < std::time::Duration::from_micros(5 * u64::from(round)) {}
        bed.tell(&server, 0, 2 * round + 1);
        for number in [2 * round, 2 * round + 1] {
            // In slices, so that a test that is stopped for a while does not take that for silence.
            let mut slices = (0..500).map(|_| heard.recv_timeout(std::time::Duration::from_millis(20)));
            assert_eq!(slices.find_map(Result::ok), Some(number));
        }
    }
    let stats = bed.drain(server);
    assert_eq!(stats.messages, 800);
}

on_real_drivers!(a_shard_that_is_sending_hears);
