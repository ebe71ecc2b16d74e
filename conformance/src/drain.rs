//! Draining answers all that had arrived, ends when its handler is done, and keeps its deadline.
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};

use super::{Bed, Echo, End, Ended, PATIENCE, loopback};
use shardgram_core::flow::flow_shard;
use shardgram_core::{Accept, CloseReason, Config, Context, Datagram, Drain, Handler, PeerId};

const BURST: usize = 1_000;

pub fn what_had_arrived_is_answered<B: Bed>(bed: B) {
    all_is_answered(bed, loopback());
}

/// The receive ends for want of buffers again and again, each time in a turn that brings nothing else.
pub fn what_had_arrived_is_answered_with_few_buffers<B: Bed>(bed: B) {
    all_is_answered(bed, loopback().receive_buffers(8).turn_budget(1));
}

fn all_is_answered<B: Bed>(mut bed: B, config: Config) {
    let server = bed.serve(config.shards(2), |_| Echo);
    let at = bed.address(&server);
    let peers: Vec<_> = (0..10).map(|_| bed.peer(at)).collect();
    for i in 0..BURST {
        bed.send(&peers[i % peers.len()], at, &i.to_be_bytes());
    }
    let stats = bed.drain(server);
    assert_eq!(stats.received, BURST as u64, "all of it was still read: {stats:?}");
    for i in 0..BURST {
        assert_eq!(bed.receive(&peers[i % peers.len()]).1, i.to_be_bytes(), "and answered, in order");
    }
    assert_eq!((stats.peers_opened, stats.peers_closed), (10, 10));
}

/// Says goodbye when the server drains, and closes a peer when it says goodbye too.
struct Polite(Sender<CloseReason>);

impl Handler for Polite {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if datagram.starts_with(b"bye") {
            cx.io.close(from);
        }
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_drain(&mut self, cx: &mut Context<'_, Self>, _: Instant) -> Drain {
        for (peer, ()) in cx.peers.iter_mut() {
            cx.io.send(peer, b"we are closing").unwrap();
        }
        Drain::WhenPeersGone
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        let _ = self.0.send(why);
    }
}

pub fn a_handler_may_see_its_peers_off<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let server = bed.serve(loopback(), move |_| Polite(sender.clone()));
    let at = bed.address(&server);
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
    bed.start_drain(&server, PATIENCE);
    assert_eq!(bed.receive(&peer).1, b"we are closing");
    assert_eq!(bed.ask(&peer, at, b"one more thing"), b"one more thing", "it is still served");
    assert_eq!(bed.ask(&peer, at, b"bye"), b"bye");
    bed.drain(server);
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [CloseReason::Asked]);
}

pub fn the_deadline_holds_when_peers_stay<B: Bed>(mut bed: B) {
    let (sender, receiver) = channel();
    let server = bed.serve(loopback(), move |_| Polite(sender.clone()));
    let at = bed.address(&server);
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
    let began = bed.now();
    bed.start_drain(&server, Duration::from_millis(100));
    let Ended { total, shards } = bed.wait(server);
    assert_eq!((shards, total.unaccounted()), (vec![End::Deadline], 0));
    assert!(bed.now() - began >= Duration::from_millis(100));
    assert_eq!(receiver.try_iter().collect::<Vec<_>>(), [CloseReason::Drained]);
}

enum Talk {
    Question,
    Answer,
}

/// Shard 0 asks shard 1 something when its last peer leaves, and waits for nothing.
struct Asker(Sender<()>);

impl Handler for Asker {
    type Peer = ();
    type Timer = ();
    type Message = Talk;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if datagram.starts_with(b"bye") {
            assert!(cx.io.tell(1, Talk::Question).is_ok());
            cx.io.close(from);
        }
        let len = datagram.len();
        cx.io.reply(datagram, len).unwrap();
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, talk: Talk) {
        match talk {
            Talk::Question => assert!(cx.io.tell(0, Talk::Answer).is_ok()),
            Talk::Answer => self.0.send(()).unwrap(),
        }
    }

    fn on_drain(&mut self, _: &mut Context<'_, Self>, _: Instant) -> Drain {
        Drain::WhenPeersGone
    }
}

pub fn no_shard_ends_while_mail_is_under_way<B: Bed>(mut bed: B) {
    for _ in 0..30 {
        let (sender, answers) = channel();
        let server = bed.serve(loopback().shards(2), move |_| Asker(sender.clone()));
        let at = bed.address(&server);
        let peer = loop {
            let peer = bed.peer(at);
            if flow_shard(bed.address_of(&peer), 2) == 0 {
                break peer;
            }
        };
        assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
        bed.start_drain(&server, PATIENCE);
        assert_eq!(bed.ask(&peer, at, b"bye"), b"bye");
        let stats = bed.drain(server);
        assert_eq!((answers.try_iter().count(), stats.messages), (1, 2), "question and answer arrived");
    }
}

/// Always has something left to tell itself.
struct Restless;

impl Handler for Restless {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: shardgram_core::Origin, (): ()) {
        let myself = cx.io.shard();
        let _ = cx.io.tell(myself, ());
    }
}

pub fn a_handler_that_never_rests_ends_at_the_deadline<B: Bed>(mut bed: B) {
    let server = bed.serve(loopback(), |_| Restless);
    bed.tell(&server, 0, ());
    bed.start_drain(&server, Duration::from_millis(10));
    let Ended { shards, .. } = bed.wait(server);
    assert_eq!(shards, [End::Deadline]);
}
