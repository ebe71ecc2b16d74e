//! A peer that moves to a socket of its own still has datagrams in the listener's queue: they go first.
//!
//! The shard is held in a callback while the peer's datagrams are queued at the listener, makes the socket in
//! the next turn, and is held once more while others are queued at that one; then it goes on.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerId, Tier};

use crate::common::lab::{
    Flood, Lab, Order, Welcome, alone, loopback_of_both, next_turn, sockets_at, until_accounted,
    wait_in_callback,
};
use crate::common::{Bed, PATIENCE, Served, loopback};

fn number(bytes: &[u8]) -> u32 {
    u32::from_be_bytes(bytes.try_into().expect("a number"))
}

/// Holds the shard, lets `before` send, promotes the peer, holds the shard again in the turn that has made the
/// socket, lets `after` send, and lets it go.
fn promote_between(lab: &mut Lab, peer: PeerId, before: impl FnOnce(&mut Lab), after: impl FnOnce(&mut Lab)) {
    let (begin, begun) = mpsc::channel();
    let (begin_again, begun_again) = mpsc::channel();
    let (release, until) = mpsc::channel();
    let (release_again, until_again) = mpsc::channel();
    let order: Order = Box::new(move |_, cx| {
        wait_in_callback(&begin, &until);
        cx.io.promote(peer);
        next_turn(cx.io, Box::new(move |_, _| wait_in_callback(&begin_again, &until_again)));
    });
    lab.bed.tell(&lab.server, peer.shard(), order);
    begun.recv_timeout(PATIENCE).expect("it is held");
    before(lab);
    drop(release);
    begun_again.recv_timeout(PATIENCE).expect("it is held again");
    after(lab);
    drop(release_again);
}

/// One datagram is handed over in a turn, so that the listener still has all others when the socket is there.
fn step_by_step(config: Config) -> Config {
    config.turn_budget(1)
}

/// `k` datagrams by either way, with those of others in between, and another `k` when it is over.
fn in_order(config: Config, k: u32, others: usize) -> Option<()> {
    let mut lab = Lab::start(config, Welcome::Peer)?;
    let at = lab.address();
    let client = lab.bed.peer(at);
    let others: Vec<_> = (0..others).map(|_| lab.bed.peer(at)).collect();
    lab.bed.send(&client, at, &u32::MAX.to_be_bytes());
    let (peer, ..) = lab.datagram();
    let send = |lab: &mut Lab, numbers: std::ops::Range<u32>| {
        for n in numbers {
            lab.bed.send(&client, at, &n.to_be_bytes());
            others.iter().for_each(|other| lab.bed.send(other, at, &n.to_be_bytes()));
        }
    };
    promote_between(&mut lab, peer, |lab| send(lab, 0..k), |lab| send(lab, k..2 * k));
    send(&mut lab, 2 * k..3 * k);
    let mut next = vec![0; 1 + others.len()];
    for _ in 0..next.len() as u32 * 3 * k {
        let (_, path, _, bytes) = lab.datagram();
        let who = others.iter().position(|other| other.address() == path.remote).map_or(0, |n| n + 1);
        assert_eq!(number(&bytes), next[who], "k = {k}: of peer {who}");
        next[who] += 1;
    }
    assert_eq!(lab.tier(peer), Some(Tier::Connected));
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.handovers_timed_out, stats.redispatched), (1, 0, 0));
    assert_eq!((stats.kernel_dropped, stats.peers_opened), (0, 1 + others.len() as u64));
    Some(())
}

#[test]
fn what_the_listener_holds_goes_first() {
    for config in loopback_of_both() {
        for k in [1, 5, 40, 200] {
            in_order(step_by_step(config.clone()), k, 0);
        }
    }
}

#[test]
fn also_with_others_in_between() {
    for config in loopback_of_both() {
        for k in [1, 5, 40, 200] {
            in_order(step_by_step(config.clone()), k, 3);
        }
    }
}

#[test]
fn also_when_receive_buffers_run_out() {
    for config in loopback_of_both() {
        for k in [5, 40, 200] {
            in_order(step_by_step(config.clone()).receive_buffers(8), k, 2);
            in_order(config.clone().receive_buffers(8), k, 2);
        }
    }
}

#[test]
fn also_with_the_usual_budget_on_two_shards() {
    for config in loopback_of_both() {
        for k in [1, 5, 40, 200] {
            in_order(config.clone().shards(2), k, 5);
        }
    }
}

#[test]
fn many_peers_at_once() {
    const PEERS: usize = 100;
    let Some(mut lab) = Lab::start(step_by_step(loopback()), Welcome::Peer) else { return };
    let at = lab.address();
    let clients: Vec<_> = (0..PEERS).map(|_| lab.bed.peer(at)).collect();
    for client in &clients {
        lab.bed.send(client, at, &u32::MAX.to_be_bytes());
        lab.datagram();
    }
    let send = |lab: &mut Lab, numbers: std::ops::Range<u32>| {
        for n in numbers {
            clients.iter().for_each(|client| lab.bed.send(client, at, &n.to_be_bytes()));
        }
    };
    // All of them are promoted, over several turns, while they go on sending.
    let held = lab.hold(0);
    send(&mut lab, 0..10);
    lab.bed.tell(
        &lab.server,
        0,
        Box::new(|subject, cx| subject.known.values().for_each(|peer| cx.io.promote(*peer))),
    );
    drop(held);
    send(&mut lab, 10..40);
    let mut next = [0; PEERS];
    for _ in 0..PEERS * 40 {
        let (_, path, _, bytes) = lab.datagram();
        let who = clients.iter().position(|client| client.address() == path.remote).expect("a client");
        assert_eq!(number(&bytes), next[who], "of peer {who}");
        next[who] += 1;
    }
    let stats = lab.drain();
    assert_eq!((stats.promoted, stats.handovers_timed_out), (PEERS as u64, 0));
}

/// Takes its time for every datagram, promotes whom it is told to, and sees to it that each peer's numbers
/// rise.
struct Slow {
    takes: Duration,
}

enum Message {
    Promote(Vec<SocketAddr>),
    /// How often a lower number came from each peer after a higher one.
    Tell(mpsc::Sender<Vec<(SocketAddr, u64)>>),
}

impl Handler for Slow {
    /// The last number, and how often one came that was lower.
    type Peer = (u32, u64);
    type Timer = ();
    type Message = Message;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<(u32, u64)> {
        if first.len() == 4 { Accept::Peer((0, 0)) } else { Accept::Drop("nobody wrote that") }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let (last, wrong) = cx.peers.get_mut(from).expect("it is there");
        let n = number(&datagram);
        *wrong += u64::from(n < *last);
        *last = n;
        std::thread::sleep(self.takes);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, message: Message) {
        let all =
            cx.peers.iter().map(|(id, state)| (id, cx.io.path(id).expect("it is there").remote, state.1));
        let all: Vec<_> = all.collect();
        match message {
            Message::Promote(whom) => {
                for (id, ..) in all.iter().filter(|(_, remote, _)| whom.contains(remote)) {
                    cx.io.promote(*id);
                }
            }
            Message::Tell(to) => {
                to.send(all.into_iter().map(|(_, remote, wrong)| (remote, wrong)).collect()).unwrap();
            }
        }
    }
}

fn wrong_of(bed: &mut Bed, server: &Served<Message>) -> Vec<(SocketAddr, u64)> {
    let (tell, told) = mpsc::channel();
    bed.tell(server, 0, Message::Tell(tell));
    told.recv_timeout(PATIENCE).expect("the handler tells")
}

fn address_of(socket: &UdpSocket) -> SocketAddr {
    socket.local_addr().unwrap()
}

/// Peers are promoted while they and others flood a listener that has room for a few datagrams only: most
/// markers are dropped there. Every datagram is received or counted as dropped by the kernel, no marker is counted or
/// handed over, and order holds unless a hand-over is said to have taken too long.
#[test]
fn markers_may_be_dropped() {
    let _alone = alone();
    for config in loopback_of_both() {
        let Some(mut bed) = Bed::uring() else { return };
        let config = config.receive_socket_bytes(4_096).idle_timeout(None);
        let server = bed.serve(config, |_| Slow { takes: Duration::from_micros(100) });
        let at = bed.address(&server);
        let (movers, others) = (sockets_at(at.ip(), 8), sockets_at(at.ip(), 4));
        let (known, peers) = (movers.iter().map(address_of).collect::<Vec<_>>(), movers.len() + others.len());
        // Each is known before the flood lets nobody new in.
        for (n, socket) in movers.iter().enumerate() {
            socket.send_to(&0_u32.to_be_bytes(), at).expect("sent");
            bed.until("it is known", |bed| bed.stats(&server).peers() == n as u64 + 1);
        }
        let floods = [movers, others].map(|s| Flood::start(s, at, |_, round| round.to_be_bytes()));
        bed.until("the listener overflows", |bed| bed.stats(&server).kernel_dropped > 1_000);
        bed.tell(&server, 0, Message::Promote(known.clone()));
        bed.until("they are promoted", |bed| bed.stats(&server).promoted == known.len() as u64);
        bed.pass(Duration::from_millis(500));
        let sent = floods.into_iter().map(Flood::stop).sum::<u64>() + known.len() as u64;
        until_accounted(&mut bed, &server, sent);
        let wrong = wrong_of(&mut bed, &server);
        let stats = bed.drain(server);
        println!("{} dropped, {} hand-overs timed out", stats.kernel_dropped, stats.handovers_timed_out);
        assert_eq!(stats.received + stats.kernel_dropped, sent, "{stats:?}");
        assert!(stats.peers_opened <= peers as u64 && stats.refused.is_empty());
        let wrong: u64 = wrong.iter().map(|(_, wrong)| wrong).sum();
        assert!(wrong == 0 || stats.handovers_timed_out > 0, "{wrong} out of order");
    }
}

/// A shard that takes longer for what its listener holds than a hand-over may take: the peer is let in
/// without certainty, which is counted, and no marker that comes out later is taken for somebody's datagram.
#[test]
fn a_slow_shard_is_not_waited_for_without_end() {
    let Some(mut bed) = Bed::uring() else { return };
    let server = bed.serve(loopback(), |_| Slow { takes: Duration::from_millis(1) });
    let at = bed.address(&server);
    let (mover, other) = (bed.peer(at), bed.peer(at));
    bed.send(&mover, at, &0_u32.to_be_bytes());
    bed.until("it is known", |bed| bed.stats(&server).peers() == 1);
    // More than it can do in the time a hand-over may take.
    for n in 0..600_u32 {
        bed.send(&other, at, &n.to_be_bytes());
    }
    bed.tell(&server, 0, Message::Promote(vec![mover.address()]));
    bed.until("it is promoted", |bed| bed.stats(&server).promoted == 1);
    for n in 1..=10_u32 {
        bed.send(&mover, at, &n.to_be_bytes());
    }
    bed.until("all of it is received", |bed| bed.stats(&server).delivered == 611);
    assert_eq!(wrong_of(&mut bed, &server), [(mover.address(), 0), (other.address(), 0)]);
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.kernel_dropped, stats.peers_opened), (611, 0, 2), "{stats:?}");
    assert_eq!(stats.handovers_timed_out, 1);
    assert_eq!(stats.refused, [], "markers are nobody's datagrams");
}
