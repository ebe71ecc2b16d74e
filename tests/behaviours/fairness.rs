//! Whoever floods a shard, the others have their turns: sockets, connected peers and timers, however the shard waits,
//! whatever the budget of a turn and however slow the handler is.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shardgram::{Accept, Backend, Config, Context, Datagram, Handler, PeerId, TierPolicy, WaitPolicy};

use crate::common::gate::{Gate, STALL};
use crate::common::lab::alone;
#[cfg(target_os = "linux")]
use crate::common::sockopt;
use crate::common::{Bed, Peer, loopback};

const POLICIES: [WaitPolicy; 3] =
    [WaitPolicy::Block, WaitPolicy::Spin, WaitPolicy::SpinFor(Duration::from_micros(50))];
const FLOOD: &[u8] = b"flood";
/// Datagrams that are sent as one, where a system can.
const TRAIN: usize = if cfg!(target_os = "linux") { 64 } else { 1 };
/// Datagrams in each of the sockets that are filled.
const EACH: usize = 150;

/// What a handler did, in order: the port of the listener that a datagram came by, 0 for a timer.
type Done = Arc<Mutex<Vec<u16>>>;

/// Takes its time over each datagram, and answers what is no flood.
struct Slow {
    takes: Duration,
    gate: Gate,
    done: Done,
    /// When each datagram of the flood was handled.
    flooded: Vec<Duration>,
    /// Datagrams of the flood that were handled since the kernel had a question, whose answer leaves when the turn ends;
    /// and so many for each question before.
    meanwhile: Option<usize>,
    each: Arc<Mutex<Vec<usize>>>,
    /// Whether it has a timer that is always due.
    ticks: bool,
}

impl Slow {
    fn new(takes: Duration) -> Self {
        let (gate, done, flooded) = (Gate::default(), Done::default(), Vec::new());
        Self { takes, gate, done, flooded, meanwhile: None, each: Arc::default(), ticks: false }
    }
}

impl Clone for Slow {
    fn clone(&self) -> Self {
        let Self { takes, ref gate, ref done, ref each, ticks, .. } = *self;
        let (gate, done, each) = (gate.clone(), Arc::clone(done), Arc::clone(each));
        Self { takes, gate, done, flooded: Vec::new(), meanwhile: None, each, ticks }
    }
}

impl Handler for Slow {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        if self.ticks {
            cx.io.set_timer(cx.io.now(), ()).expect("room for a timer");
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.done.lock().unwrap().push(0);
        cx.io.set_timer(cx.io.now(), ()).expect("room for a timer");
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            return self.gate.pass();
        }
        let begin = Instant::now();
        while begin.elapsed() < self.takes {}
        self.done.lock().unwrap().push(datagram.path().local.port());
        if &datagram[..] == FLOOD {
            self.flooded.push(SystemTime::now().duration_since(UNIX_EPOCH).expect("a date"));
            self.meanwhile = self.meanwhile.map(|flooded| flooded + 1);
            return;
        }
        if let Some(came) = datagram.meta().kernel_time {
            self.meanwhile = Some(self.flooded.iter().rev().take_while(|handled| **handled > came).count());
        }
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_turn_end(&mut self, _: &mut Context<'_, Self>) {
        self.each.lock().unwrap().extend(self.meanwhile.take());
    }
}

/// Floods an address until it is dropped.
struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flood {
    /// By a socket for each address, which is connected there.
    fn new(to: Vec<SocketAddr>) -> Self {
        Self::of_trains(to, 1)
    }

    /// The same with so many datagrams at once.
    fn of_trains(to: Vec<SocketAddr>, datagrams: usize) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let flood = move || {
            let sockets: Vec<_> = to.iter().map(|at| connected_to(*at)).collect();
            let payload = FLOOD.repeat(datagrams);
            if datagrams > 1 {
                sockets.iter().for_each(cut_into_datagrams);
            }
            while !stopped.load(Ordering::Relaxed) {
                for socket in &sockets {
                    // The socket may be full, or the server gone.
                    let _ = socket.send(&payload);
                }
            }
        };
        Self { stop, thread: Some(thread::spawn(flood)) }
    }
}

fn connected_to(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(at).unwrap();
    socket
}

/// Has the kernel cut what is sent into datagrams of the flood: UDP_SEGMENT of udp(7).
#[cfg(target_os = "linux")]
fn cut_into_datagrams(socket: &UdpSocket) {
    sockopt::set_int(socket, libc::SOL_UDP, libc::UDP_SEGMENT, FLOOD.len() as i32).expect("Linux 4.18");
}

/// No system but Linux is asked to: [`TRAIN`].
#[cfg(not(target_os = "linux"))]
fn cut_into_datagrams(_: &UdpSocket) {}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// With short queues in the kernel, so that what is left of a flood is soon worked off.
fn listening(listeners: usize) -> Config {
    let one = loopback().receive_socket_bytes(128 << 10);
    (1..listeners).fold(one, |config, _| config.listen(([127, 0, 0, 1], 0).into()))
}

/// Holds the shard up, fills all its sockets, one after the other, and looks who was served how often when the first of them
/// is empty.
fn equal_queues(bed: &mut Bed, config: Config, takes: Duration, least: usize, what: &str) {
    let slow = Slow::new(takes);
    let make = slow.clone();
    let server = bed.serve(config, move |_| make.clone());
    let addresses = bed.addresses(&server);
    let peer = bed.peer(addresses[0]);
    bed.send(&peer, addresses[0], STALL);
    slow.gate.is_stalled();
    for at in &addresses {
        (0..EACH).for_each(|_| bed.send(&peer, *at, FLOOD));
    }
    slow.gate.open();
    let all = EACH * addresses.len();
    bed.until(what, |_| slow.done.lock().unwrap().len() == all);
    let mut had = vec![0; addresses.len()];
    for port in slow.done.lock().unwrap().iter() {
        let at = addresses.iter().position(|address| address.port() == *port).expect("a listener");
        had[at] += 1;
        if had[at] == EACH {
            break;
        }
    }
    assert!(had.iter().all(|had| *had >= least), "{what}: {had:?}");
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.kernel_dropped), (all as u64 + 1, 0), "{what}: {stats:?}");
}

fn full_sockets_have_equal_shares(mut bed: Bed) {
    let _alone = alone();
    for policy in POLICIES {
        for listeners in [1, 2, 3, 6, 8] {
            for (budget, buffers) in [(1, 256), (16, 16), (20, 1_024), (20, 256), (64, 16), (256, 1_024)] {
                let config = listening(listeners).wait(policy).turn_budget(budget).receive_buffers(buffers);
                let what = format!("{policy}, {listeners} listeners, budget {budget}, {buffers} buffers");
                // The kernel gives one socket of the ring up to 32 buffers in a row, so where there are few for all of
                // them, whoever came first is ahead until the others have caught up.
                let of_ring = matches!(bed, Bed::Real(Backend::Uring));
                let few = buffers < 32 || (of_ring && usize::from(buffers) < 64 * listeners);
                let least = if few { EACH / 3 } else { EACH / 2 };
                equal_queues(&mut bed, config, Duration::from_micros(20), least, &what);
            }
        }
    }
}

fn full_sockets_have_equal_shares_of_a_quick_handler(mut bed: Bed) {
    let _alone = alone();
    for policy in POLICIES {
        for (listeners, budget) in [(2, 64), (6, 4), (6, 20), (8, 64)] {
            let config = listening(listeners).wait(policy).turn_budget(budget).receive_buffers(1_024);
            let what = format!("{policy}, {listeners} listeners, budget {budget}, quick");
            // What the kernel receives in a row of one socket, 32 with io_uring, counts for more where all is over soon.
            equal_queues(&mut bed, config, Duration::ZERO, EACH / 3, &what);
        }
    }
}

fn a_flood_that_lasts_is_shared_too(mut bed: Bed) {
    let _alone = alone();
    for policy in POLICIES {
        for (listeners, budget, micros, buffers) in [
            (6, 64, 20, 1_024),
            (8, 1, 20, 1_024),
            (5, 256, 100, 1_024),
            (3, 20, 20, 256),
            (8, 20, 20, 256),
            (8, 256, 20, 64),
            (8, 64, 20, 16),
            (6, 16, 20, 16),
        ] {
            let slow = Slow::new(Duration::from_micros(micros));
            let make = slow.clone();
            let config = listening(listeners).wait(policy).turn_budget(budget).receive_buffers(buffers);
            let server = bed.serve(config, move |_| make.clone());
            let addresses = bed.addresses(&server);
            let flood = Flood::new(addresses.clone());
            let what = format!(
                "{policy}, {listeners} listeners, budget {budget}, {micros} us each, {buffers} buffers"
            );
            let done = || slow.done.lock().unwrap().len();
            bed.until(&what, |_| done() > 500);
            slow.done.lock().unwrap().clear();
            bed.until(&what, |_| done() > 8_000);
            let ports = slow.done.lock().unwrap().clone();
            drop(flood);
            let had: Vec<usize> =
                addresses.iter().map(|a| ports.iter().filter(|port| **port == a.port()).count()).collect();
            let mean = ports.len() / listeners;
            assert!(had.iter().all(|had| *had > mean / 2), "{what}: {had:?}");
            bed.drain(server);
        }
    }
}

/// Few datagrams of the flood are handled between the arrival of a question and the end of the turn, with which its answer
/// leaves. It is the handler that counts: whoever asks may get the processor late.
fn a_quiet_socket_is_served_beside_a_flooded_one(mut bed: Bed) {
    let _alone = alone();
    for policy in POLICIES {
        for (budget, micros) in [(64, 100), (8, 20)] {
            for (flooded, quiet) in [(0, 5), (5, 0), (4, 5), (0, 1)] {
                let slow = Slow::new(Duration::from_micros(micros));
                let make = slow.clone();
                let config = listening(6).wait(policy).turn_budget(budget).receive_buffers(64);
                let config = config.receive_timestamps(true);
                let server = bed.serve(config, move |_| make.clone());
                let addresses = bed.addresses(&server);
                let flood = Flood::new(vec![addresses[flooded]]);
                let what = format!("{policy}, budget {budget}, {micros} us each, {quiet} beside {flooded}");
                let done = || slow.done.lock().unwrap().len();
                bed.until(&what, |_| done() > 300);
                let peer = bed.peer(addresses[quiet]);
                bed.until(&what, |bed| {
                    assert_eq!(bed.ask(&peer, addresses[quiet], b"question"), b"question");
                    slow.each.lock().unwrap().len() >= 21
                });
                drop(flood);
                let mut meanwhile = slow.each.lock().unwrap().clone();
                meanwhile.sort_unstable();
                assert!(meanwhile[meanwhile.len() / 2] < 100, "{what}: {meanwhile:?}");
                bed.drain(server);
            }
        }
    }
}

fn a_timer_that_is_always_due_fires_in_every_turn(mut bed: Bed) {
    let _alone = alone();
    for (policy, train) in POLICIES.into_iter().flat_map(|policy| [1, TRAIN].map(|train| (policy, train))) {
        let slow = Slow { ticks: true, ..Slow::new(Duration::from_micros(100)) };
        let make = slow.clone();
        let config = listening(3).wait(policy).turn_budget(256).turn_time_us(500);
        let server = bed.serve(config, move |_| make.clone());
        let flood = Flood::of_trains(bed.addresses(&server), train);
        bed.until("it is flooded", |_| {
            slow.done.lock().unwrap().iter().filter(|port| **port > 0).count() > 500
        });
        slow.done.lock().unwrap().clear();
        let datagrams = |done: &[u16]| done.iter().filter(|port| **port > 0).count();
        bed.until("it is flooded", |_| datagrams(&slow.done.lock().unwrap()) > 1_000);
        let done = slow.done.lock().unwrap().clone();
        drop(flood);
        let longest = done.split(|port| *port == 0).map(<[u16]>::len).max().expect("some");
        // Five take the time that there is, and none takes less than it is told to.
        assert!(longest <= 5 + 1, "{policy}: {longest} datagrams without a timer, in trains of {train}");
        bed.drain(server);
    }
}

/// A connected peer that sends much more than the handler can take, beside a hundred that ask now and then.
fn a_connected_flooder_leaves_the_others_theirs(mut bed: Bed) {
    let _alone = alone();
    for policy in POLICIES {
        for tier in bed.tiers() {
            // In the listener tier all share one queue, which the flood fills.
            if tier == TierPolicy::Listener {
                continue;
            }
            let slow = Slow::new(Duration::from_micros(30));
            let make = slow.clone();
            let config = listening(1).wait(policy).tier(tier).receive_buffers(64);
            let server = bed.serve(config, move |_| make.clone());
            let at = bed.address(&server);
            let peers: Vec<Peer> = (0..100).map(|_| bed.peer(at)).collect();
            let ask_all = |bed: &mut Bed, round: u8| {
                peers.iter().for_each(|peer| bed.send(peer, at, &[round]));
                for peer in &peers {
                    assert_eq!(bed.receive(peer), (at, vec![round]), "{policy}, round {round}");
                }
            };
            // Until all have sockets of their own, which their second datagrams go to.
            ask_all(&mut bed, 0);
            ask_all(&mut bed, 1);
            let flood = Flood::new(vec![at]);
            bed.until("it is flooded", |_| slow.done.lock().unwrap().len() > 1_000);
            (2..12).for_each(|round| ask_all(&mut bed, round));
            drop(flood);
            bed.drain(server);
        }
    }
}

on_real_drivers!(
    full_sockets_have_equal_shares,
    full_sockets_have_equal_shares_of_a_quick_handler,
    a_flood_that_lasts_is_shared_too,
    a_quiet_socket_is_served_beside_a_flooded_one,
    a_timer_that_is_always_due_fires_in_every_turn,
    a_connected_flooder_leaves_the_others_theirs,
);
