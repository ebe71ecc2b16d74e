//! Many members who all speak at once, with the bounds that a server has by default: everyone hears everything, on one
//! shard and on two, or it is known exactly what another shard was not told.
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use crate::common::source::roomy;
use crate::common::{Bed, PATIENCE, loopback};
use shardgram::{Accept, Context, Datagram, Full, Handler, Origin, PeerId};
use shardgram_sys::socket::drop_count;

/// What each shard was not told.
type Untold = Arc<[AtomicU64; 2]>;

struct Room(Untold);

fn pass_on(cx: &mut Context<'_, Room>, said: &[u8], from: Option<PeerId>) {
    let Ok(said) = cx.io.share(said) else { return };
    for (peer, ()) in cx.peers.iter().filter(|(peer, ())| Some(*peer) != from) {
        let _ = cx.io.send_shared(peer, said); // a refusal is counted
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
        if &*datagram == b"?" {
            let here = [cx.io.shard() as u8];
            return cx.io.send(from, &here).expect("room for one");
        }
        pass_on(cx, &datagram, Some(from));
        for other in (0..cx.io.shards()).filter(|other| *other != from.shard()).collect::<Vec<_>>() {
            if let Err(Full(_)) = cx.io.tell(other, datagram.to_vec()) {
                self.0[usize::from(other)].fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, said: Vec<u8>) {
        pass_on(cx, &said, None);
    }
}

struct Member {
    socket: UdpSocket,
    shard: usize,
    heard: u64,
}

impl Member {
    fn join(at: std::net::SocketAddr) -> Self {
        let socket = roomy(([127, 0, 0, 1], 0).into());
        socket.connect(at).unwrap();
        socket.send(b"?").unwrap();
        let mut shard = [0];
        assert_eq!(socket.recv(&mut shard).expect("it is let in"), 1);
        socket.set_nonblocking(true).unwrap();
        Self { socket, shard: usize::from(shard[0]), heard: 0 }
    }

    /// What it heard, and what found no room in its own socket.
    fn account(&mut self) -> u64 {
        while self.socket.recv(&mut [0; 16]).is_ok() {
            self.heard += 1;
        }
        self.heard + drop_count(&self.socket).unwrap()
    }
}

fn everyone_speaks(bed: &mut Bed, count: usize, shards: u16, mailbox_len: u32) {
    let untold = Untold::default();
    let told = Arc::clone(&untold);
    let config = loopback().shards(shards).mailbox_len(mailbox_len).idle_timeout(None);
    let server = bed.serve(config, move |_| Room(Arc::clone(&told)));
    let at = bed.address(&server);
    let mut members: Vec<Member> = (0..count).map(|_| Member::join(at)).collect();
    for member in &members {
        member.socket.send(b"hello").unwrap();
    }
    let mut heard = 0;
    let mut since = Instant::now();
    loop {
        let accounts: Vec<u64> = members.iter_mut().map(Member::account).collect();
        let stats = bed.stats(&server);
        let untold = [0, 1].map(|shard| untold[shard].load(Ordering::Relaxed));
        let passed_on = stats.delivered == 2 * count as u64
            && stats.messages + untold.iter().sum::<u64>() == u64::from(shards - 1) * count as u64;
        let all = |(member, account): (&Member, &u64)| *account == count as u64 - 1 - untold[member.shard];
        if passed_on && members.iter().zip(&accounts).all(all) {
            break;
        }
        let now = accounts.iter().sum();
        if now > heard {
            (heard, since) = (now, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{heard} of {}: {stats:?}", count * (count - 1));
    }
    let stats = bed.drain(server);
    assert_eq!((stats.send_refused_full, stats.send_failed(), stats.held_back), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.peers_opened, count as u64, "nobody was closed: {stats:?}");
    assert_eq!(stats.sent(), count as u64 + heard_of(&members), "{stats:?}");
}

/// What was sent to members, whether it found room in their sockets or not.
fn heard_of(members: &[Member]) -> u64 {
    members.iter().map(|member| member.heard + drop_count(&member.socket).unwrap()).sum()
}

fn three_hundred_members(mut bed: Bed) {
    everyone_speaks(&mut bed, 300, 1, 4_096);
    everyone_speaks(&mut bed, 300, 2, 4_096);
    everyone_speaks(&mut bed, 300, 2, 4);
}

fn a_thousand_members(mut bed: Bed) {
    everyone_speaks(&mut bed, 1_000, 1, 4_096);
    everyone_speaks(&mut bed, 1_000, 2, 4_096);
}

on_real_drivers!(three_hundred_members, a_thousand_members);
