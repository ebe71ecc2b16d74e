//! A submission queue of four entries: turns with hundreds of replies, copies for everybody, endpoints to arm
//! and shards to wake go through it in many pieces, and nothing is lost or changes its place.

use std::net::SocketAddr;

use crate::common::gate::{Gate, STALL};
use crate::common::{Bed, Peer, loopback};
use shardgram::{Accept, Config, Context, Datagram, Endpoint, Handler, Origin, PeerId, Via};

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

/// Opens many endpoints at once and speaks with one peer along each; tells its neighbour of every answer.
struct Caller {
    to: SocketAddr,
    calls: u32,
}

impl Handler for Caller {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        for n in 0..self.calls {
            let endpoint = cx.io.endpoint(Endpoint::bound(([127, 0, 0, 1], 0).into())).expect("an endpoint");
            let number = u32::from(cx.io.shard()) * self.calls + n;
            let peer = cx.open(Via::Endpoint(endpoint), self.to, number).expect("a peer");
            cx.io.send(peer, &number.to_be_bytes()).expect("room for a send");
        }
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Drop("nobody calls here")
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let number = cx.peers.get(from).copied().expect("a peer");
        assert_eq!(&datagram[..], number.to_be_bytes(), "each hears its own number");
        let neighbour = 1 - cx.io.shard();
        cx.io.tell(neighbour, ()).expect("room for a message");
        cx.io.send(from, &datagram).expect("room for a send");
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, from: Origin, (): ()) {
        assert!(matches!(from, Origin::Shard(_)));
    }
}

fn many_endpoints_and_wake_ups(mut bed: Bed) {
    // What all endpoints say at once fits into their friend's buffer.
    const CALLS: u32 = 50;
    const ROUNDS: u32 = 5;
    let friend = bed.peer(([127, 0, 0, 1], 0).into());
    let to = friend.address();
    let config = Config::new().submission_entries(ENTRIES).completion_entries(8).shards(2);
    let client = bed.serve(config, move |_| Caller { to, calls: CALLS });
    for round in 0..=ROUNDS {
        let mut heard: Vec<_> = (0..2 * CALLS).map(|_| bed.receive(&friend)).collect();
        if round < ROUNDS {
            heard.iter().for_each(|(from, bytes)| bed.send(&friend, *from, bytes));
        }
        heard.sort_by(|a, b| a.1.cmp(&b.1));
        let numbers = heard.into_iter().map(|(_, bytes)| u32::from_be_bytes(bytes[..].try_into().unwrap()));
        assert!(numbers.eq(0..2 * CALLS), "each endpoint is heard once a round");
    }
    let expected = u64::from(2 * CALLS * ROUNDS);
    bed.until("all messages come", |bed| bed.stats(&client).messages == expected);
    let stats = bed.drain(client);
    assert_eq!((stats.delivered, stats.kernel_dropped), (expected, 0));
    assert_eq!((stats.sent(), stats.send_failed()), (expected + u64::from(2 * CALLS), 0));
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}

on_real_drivers!(a_turn_of_many_replies_and_copies, many_endpoints_and_wake_ups);
