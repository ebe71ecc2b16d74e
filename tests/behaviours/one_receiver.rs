//! One shard receives at each address for all of them (`Config::receivers`): every flow is served by the shard that
//! owns it, answers leave as if it had received itself, and nothing is lost or counted twice on the way.

use std::io::IoSlice;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use crate::common::lab::wait_in_callback;
use crate::common::{Bed, PATIENCE, Peer, Served, loopback, pattern, receiving_trains, to_loopback};
use shardgram::{
    Accept, Backend, Config, Context, Datagram, Ecn, Handler, Meta, Origin, Path, PeerId, ReceivedTrain,
    Receivers, Server, Snapshot, Via, flow_shard,
};
use shardgram_conformance::Echo;

const SHARDS: u16 = 3;

fn listening(places: &[&str]) -> Config {
    let listen = |config: Config, place: &&str| config.listen(place.parse().unwrap());
    places.iter().fold(Config::new(), listen).shards(SHARDS).receivers(Receivers::One)
}

/// What a handler was given.
#[derive(Debug)]
struct Given {
    shard: u16,
    path: Path,
    meta: Meta,
    /// Bytes of each datagram of a train.
    segment: Option<usize>,
    bytes: Vec<u8>,
}

enum Order {
    /// Stand still until the other end is dropped, having said that it begins.
    Wait(Sender<()>, Receiver<()>),
    /// Speak to somebody first.
    Greet(SocketAddr),
}

/// Tells what it was given, and sends it back in the shape in which it came.
struct Telling<const WHOLE: bool>(Sender<Given>);

impl<const WHOLE: bool> Handler for Telling<WHOLE> {
    type Peer = ();
    type Timer = ();
    type Message = Order;
    const WHOLE_TRAINS: bool = WHOLE;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let (path, meta, bytes) = (datagram.path(), datagram.meta(), datagram.to_vec());
        // A test that has what it wants listens no more.
        let _ = self.0.send(Given { shard: cx.io.shard(), path, meta, segment: None, bytes });
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_train(&mut self, cx: &mut Context<'_, Self>, _: PeerId, train: ReceivedTrain<'_>) {
        let (path, meta, segment) = (train.path(), train.meta(), Some(train.segment()));
        let bytes = train.to_vec();
        let _ = self.0.send(Given { shard: cx.io.shard(), path, meta, segment, bytes });
        cx.io.reply_train(train).expect("room for a reply");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Wait(begin, until) => wait_in_callback(&begin, &until),
            Order::Greet(to) => {
                let from = cx.io.listeners()[0];
                let peer = cx.open(Via::Listener(from), to, ()).expect("it is ours");
                cx.io.send(peer, b"greetings").expect("room for it");
            }
        }
    }
}

struct Room {
    bed: Bed,
    server: Served<Order>,
    given: Receiver<Given>,
}

impl Room {
    fn new<const WHOLE: bool>(config: Config) -> Self {
        let (sender, given) = mpsc::channel();
        let mut bed = Bed::mio();
        let server = bed.serve(config, move |_| Telling::<WHOLE>(sender.clone()));
        Self { bed, server, given }
    }

    fn next(&self) -> Given {
        self.given.recv_timeout(PATIENCE).expect("the handler is given something")
    }

    fn shard_stats(&self) -> Vec<Snapshot> {
        let Served::Real(handle) = &self.server else { unreachable!("a real server") };
        handle.stats();
        handle.remote().shard_stats()
    }

    /// A peer whose flow that shard owns.
    fn peer_of(&mut self, shard: u16, like: SocketAddr) -> Peer {
        peer_of(&mut self.bed, shard, like)
    }

    fn drain(mut self) -> Snapshot {
        let stats = self.bed.drain(self.server);
        assert_eq!(stats.forwarded_in, stats.forwarded_out, "what was handed on was handled: {stats:?}");
        stats
    }
}

fn peer_of(bed: &mut Bed, shard: u16, like: SocketAddr) -> Peer {
    loop {
        let peer = bed.peer(like);
        if flow_shard(peer.address(), SHARDS) == shard {
            return peer;
        }
    }
}

#[test]
fn each_flow_is_served_by_its_shard_and_answered_from_where_it_wrote_to() {
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0", "[::1]:0", "0.0.0.0:0", "[::]:0"]));
    let addresses = room.bed.addresses(&room.server);
    let (mut received, mut forwarded, mut seen) = ([0; SHARDS as usize], 0, [0; SHARDS as usize]);
    for (listen, at) in (0..).zip(addresses) {
        let mut towards = vec![to_loopback(at)];
        if at.is_ipv4() && at.ip().is_unspecified() {
            towards.push(SocketAddr::new([127, 1, 2, 3].into(), at.port()));
        }
        for to in towards {
            for n in 0..40_u8 {
                let peer = room.bed.peer(to);
                // The peer asserts where the answer is from.
                assert_eq!(room.bed.ask(&peer, to, &[n]), [n]);
                let owner = flow_shard(peer.address(), SHARDS);
                let Given { shard, path, .. } = room.next();
                assert_eq!((shard, path.local, path.remote), (owner, to, peer.address()));
                received[usize::from(listen % SHARDS)] += 1;
                forwarded += u64::from(owner != listen % SHARDS);
                seen[usize::from(owner)] += 1;
            }
        }
    }
    assert!(seen.iter().all(|n| *n > 0), "{seen:?}");
    let each = room.shard_stats();
    assert_eq!(each.iter().map(|stats| stats.received).collect::<Vec<_>>(), received, "by turns");
    let stats = room.drain();
    assert_eq!((stats.forwarded_out, stats.dropped_forward_full), (forwarded, 0), "{stats:?}");
    assert_eq!((stats.delivered, stats.sent()), (200, 200), "{stats:?}");
}

#[test]
fn a_shard_may_speak_first_through_the_listener_it_does_not_receive_by() {
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0"]));
    let at = room.bed.address(&room.server);
    for shard in 0..SHARDS {
        let peer = room.peer_of(shard, at);
        room.bed.tell(&room.server, shard, Order::Greet(peer.address()));
        assert_eq!(room.bed.receive(&peer), (at, b"greetings".to_vec()));
        assert_eq!(room.bed.ask(&peer, at, b"thanks"), b"thanks");
        assert_eq!(room.next().shard, shard);
    }
    assert_eq!(
        room.drain().peers_opened,
        u64::from(SHARDS),
        "the peer that was opened is the one that answers"
    );
}

#[test]
fn the_order_of_a_peer_is_kept() {
    const EACH: u32 = 600;
    const AT_ONCE: u32 = 30;
    let mut bed = Bed::mio();
    let server = bed.serve(listening(&["127.0.0.1:0"]), |_| Echo);
    let at = bed.address(&server);
    let peers: Vec<_> = (0..12).map(|n| peer_of(&mut bed, n % SHARDS, at)).collect();
    for first in (0..EACH).step_by(AT_ONCE as usize) {
        for n in first..first + AT_ONCE {
            peers.iter().for_each(|peer| bed.send(peer, at, &n.to_be_bytes()));
        }
        for peer in &peers {
            for n in first..first + AT_ONCE {
                assert_eq!(bed.receive(peer), (at, n.to_be_bytes().to_vec()));
            }
        }
    }
    let stats = bed.drain(server);
    assert_eq!(stats.delivered, u64::from(EACH) * 12, "{stats:?}");
    assert_eq!(stats.forwarded_out, u64::from(EACH) * 8, "two of three shards");
}

#[test]
fn what_arrives_wakes_the_shard_that_owns_it_and_no_other() {
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0"]).idle_timeout(None));
    let at = room.bed.address(&room.server);
    let [own, others] = [0, 1].map(|shard| room.peer_of(shard, at));
    room.bed.ask(&own, at, b"hello");
    room.bed.ask(&others, at, b"hello");
    let before = room.shard_stats();
    for n in 0..50_u8 {
        room.bed.ask(&own, at, &[n]);
        room.bed.ask(&others, at, &[n]);
    }
    let turns: Vec<_> =
        room.shard_stats().iter().zip(before).map(|(now, then)| now.turns - then.turns).collect();
    // Asking for statistics wakes each of them.
    assert!(turns[0] >= 100 && turns[1] >= 50 && turns[2] < 10, "{turns:?}");
    room.drain();
}

fn send_train(peer: &UdpSocket, to: SocketAddr, bytes: &[u8], segment: u16) {
    shardgram_sys::send_train(peer, to, None, segment, &[IoSlice::new(bytes)]).expect("sent");
}

/// A peer of that shard that is given trains as they come.
fn train_peer(shard: u16, ip: IpAddr) -> Peer {
    loop {
        let socket = receiving_trains(ip);
        if flow_shard(socket.local_addr().unwrap(), SHARDS) == shard {
            return Peer::Real(socket);
        }
    }
}

/// All of it comes back as one.
fn assert_answer(bed: &mut Bed, peer: &Peer, at: SocketAddr, bytes: &[u8]) {
    let (from, answer) = bed.receive(peer);
    assert_eq!((from, answer.len()), (at, bytes.len()));
    assert!(answer == bytes, "the bytes are others");
}

#[test]
fn trains_are_handed_on_as_such() {
    for place in ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"] {
        let mut room = Room::new::<true>(listening(&[place]));
        let at = to_loopback(room.bed.address(&room.server));
        for shard in 0..SHARDS {
            let peer = train_peer(shard, at.ip());
            let Peer::Real(socket) = &peer else { unreachable!("a real peer") };
            let bytes = pattern(20 * 1_200 + 7);
            // The first datagram of a stranger comes alone, the rest of its train as a train.
            send_train(socket, at, &bytes, 1_200);
            let (first, rest) = (room.next(), room.next());
            assert_eq!((first.shard, first.segment, &*first.bytes), (shard, None, &bytes[..1_200]));
            assert_eq!((rest.shard, rest.segment, &*rest.bytes), (shard, Some(1_200), &bytes[1_200..]));
            let mut answered = 0;
            while answered < bytes.len() {
                answered += room.bed.receive(&peer).1.len();
            }
            send_train(socket, at, &bytes, 1_200);
            let whole = room.next();
            assert_eq!((whole.shard, whole.segment, &*whole.bytes), (shard, Some(1_200), &*bytes));
            assert_answer(&mut room.bed, &peer, at, &bytes);
        }
        let each = room.shard_stats();
        assert_eq!(each.iter().map(|stats| stats.forwarded_in).collect::<Vec<_>>(), [0, 42, 42]);
        let stats = room.drain();
        assert_eq!((stats.trains_received, stats.trains_sent), (6, 6), "{stats:?}");
        assert_eq!((stats.forwarded_out, stats.delivered, stats.sent()), (84, 126, 126), "{stats:?}");
    }
}

#[test]
fn datagrams_of_a_train_come_one_by_one_to_who_wants_that_and_are_cut_where_they_are_handled() {
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0"]).max_datagram(1_000));
    let at = room.bed.address(&room.server);
    let peer = train_peer(1, at.ip());
    let Peer::Real(socket) = &peer else { unreachable!("a real peer") };
    let bytes = pattern(5 * 1_200 + 7);
    send_train(socket, at, &bytes, 1_200);
    for (number, part) in bytes.chunks(1_200).enumerate() {
        let Given { shard, meta, bytes: got, .. } = room.next();
        assert_eq!((shard, usize::from(meta.rest_of_train)), (1, 5 - number));
        assert_eq!(
            (&*got, meta.truncated_from.is_some()),
            (&part[..part.len().min(1_000)], part.len() > 1_000)
        );
    }
    room.bed.send(&peer, at, &bytes[..1_200]);
    assert_eq!(room.next().bytes, &bytes[..1_000], "as a single one is");
    let stats = room.drain();
    assert_eq!((stats.forwarded_out, stats.truncated), (7, 6), "{stats:?}");
}

#[test]
fn marks_and_times_are_handed_on() {
    let config = listening(&["127.0.0.1:0", "[::1]:0"]);
    let room = Room::new::<false>(config.clone().ecn(true));
    for at in room.bed.addresses(&room.server) {
        for shard in 0..SHARDS {
            let peer = crate::common::marks::Marker::of(match train_peer(shard, at.ip()) {
                Peer::Real(socket) => socket,
                Peer::Sim(..) => unreachable!("a real peer"),
            });
            for mark in [Ecn::Ect0, Ecn::Ce, Ecn::NotEct] {
                peer.send(at, mark.bits(), None, b"marked");
                let given = room.next();
                assert_eq!((given.shard, given.meta.ecn), (shard, mark));
            }
        }
    }
    room.drain();
    let mut room = Room::new::<false>(config.receive_timestamps(true));
    for at in room.bed.addresses(&room.server) {
        for shard in 0..SHARDS {
            let peer = room.peer_of(shard, at);
            room.bed.ask(&peer, at, b"when");
            assert!(room.next().meta.kernel_time.is_some());
        }
    }
    room.drain();
}

#[test]
fn a_shard_that_stands_still_loses_only_its_own_and_all_of_that_is_counted() {
    const SENT: u64 = 9_000;
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0"]).receive_socket_bytes(64 << 20));
    let at = room.bed.address(&room.server);
    let [own, held] = [0, 1].map(|shard| room.peer_of(shard, at));
    room.bed.ask(&held, at, b"hello");
    room.next();
    let (begin, begun) = mpsc::channel();
    let (release, until) = mpsc::channel();
    room.bed.tell(&room.server, 1, Order::Wait(begin, until));
    begun.recv_timeout(PATIENCE).expect("the shard is held");
    for n in 0..SENT {
        room.bed.send(&held, at, &n.to_be_bytes());
        if n % 100 == 0 {
            assert_eq!(room.bed.ask(&own, at, b"ask"), b"ask", "others are served meanwhile");
            assert_eq!(room.next().shard, 0);
        }
    }
    room.bed.until("all of it is received", |bed| {
        let stats = bed.stats(&room.server);
        stats.received + stats.kernel_dropped == SENT + SENT / 100 + 1
    });
    drop(release);
    let stats = room.drain();
    assert!(stats.dropped_forward_full > 0, "the test is of no use if the mailbox has room: {stats:?}");
    assert_eq!(stats.forwarded_out, 1 + 4_096, "as many as a mailbox holds");
    assert_eq!(stats.dropped_forward_full + stats.kernel_dropped + 4_096, SENT, "{stats:?}");
    assert_eq!(stats.delivered + stats.dropped_forward_full, stats.received, "{stats:?}");
}

/// What was said in time is heard in time, though the shard that received it handed it on late.
#[test]
fn nobody_is_taken_for_silent_while_the_shard_that_receives_stands_still() {
    const TIMEOUT: Duration = Duration::from_secs(2);
    let mut room = Room::new::<false>(listening(&["127.0.0.1:0"]).idle_timeout(Some(TIMEOUT)));
    let at = room.bed.address(&room.server);
    let [speaks, silent] = [1, 2].map(|shard| room.peer_of(shard, at));
    // Each shard has looked once before the other stands still, and looks again when the first is due to be silent.
    let start = Instant::now();
    while start.elapsed() < TIMEOUT / 4 {
        for peer in [&speaks, &silent] {
            room.bed.ask(peer, at, b"hello");
        }
        std::thread::sleep(TIMEOUT / 40);
    }
    let (begin, begun) = mpsc::channel();
    let (release, until) = mpsc::channel();
    room.bed.tell(&room.server, 0, Order::Wait(begin, until));
    begun.recv_timeout(PATIENCE).expect("the shard is held");
    // Longer than the timeout, and shorter than a judgement is put off at most, which is for as long again.
    let end = Instant::now() + TIMEOUT * 5 / 4;
    while Instant::now() < end {
        room.bed.send(&speaks, at, b"still here");
        std::thread::sleep(TIMEOUT / 40);
    }
    drop(release);
    room.bed.until("one is closed", |bed| bed.stats(&room.server).peers_closed > 0);
    assert_eq!(room.bed.ask(&silent, at, b"hello again"), b"hello again");
    room.bed.send(&speaks, at, b"last");
    while room.bed.receive(&speaks).1 != b"last" {}
    let stats = room.drain();
    assert_eq!(stats.peers_opened, 3, "who was silent came anew, and nobody else: {stats:?}");
    assert!(stats.turns < 5_000, "shards that wait for another sleep: {stats:?}");
}

/// What a turn takes from the mailbox is no more than its outbox has room to answer.
#[test]
fn trains_that_waited_are_all_answered() {
    const TRAINS: u64 = 80;
    let mut room = Room::new::<true>(listening(&["127.0.0.1:0"]).receive_socket_bytes(64 << 20));
    let at = room.bed.address(&room.server);
    let peer = train_peer(1, at.ip());
    let Peer::Real(socket) = &peer else { unreachable!("a real peer") };
    room.bed.ask(&peer, at, b"hello");
    let (begin, begun) = mpsc::channel();
    let (release, until) = mpsc::channel();
    room.bed.tell(&room.server, 1, Order::Wait(begin, until));
    begun.recv_timeout(PATIENCE).expect("the shard is held");
    // More than the outbox of a turn holds, and less than a mailbox does.
    let bytes = pattern(50 * 1_200);
    for n in 0..TRAINS {
        send_train(socket, at, &bytes, 1_200);
        // Few at a time, so that the kernel has room for them.
        if n % 2 == 1 {
            room.bed.until("it is received", |bed| bed.stats(&room.server).received == 1 + 50 * (n + 1));
        }
    }
    drop(release);
    let stats = room.drain();
    assert_eq!((stats.forwarded_in, stats.dropped_forward_full), (1 + 50 * TRAINS, 0), "{stats:?}");
    assert_eq!((stats.sent(), stats.restarts), (1 + 50 * TRAINS, 0), "{stats:?}");
}

#[test]
fn what_the_kernel_drops_is_counted_once() {
    const SENT: u64 = 30_000;
    let mut bed = Bed::mio();
    let server = bed.serve(listening(&["127.0.0.1:0"]).receive_socket_bytes(4_096), |_| Echo);
    let at = bed.address(&server);
    let peer = peer_of(&mut bed, 1, at);
    for _ in 0..SENT {
        bed.send(&peer, at, &[0; 1_000]);
    }
    bed.until("all of it is accounted for", |bed| {
        let stats = bed.stats(&server);
        assert!(stats.received + stats.kernel_dropped <= SENT, "nothing is counted twice: {stats:?}");
        stats.received + stats.kernel_dropped == SENT
    });
    let Served::Real(handle) = &server else { unreachable!("a real server") };
    let each: Vec<_> = handle.remote().shard_stats().iter().map(|stats| stats.kernel_dropped).collect();
    assert!(each[0] > 0 && each[1] == 0 && each[2] == 0, "by the shard that receives: {each:?}");
    bed.drain(server);
}

/// The receiving shard has nothing of its own to wait for, and forwards until nobody needs it.
#[test]
fn a_drain_answers_all_that_had_arrived() {
    const BURST: usize = 1_200;
    for _ in 0..5 {
        let mut bed = Bed::mio();
        let server = bed.serve(listening(&["127.0.0.1:0"]), |_| Echo);
        let at = bed.address(&server);
        let peers: Vec<_> = (0..10).map(|n| peer_of(&mut bed, 1 + n % 2, at)).collect();
        for i in 0..BURST {
            bed.send(&peers[i % peers.len()], at, &i.to_be_bytes());
        }
        let stats = bed.drain(server);
        let lost = stats.kernel_dropped + stats.dropped_forward_full;
        assert_eq!((stats.received, lost), (BURST as u64, 0), "{stats:?}");
        for i in 0..BURST {
            assert_eq!(bed.receive(&peers[i % peers.len()]).1, i.to_be_bytes(), "answered, in order");
        }
    }
}

/// Asks until it is over, most of the time not: a server drains once it finds nothing to do, so the pauses are long
/// beside what an answer takes, however slow the machine is.
fn ask_now_and_then(socket: &UdpSocket, at: SocketAddr, going: &Weak<()>) {
    socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    while going.strong_count() > 0 {
        let begun = Instant::now();
        let _ = socket.send_to(b"more", at);
        let _ = socket.recv_from(&mut [0; 8]);
        std::thread::sleep(
            (6 * begun.elapsed()).clamp(Duration::from_micros(500), Duration::from_millis(300)),
        );
    }
}

/// While peers go on asking, shards end one after the other; what the last of them receives is not handed to one that
/// is gone.
#[test]
fn nothing_that_was_received_is_lost_between_shards_that_end() {
    for round in 0..30 {
        let mut bed = Bed::mio();
        let server = bed.serve(listening(&["127.0.0.1:0"]), |_| Echo);
        let at = bed.address(&server);
        let peers: Vec<_> = (0..3).map(|n| peer_of(&mut bed, n % SHARDS, at)).collect();
        peers.iter().for_each(|peer| assert_eq!(bed.ask(peer, at, b"hello"), b"hello"));
        let stats = std::thread::scope(|scope| {
            // Dropped, and the peers silent, also where the drain fails.
            let going = Arc::new(());
            for peer in &peers {
                let Peer::Real(socket) = peer else { unreachable!("a real peer") };
                let still = Arc::downgrade(&going);
                scope.spawn(move || ask_now_and_then(socket, at, &still));
            }
            bed.drain(server)
        });
        assert_eq!(stats.forwarded_in, stats.forwarded_out, "round {round}: {stats:?}");
        assert_eq!(
            (stats.delivered, stats.delivered),
            (stats.received, stats.sent()),
            "round {round}: {stats:?}"
        );
    }
}

#[test]
fn the_port_is_its_own_and_free_again_when_all_shards_have_ended() {
    for place in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0"] {
        let mut room = Room::new::<false>(listening(&[place]));
        let at = room.bed.address(&room.server);
        let peer = room.peer_of(2, to_loopback(at));
        room.bed.ask(&peer, to_loopback(at), b"hello");
        let sharing = || {
            let domain = socket2::Domain::for_address(at);
            let socket = socket2::Socket::new(domain, socket2::Type::DGRAM, None).unwrap();
            socket.set_reuse_port(true).unwrap();
            socket.set_reuse_address(true).unwrap();
            socket.bind(&at.into())
        };
        assert_eq!(sharing().unwrap_err().kind(), std::io::ErrorKind::AddrInUse);
        room.drain();
        UdpSocket::bind(at).expect("the port is free");
    }
}

#[test]
fn the_ready_line_says_so() {
    let line = |config: Config| Server::bind(config).expect("it binds").ready_line();
    let one = line(listening(&["127.0.0.1:0"]));
    assert!(one.ends_with(" backend=mio tier=listener receivers=one reason=receivers:one"), "{one}");
    let asked = line(listening(&["127.0.0.1:0"]).backend(Backend::Mio));
    assert!(asked.ends_with(" backend=mio tier=listener receivers=one"), "{asked}");
    let all = line(loopback().receivers(Receivers::PerShard).shards(2));
    assert!(!all.contains("receivers="), "every shard receives: {all}");
    let nobody = line(Config::new().receivers(Receivers::One));
    assert!(!nobody.contains("receivers="), "nobody does: {nobody}");
}
