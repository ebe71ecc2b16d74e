//! Messages reach the shard they are for, in the order in which each sender sent them, and wake it.
use std::sync::mpsc::{Sender, channel};

use super::{Bed, loopback};
use shardgram_core::{Accept, Context, Datagram, Full, Handler, Origin, ShardInfo};

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

pub fn every_sender_is_heard_in_order<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let config = loopback().shards(SHARDS).mailbox_len(64);
    let server = bed.serve(config, move |info| {
        let mut next = vec![0; usize::from(info.shards)];
        next[usize::from(info.shard)] = EACH;
        Counter { info, next, heard: sender.clone() }
    });
    for shard in 0..SHARDS {
        // Those that have started may fill its mailbox at any moment.
        bed.until("room for the word", |bed| bed.try_tell(&server, shard, Word::Start).is_ok());
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

pub fn a_sleeping_shard_hears_a_handle_at_once<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let server = bed.serve(loopback(), move |info| Counter { info, next: vec![EACH], heard: sender.clone() });
    for n in 0..100 {
        bed.tell(&server, 0, Word::Number(n));
        assert_eq!(bed.hear(&receiver), (0, Origin::Handle, n));
    }
    bed.drain(server);
}

pub fn a_handle_is_heard_in_order<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let config = loopback().shards(2).mailbox_len(64);
    let server = bed.serve(config, move |info| Counter { info, next: vec![EACH; 2], heard: sender.clone() });
    for n in 0..EACH {
        let shard = (n % 2) as u16;
        let mut word = Some(Word::Number(n));
        // A full mailbox gives it back.
        bed.until("room for the word", |bed| {
            let Some(next) = word.take() else { return true };
            word = bed.try_tell(&server, shard, next).err();
            word.is_none()
        });
    }
    let heard: Vec<_> = (0..EACH).map(|_| bed.hear(&receiver)).collect();
    for shard in 0..2 {
        let numbers = heard.iter().filter(|(at, ..)| *at == shard).map(|(_, from, n)| (*from, *n));
        let expected = (u32::from(shard)..EACH).step_by(2).map(|n| (Origin::Handle, n));
        assert!(numbers.eq(expected), "each once and in order");
    }
    assert_eq!(bed.drain(server).messages, u64::from(EACH));
}
