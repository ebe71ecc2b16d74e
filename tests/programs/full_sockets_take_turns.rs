//! What waits at one full socket does not wait for another: both get room, one of them is kept busy by a handler that
//! tops up what waits there in every turn, and what waits at the other leaves all the same.

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use shardgram::{Accept, Config, Context, Datagram, Handler, PeerId, Server, SocketHook};

use crate::common::namespace::run;
use crate::common::source::roomy;
use crate::common::{Bed, PATIENCE};

/// Datagrams that wait at the socket that is not busy.
const QUIET: u32 = 150;
/// Peers at the busy one: together they are sent more in a turn than leaves in one.
const BUSY: usize = 8;
const PER_TURN: usize = 100;
const PORTS: [u16; 2] = [7_000, 7_001];

struct Busy {
    port: u16,
    peers: Vec<PeerId>,
    quiet: Option<PeerId>,
    go: Arc<AtomicBool>,
}

impl Handler for Busy {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        cx.io.set_timer(cx.io.now(), ()).unwrap();
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        if datagram.path().local.port() == self.port {
            self.peers.push(peer);
        } else {
            self.quiet = Some(peer);
        }
        cx.io.send(peer, b"in").unwrap();
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        if self.go.load(Ordering::Relaxed) {
            if let Some(quiet) = self.quiet.take() {
                for number in 0..QUIET {
                    let mut bytes = [0; 1_000];
                    bytes[..4].copy_from_slice(&number.to_be_bytes());
                    cx.io.send(quiet, &bytes).unwrap();
                }
            }
            for peer in &self.peers {
                // Until there is no room for more to wait.
                (0..PER_TURN).take_while(|_| cx.io.send(*peer, &[9; 1_000]).is_ok()).count();
            }
        }
        let pause = if self.go.load(Ordering::Relaxed) { 0 } else { 1 };
        cx.io.set_timer(cx.io.now() + Duration::from_millis(pause), ()).unwrap();
    }
}

fn client(port: u16) -> UdpSocket {
    // What leaves at once has room.
    let socket = roomy("127.0.0.1:0".parse().unwrap());
    socket.connect(("127.0.0.1", port)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send(b"hello").unwrap();
    assert_eq!(socket.recv(&mut [0; 8]).unwrap(), 2);
    socket
}

/// The answers of each listener have a class of their own, which the socket's priority names.
const CLASSES: [&str; 2] = ["1:10", "1:20"];
const PRIORITIES: [u32; 2] = [0x1_0010, 0x1_0020];

fn the_other_moves(bed: &Bed, busy: usize) {
    let Bed::Real(backend) = bed else { unreachable!("real sockets") };
    let listen = PORTS.map(|port| ([127, 0, 0, 1], port).into());
    let config = listen.into_iter().fold(Config::new().backend(*backend), Config::listen);
    let config = config.send_socket_bytes(16 << 10).trains(false).idle_timeout(None);
    let hook: SocketHook =
        Arc::new(|socket, at| socket.set_priority(PRIORITIES[usize::from(at.port() == PORTS[1])]));
    let go = Arc::new(AtomicBool::new(false));
    let theirs = Arc::clone(&go);
    let server = Server::bind_with(config, Some(hook)).unwrap();
    let server = server
        .spawn(move |_| Busy { port: PORTS[busy], peers: Vec::new(), quiet: None, go: Arc::clone(&theirs) })
        .unwrap();
    let busy_ones: Vec<_> = (0..BUSY).map(|_| client(PORTS[busy])).collect();
    let quiet = client(PORTS[1 - busy]);
    run("tc qdisc add dev lo root handle 1: htb default 1");
    run("tc class add dev lo parent 1: classid 1:1 htb rate 40gbit");
    for class in CLASSES {
        run(&format!("tc class add dev lo parent 1: classid {class} htb rate 1mbit burst 3k cburst 3k"));
    }
    go.store(true, Ordering::Relaxed);
    let end = Instant::now() + PATIENCE;
    // Both sockets are full, and more waits than leaves in a turn.
    while server.stats().send_waiting < 1_000 {
        assert!(Instant::now() < end, "{:?}", server.stats());
        std::thread::sleep(Duration::from_millis(1));
    }
    // The busy one has room first, and goes on at once.
    for class in [CLASSES[busy], CLASSES[1 - busy]] {
        run(&format!("tc class change dev lo parent 1: classid {class} htb rate 40gbit burst 1m cburst 1m"));
    }
    for number in 0..QUIET {
        let mut bytes = [0; 1_000];
        let came = quiet.recv(&mut bytes);
        let waiting = server.stats();
        assert_eq!(came.ok(), Some(1_000), "{number} of {QUIET} came: {waiting:?}");
        assert_eq!(bytes[..4], number.to_be_bytes());
    }
    // All the time it was busy.
    assert!(server.stats().send_deferred > 2_000);
    go.store(false, Ordering::Relaxed);
    drop(busy_ones);
    let stats = server.drain(PATIENCE).unwrap().total;
    let outcomes = stats.sent() + stats.send_failed() + stats.send_waiting;
    assert_eq!((stats.queued, stats.submitted), (stats.submitted, outcomes), "{stats:?}");
    run("tc qdisc del dev lo root");
}

fn whichever_is_busy(bed: Bed) {
    for busy in [0, 1] {
        the_other_moves(&bed, busy);
    }
}

in_namespaces!(whichever_is_busy);
