//! A submission queue of four entries: turns with hundreds of replies and copies for everybody go through it in many
//! pieces, and nothing is lost or changes its place.

use crate::common::gate::{Gate, STALL};
use crate::common::{Bed, Peer, loopback};
use shardgram::{Accept, Config, Context, Datagram, Handler, PeerId};

const ENTRIES: u16 = 4;
const MEMBERS: usize = 200;
/// First byte of what every member is to hear.
const ALL: u8 = b'*';

fn few_entries() -> Config {
    loopback().submission_entries(ENTRIES).turn_budget(4096)
}

/// Replies to each member, and passes on to all of them what begins with [`ALL`].
struct Room(Gate);

impl Handler for Room {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            self.0.pass();
        } else if datagram.first() == Some(&ALL) {
            let shared = cx.io.share(&datagram).expect("room for a copy");
            for (peer, ()) in cx.peers.iter() {
                cx.io.send_shared(peer, shared).expect("room for a send");
            }
            return;
        }
        let len = datagram.len();
        assert_eq!(cx.io.path(from).map(|path| path.remote), Some(datagram.path().remote));
        cx.io.reply(datagram, len).expect("room for a reply");
    }
}

fn a_turn_of_many_replies_and_copies(mut bed: Bed) {
    const ROUNDS: u8 = 10;
    let gate = Gate::default();
    let behind = gate.clone();
    let server = bed.serve(few_entries(), move |_| Room(behind.clone()));
    let at = bed.address(&server);
    let members: Vec<Peer> = (0..MEMBERS).map(|_| bed.peer(at)).collect();
    for member in &members {
        assert_eq!(bed.ask(member, at, b"hello"), b"hello");
    }
    for round in 0..ROUNDS {
        bed.send(&members[0], at, STALL);
        gate.is_stalled();
        // All of this is one turn: 600 replies and 400 copies, those of one member being 5.
        members.iter().for_each(|member| bed.send(member, at, &[round, 1]));
        bed.send(&members[1], at, &[ALL, round, 1]);
        members.iter().for_each(|member| bed.send(member, at, &[round, 2]));
        bed.send(&members[2], at, &[ALL, round, 2]);
        members.iter().for_each(|member| bed.send(member, at, &[round, 3]));
        gate.open();
        assert_eq!(bed.receive(&members[0]).1, STALL);
        for member in &members {
            for expected in [&[round, 1][..], &[ALL, round, 1], &[round, 2], &[ALL, round, 2], &[round, 3]] {
                assert_eq!(bed.receive(member), (at, expected.to_vec()), "each in its order");
            }
        }
    }
    let stats = bed.drain(server);
    let members = MEMBERS as u64;
    let received = members + u64::from(ROUNDS) * (3 * members + 3);
    assert_eq!((stats.received, stats.kernel_dropped), (received, 0));
    assert_eq!(stats.sent(), members + u64::from(ROUNDS) * (5 * members + 1));
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}

on_real_drivers!(a_turn_of_many_replies_and_copies);
