//! Many who speak at once to all others overfill the outbox of a turn, so the turn hands over less: everyone hears
//! everything, and nobody is refused for what others queued. What asks for more than there is is told which bound it met.
use std::collections::BTreeSet;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::{Bed, Sending, loopback};
use shardgram_core::{
    Accept, Bound, Capability, Config, Context, Datagram, Full, Handler, Origin, PeerId, SendError,
};

const MEMBERS: usize = 60;
/// Room for what two and a half of them say.
const OUTBOX: u32 = 150;

/// What a room could not do.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Lost {
    Unsent(SendError),
    /// Another shard has heard nothing of this.
    Untold(u16, Vec<u8>),
}

/// Passes on what is said to everybody else, on other shards by messages.
struct Room(Sender<Lost>);

impl Room {
    fn pass_on(&self, cx: &mut Context<'_, Self>, said: &[u8], from: Option<PeerId>) {
        let shared = match cx.io.share(said) {
            Ok(shared) => shared,
            Err(error) => return self.0.send(Lost::Unsent(error)).unwrap(),
        };
        for (peer, ()) in cx.peers.iter().filter(|(peer, ())| Some(*peer) != from) {
            if let Err(error) = cx.io.send_shared(peer, shared) {
                self.0.send(Lost::Unsent(error)).unwrap();
            }
        }
    }
}

impl Handler for Room {
    type Peer = ();
    type Timer = ();
    type Message = Vec<u8>;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if datagram.is_empty() {
            let here = [cx.io.shard() as u8];
            return cx.io.send(from, &here).expect("room for one");
        }
        self.pass_on(cx, &datagram, Some(from));
        let (here, shards) = (cx.io.shard(), cx.io.shards());
        for shard in (0..shards).filter(|shard| *shard != here) {
            if let Err(Full(said)) = cx.io.tell(shard, datagram.to_vec()) {
                self.0.send(Lost::Untold(shard, said)).unwrap();
            }
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, said: Vec<u8>) {
        self.pass_on(cx, &said, None);
    }
}

/// A room with members, and the shard of each.
type Meeting<B> =
    (<B as Bed>::Server<Vec<u8>>, std::net::SocketAddr, Vec<(<B as Bed>::Peer, u16)>, Receiver<Lost>);

fn meet<B: Bed>(bed: &mut B, config: Config, members: usize) -> Meeting<B> {
    let (sender, lost) = channel();
    let server = bed.serve(config, move |_| Room(sender.clone()));
    let at = bed.address(&server);
    let join = |bed: &mut B| {
        let peer = bed.peer(at);
        let shard = u16::from(bed.ask(&peer, at, b"")[0]);
        (peer, shard)
    };
    let members = (0..members).map(|_| join(bed)).collect();
    (server, at, members, lost)
}

/// What a member heard, as numbers of members and of words.
fn heard<B: Bed>(bed: &mut B, member: &B::Peer, count: usize) -> BTreeSet<(u8, u8)> {
    let words = (0..count).map(|_| {
        let word = bed.receive(member).1;
        (word[0], word[1])
    });
    words.collect()
}

pub fn everyone_hears_everyone<B: Bed>(mut bed: B) {
    let (server, at, members, lost) = meet(&mut bed, loopback().outbox_datagrams(OUTBOX), MEMBERS);
    for word in 0..2 {
        for (number, (member, _)) in members.iter().enumerate() {
            bed.send(member, at, &[number as u8, word]);
        }
    }
    for (number, (member, _)) in members.iter().enumerate() {
        let heard = heard(&mut bed, member, 2 * (MEMBERS - 1));
        let others = (0..MEMBERS as u8).filter(|other| usize::from(*other) != number);
        assert_eq!(heard, others.flat_map(|other| [(other, 0), (other, 1)]).collect());
    }
    assert_eq!(lost.try_iter().next(), None);
    let stats = bed.drain(server);
    assert_eq!((stats.send_refused_full, stats.held_back, stats.peers_opened), (0, 0, MEMBERS as u64));
}

pub fn everyone_hears_members_of_other_shards_or_their_shard_is_told_that_it_did_not<B: Bed>(mut bed: B) {
    for mailbox in [2, 4_096] {
        let config = loopback().shards(2).outbox_datagrams(OUTBOX).mailbox_len(mailbox);
        let (server, at, members, lost) = meet(&mut bed, config, MEMBERS);
        for word in 0..2 {
            for (number, (member, _)) in members.iter().enumerate() {
                bed.send(member, at, &[number as u8, word]);
            }
        }
        // What was told counts as handled when all of it was passed on.
        let all = 2 * MEMBERS as u64;
        let mut untold = Vec::new();
        bed.until("all has been said", |bed| {
            untold.extend(lost.try_iter());
            bed.stats(&server).messages + untold.len() as u64 == all
        });
        let untold: BTreeSet<(u16, u8, u8)> = untold
            .into_iter()
            .map(|lost| match lost {
                Lost::Untold(shard, word) => (shard, word[0], word[1]),
                Lost::Unsent(error) => panic!("{error}"),
            })
            .collect();
        for (number, (member, shard)) in members.iter().enumerate() {
            let words = (0..MEMBERS as u8).flat_map(|other| [(other, 0), (other, 1)]);
            let expected: BTreeSet<_> = words
                .filter(|(other, word)| {
                    usize::from(*other) != number && !untold.contains(&(*shard, *other, *word))
                })
                .collect();
            assert_eq!(heard(&mut bed, member, expected.len()), expected, "{untold:?}");
        }
        let stats = bed.drain(server);
        assert_eq!((stats.send_refused_full, stats.messages_refused), (0, untold.len() as u64));
    }
}

pub fn a_train_waits_for_room<B: Bed>(mut bed: B) {
    const WORDS: u8 = 20;
    let (server, at, members, lost) = meet(&mut bed, loopback().outbox_datagrams(OUTBOX), MEMBERS);
    let trains = bed.expected(Capability::TrainsIn).reason().is_none();
    for number in 0..2 {
        let words: Vec<[u8; 2]> = (0..WORDS).map(|word| [number, word]).collect();
        let member = &members[usize::from(number)].0;
        if trains {
            let train = words.concat();
            bed.send_as(member, at, Sending { segment: Some(2), ..Sending::of(&train) });
        } else {
            words.iter().for_each(|word| bed.send(member, at, word));
        }
        bed.send(member, at, &[number, WORDS]);
    }
    for (number, (member, _)) in members.iter().enumerate() {
        let mut next = [0; 2];
        next.iter_mut().skip(number).take(1).for_each(|own| *own = WORDS + 1);
        while next != [WORDS + 1; 2] {
            let word = bed.receive(member).1;
            let next = &mut next[usize::from(word[0])];
            assert_eq!(word[1], *next, "those of each come in order");
            *next += 1;
        }
    }
    assert_eq!(lost.try_iter().next(), None);
    let stats = bed.drain(server);
    assert_eq!((stats.send_refused_full, stats.held_back), (0, 0));
}

pub fn what_asks_for_more_than_there_is_is_told_which_bound_it_met<B: Bed>(mut bed: B) {
    let config = loopback().outbox_datagrams(10).outbox_bytes(64 << 10);
    let (server, at, members, lost) = meet(&mut bed, config, 21);
    bed.send(&members[0].0, at, &[0, 0]);
    for _ in 0..10 {
        let refused = Lost::Unsent(SendError::Full(Bound::OutboxDatagrams));
        assert_eq!(bed.hear(&lost), refused);
    }
    bed.tell(&server, 0, vec![0; (64 << 10) + 1]);
    assert_eq!(bed.hear(&lost), Lost::Unsent(SendError::Full(Bound::OutboxBytes)));
    let told: Vec<bool> = members[1..]
        .iter()
        .map(|(member, _)| {
            let came = bed.take(member, std::time::Duration::from_millis(20));
            came.is_some_and(|came| came.bytes == [0, 0])
        })
        .collect();
    assert_eq!(told.iter().filter(|told| **told).count(), 10, "what was taken has left");
    let stats = bed.drain(server);
    assert_eq!((stats.send_refused_full, stats.send_refused_outbox), (11, 11), "{stats:?}");
    assert_eq!((stats.peers_opened, lost.try_iter().next()), (21, None));
}
