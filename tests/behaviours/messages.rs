//! Messages reach the shard they are for, in the order in which each sender sent them, and wake it.
use std::sync::mpsc::{Sender, channel};

use crate::common::{Bed, loopback};
use shardgram::{Accept, Context, Datagram, Full, Handler, Origin, ShardInfo};

const SHARDS: u16 = 3;
const EACH: u32 = 5_000;

enum Word {
    /// Begin to count towards every other shard.
    Start,
    Number(u32),
}

/// Sends numbers to every other shard as mailboxes have room, and reports what it hears.
struct Counter {
    info: ShardInfo,
    next: Vec<u32>,
    heard: Sender<(u16, Origin, u32)>,
}

impl Counter {
    fn go_on(&mut self, cx: &mut Context<'_, Self>) {
        for to in (0..self.info.shards).filter(|to| *to != self.info.shard) {
            let next = &mut self.next[usize::from(to)];
            while *next < EACH {
                match cx.io.tell(to, Word::Number(*next)) {
                    Ok(()) => *next += 1,
                    Err(Full(Word::Number(back))) => {
                        assert_eq!(back, *next, "a full mailbox gives the message back");
                        break;
                    }
                    Err(Full(Word::Start)) => unreachable!("a number was sent"),
                }
            }
        }
        if self.next.iter().any(|n| *n < EACH) {
            let soon = cx.io.now() + std::time::Duration::from_micros(50);
            let _ = cx.io.set_timer(soon, ());
        }
    }
}

impl Handler for Counter {
    type Peer = ();
    type Timer = ();
    type Message = Word;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.go_on(cx);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, from: Origin, word: Word) {
        match word {
            Word::Start => self.go_on(cx),
            Word::Number(n) => {
                let _ = self.heard.send((self.info.shard, from, n));
            }
        }
    }
}

fn every_sender_is_heard_in_order(mut bed: Bed) {
    let (sender, receiver) = channel();
    let config = loopback().shards(SHARDS).mailbox_len(64);
    let server = bed.serve(config, move |info| {
        let mut next = vec![0; usize::from(info.shards)];
        next[usize::from(info.shard)] = EACH;
        Counter { info, next, heard: sender.clone() }
    });
    for shard in 0..SHARDS {
        // Those that have started may fill its mailbox at any moment.
        bed.until("room for the word", |bed| bed.try_tell(&server, shard, Word::Start));
    }
    let expected = usize::from(SHARDS * (SHARDS - 1)) * EACH as usize;
    let mut heard = Vec::new();
    bed.until("all is heard", |_| {
        heard.extend(receiver.try_iter());
        heard.len() >= expected
    });
    for to in 0..SHARDS {
        for from in (0..SHARDS).filter(|from| *from != to) {
            let numbers = heard.iter().filter(|h| h.0 == to && h.1 == Origin::Shard(from)).map(|h| h.2);
            assert!(numbers.eq(0..EACH), "from {from} to {to}: each once and in order");
        }
    }
    let stats = bed.drain(server);
    assert_eq!(stats.messages, expected as u64 + u64::from(SHARDS));
}

fn a_sleeping_shard_hears_a_handle_at_once(mut bed: Bed) {
    let (sender, receiver) = channel();
    let server = bed.serve(loopback(), move |info| Counter { info, next: vec![EACH], heard: sender.clone() });
    for n in 0..100 {
        bed.tell(&server, 0, Word::Number(n));
        let mut heard = None;
        bed.until("it is heard", |_| {
            heard = receiver.try_iter().next();
            heard.is_some()
        });
        assert_eq!(heard, Some((0, Origin::Handle, n)));
    }
    bed.drain(server);
}

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

/// A message that comes while a shard is sending what another one asked for is heard, though nothing else comes.
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

mod sending {
    use super::a_shard_that_is_sending_hears;
    on_real_drivers!(a_shard_that_is_sending_hears);
}

on_all_drivers!(every_sender_is_heard_in_order, a_sleeping_shard_hears_a_handle_at_once);
