//! Tests of whole shards whose ring fails in ways that a test chooses ([`crate::faults`]): the shard goes on, every
//! datagram has one outcome, nobody else loses anything, and all buffers come back.

mod cancelling;
mod closing;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use shardgram_core::driver::ConnectedLimits;
use shardgram_core::mailbox::mailboxes;
use shardgram_core::shard_loop::{Ending, Secrets, Setup, ShardLoop, Turn};
use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, EndpointId, Handler, PeerError, PeerId, ShardInfo, Snapshot,
    Stats, TierPolicy,
};
use shardgram_sys::accept::AcceptMode;
use shardgram_sys::{ListenerGroup, ListenerSocket, SocketOptions};

use crate::driver::{Parts, UringDriver};
use crate::faults::{self, Fault};
use crate::wake::Fleet;

/// How long anything may take that is expected to happen.
const PATIENCE: Duration = Duration::from_secs(10);
const PEERS: usize = 40;
/// What the peers get of one order: two datagrams each.
const ANSWERS: u64 = 2 * PEERS as u64;
const BUFFERS: u16 = 16;

/// Sends numbered datagrams to every peer when one of them asks for it, and answers in place.
#[derive(Default)]
struct Fan {
    peers: Vec<PeerId>,
    own_sockets: bool,
    endpoint: Option<EndpointId>,
    errors: Vec<PeerError>,
}

/// As a client asks for it.
const ANSWER: u8 = 1;
const ALL: u8 = 2;
/// An endpoint at the port that follows; and none.
const OPEN: u8 = 3;
const CLOSE: u8 = 4;
const CLOSE_PEERS: u8 = 5;

impl Handler for Fan {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        // So that no turn of a test waits for long.
        cx.io.set_timer(cx.io.now() + Duration::from_millis(1), ()).expect("room");
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        if self.own_sockets { Accept::Connect(0) } else { Accept::Peer(0) }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        match datagram[0] {
            ANSWER => {
                let len = datagram.len();
                cx.io.reply(datagram, len).expect("room");
            }
            ALL => {
                for peer in &self.peers {
                    let next = cx.peers.get_mut(*peer).expect("open");
                    // Two that make no train.
                    for len in [10, 20] {
                        let mut bytes = vec![ALL; len];
                        bytes[1..5].copy_from_slice(&next.to_be_bytes());
                        *next += 1;
                        let _ = cx.io.send(*peer, &bytes);
                    }
                }
            }
            OPEN => {
                let port = u16::from_be_bytes([datagram[1], datagram[2]]);
                let endpoint = Endpoint::bound(([127, 0, 0, 1], port).into());
                self.endpoint = Some(cx.io.endpoint(endpoint).expect("room"));
            }
            CLOSE => self.endpoint.take().into_iter().for_each(|endpoint| cx.close_endpoint(endpoint)),
            CLOSE_PEERS => self.peers.drain(..).for_each(|peer| cx.io.close(peer)),
            _ => self.peers.push(peer),
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        self.errors.push(error);
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        cx.io.set_timer(cx.io.now() + Duration::from_millis(1), ()).expect("room");
    }
}

type Loop = ShardLoop<UringDriver, Fan, Box<dyn Fn(ShardInfo) -> Fan>>;

/// A shard that the test turns by hand, and its clients.
struct Bed {
    shard: Loop,
    stats: Arc<Stats>,
    clients: Vec<UdpSocket>,
    /// The number of the next datagram to each client.
    next: Vec<u32>,
}

impl Bed {
    /// `None` where io_uring is refused.
    fn new(own_sockets: bool) -> Option<Self> {
        let config = Config::new().listen(([127, 0, 0, 1], 0).into()).idle_timeout(None);
        let config = config.receive_buffers(BUFFERS).submission_entries(16).completion_entries(64);
        let config = config.trains(false).tier(TierPolicy::Listener);
        let fixed_files = crate::probe().ok()?.fixed_files;
        let Ok((mut rings, _)) = crate::prepare(&config) else { return None };
        let options = SocketOptions::default();
        let mut group = ListenerGroup::bind(([127, 0, 0, 1], 0).into(), 1, &options).expect("a port");
        let (at, socket) = (group.local_addr(), group.take_sockets().remove(0));
        let listener =
            ListenerSocket { listen: 0, local: None, steered: true, socket, lease: None, usage: None };
        let (postboxes, mut mail) = mailboxes(1, 16);
        let stats = Arc::<Stats>::default();
        let limits = ConnectedLimits { total: 64, per_address: 64 };
        let driver = UringDriver::new(Parts {
            shard: 0,
            shards: 1,
            ring: rings.remove(0),
            listeners: vec![listener],
            changes: None,
            config: &config,
            options,
            connected: own_sockets.then_some((AcceptMode::SideGroup, limits)),
            fixed_files,
            bell: mail[0].bell(),
            fleet: Fleet::new(1, own_sockets).expect("events"),
        })
        .expect("a driver");
        let setup = Setup {
            info: ShardInfo::new(0, 1),
            listeners: Arc::new([at]),
            mailbox: mail.remove(0),
            postboxes,
            control: Arc::default(),
            stats: Arc::clone(&stats),
            secrets: Secrets { table: (1, 2), cookies: (3, 4) },
            resolver: None,
            own: Arc::default(),
            start: Instant::now(),
        };
        let make: Box<dyn Fn(ShardInfo) -> Fan> = Box::new(move |_| Fan { own_sockets, ..Fan::default() });
        let shard = ShardLoop::new(driver, setup, &config, make).expect("a shard");
        let clients = (0..PEERS).map(|_| client(at)).collect();
        let mut bed = Self { shard, stats, clients, next: vec![0; PEERS] };
        bed.clients.iter().for_each(|client| send(client, &[0]));
        let sockets = if own_sockets { PEERS as u64 } else { 0 };
        bed.until("all are in", |stats| stats.delivered == PEERS as u64 && stats.promoted == sockets);
        Some(bed)
    }

    fn turn(&mut self) {
        match self.shard.turn() {
            Turn::Ran | Turn::Asleep => {}
            Turn::Ended(ending) => panic!("the shard has ended: {ending:?}"),
        }
    }

    fn until(&mut self, what: &str, holds: impl Fn(&Snapshot) -> bool) {
        let end = Instant::now() + PATIENCE;
        while !holds(&self.stats.snapshot()) {
            assert!(Instant::now() < end, "{what}: {:?}", self.stats.snapshot());
            self.turn();
        }
    }

    /// Has everybody sent two datagrams, and has those leave.
    fn fan_out(&mut self) {
        let before = self.stats.snapshot();
        send(&self.clients[0], &[ALL]);
        self.until("it came", |stats| stats.delivered > before.delivered);
        let all = before.submitted + ANSWERS;
        self.until("all has left or failed", |stats| stats.submitted == all && stats.send_waiting == 0);
        // Failures are told in the turn after.
        self.turn();
    }

    /// What comes to each client until so many have: the numbers rise, and each one's are counted.
    fn received(&mut self, expected: u64) -> u64 {
        let (mut count, end) = (0, Instant::now() + PATIENCE);
        loop {
            count += self.received_already();
            if count >= expected || Instant::now() >= end {
                return count;
            }
            thread::yield_now();
        }
    }

    fn received_already(&mut self) -> u64 {
        let mut count = 0;
        for (client, next) in self.clients.iter().zip(&mut self.next) {
            let mut bytes = [0; 100];
            while let Ok(len) = client.recv(&mut bytes) {
                let number = u32::from_be_bytes(*bytes[1..].first_chunk().expect("four bytes"));
                assert!(len >= 5 && number >= *next, "{number} after {next}");
                *next = number + 1;
                count += 1;
            }
        }
        count
    }

    /// Everybody asks more often than there are buffers, and is answered: all of them come back.
    fn buffers_go_round(&mut self) {
        for round in 0..2 {
            for at in 0..PEERS {
                let question = [ANSWER, round, at as u8, 0, 0, 0];
                assert_eq!(self.ask(at, &question), [question.to_vec()], "round {round}");
            }
        }
    }

    /// Has one client ask, and turns the shard until it has that answer: what came to the client, which ends with it.
    fn ask(&mut self, at: usize, question: &[u8]) -> Vec<Vec<u8>> {
        send(&self.clients[at], question);
        let (mut came, end) = (Vec::new(), Instant::now() + PATIENCE);
        while came.last().is_none_or(|last| last != question) {
            assert!(
                Instant::now() < end,
                "no answer to {question:?} after {came:?}: {:?}",
                self.stats.snapshot()
            );
            self.turn();
            let mut bytes = [0; 100];
            while let Ok(len) = self.clients[at].recv(&mut bytes) {
                came.push(bytes[..len].to_vec());
            }
        }
        came
    }

    /// Everything that was queued has one outcome; says which.
    fn add_up(&self) -> Snapshot {
        let stats = self.stats.snapshot();
        let outcomes = stats.sent() + stats.send_failed() + stats.send_waiting;
        assert_eq!((stats.submitted, stats.unaccounted()), (outcomes, 0), "{stats:?}");
        stats
    }
}

fn client(at: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
    socket.connect(at).expect("connected");
    socket.set_nonblocking(true).expect("an option");
    socket
}

fn send(client: &UdpSocket, bytes: &[u8]) {
    assert_eq!(client.send(bytes).expect("sent"), bytes.len());
}

const BOTH: [bool; 2] = [false, true];

#[test]
fn memory_that_the_kernel_may_write_to_stays() {
    let Ok((mut rings, _)) = crate::prepare(&Config::new()) else { return };
    let mapped = |address: usize| {
        let maps = std::fs::read_to_string("/proc/self/maps").expect("this process's");
        let range = |line: &str| {
            let (first, end) = line.split(' ').next()?.split_once('-')?;
            let number = |text| usize::from_str_radix(text, 16).ok();
            Some(number(first)?..number(end)?)
        };
        maps.lines().filter_map(range).any(|range| range.contains(&address))
    };
    let engine = rings.remove(0).enable().expect("enabled");
    let address = engine.buffers.address();
    faults::plan_cancels([libc::EPERM]);
    drop(engine);
    assert!(mapped(address));
}

#[test]
fn a_ring_that_takes_nothing_for_a_while_loses_nothing() {
    for own_sockets in BOTH {
        let Some(mut bed) = Bed::new(own_sockets) else { return };
        for errno in
            [libc::EAGAIN, libc::ENOMEM, libc::EBUSY, libc::EINTR, libc::ETIME, libc::EBADR, libc::EIO]
        {
            for entries in [1, 5, 24] {
                faults::plan_entries(vec![Fault::Fails(errno); entries]);
                bed.fan_out();
                while faults::planned_entries() > 0 {
                    bed.turn();
                }
                let stats = bed.add_up();
                assert_eq!(bed.received(ANSWERS), ANSWERS, "errno {errno}, {entries} entries: {stats:?}");
                assert_eq!(stats.send_failed(), 0, "errno {errno}, {entries} entries: {stats:?}");
            }
            bed.buffers_go_round();
        }
        bed.add_up();
    }
}

#[test]
fn a_ring_that_takes_a_part_loses_nothing() {
    for own_sockets in BOTH {
        let Some(mut bed) = Bed::new(own_sockets) else { return };
        for few in [0, 1, 2, 7] {
            for entries in [3, 60] {
                faults::plan_entries(vec![Fault::Takes(few); entries]);
                bed.fan_out();
                while faults::planned_entries() > 0 {
                    bed.turn();
                }
                let stats = bed.add_up();
                assert_eq!(bed.received(ANSWERS), ANSWERS, "{few} of {entries} entries: {stats:?}");
            }
            bed.buffers_go_round();
        }
        // Now and then one, of all kinds.
        for round in 0..50 {
            let kinds = [
                Fault::Takes(round % 5),
                Fault::Fails(libc::EAGAIN),
                Fault::Takes(1),
                Fault::Fails(libc::EINTR),
                Fault::Fails(libc::EBUSY),
            ];
            faults::plan_entries(kinds.into_iter().cycle().take(round as usize));
            bed.fan_out();
            assert_eq!(bed.received(ANSWERS), ANSWERS, "round {round}: {:?}", bed.stats.snapshot());
        }
        faults::no_more_entries();
        bed.buffers_go_round();
        assert_eq!(bed.add_up().send_failed(), 0);
    }
}

#[test]
fn a_shard_whose_ring_takes_nothing_sleeps_and_goes_on_with_the_rest() {
    let Some(mut bed) = Bed::new(false) else { return };
    const MANY: usize = 100_000;
    faults::plan_entries(vec![Fault::Fails(libc::ENOMEM); MANY]);
    let (timers, turns) = (bed.stats.snapshot().timers_fired, bed.stats.snapshot().turns);
    let end = Instant::now() + Duration::from_millis(600);
    while Instant::now() < end {
        bed.turn();
    }
    let stats = bed.stats.snapshot();
    let (fired, entries) = (stats.timers_fired - timers, MANY - faults::planned_entries());
    assert!(fired > 0 && stats.turns > turns);
    assert!(entries < 2_000, "{entries} entries in {} turns: it spins", stats.turns - turns);
    faults::no_more_entries();
    bed.buffers_go_round();
}

#[test]
fn what_ends_a_ring_ends_the_shard() {
    for errno in [libc::EBADF, libc::EBADFD, libc::EFAULT, libc::EINVAL, libc::EEXIST, libc::ENOSYS] {
        let Some(mut bed) = Bed::new(false) else { return };
        faults::plan_entries([Fault::Fails(errno)]);
        let Turn::Ended(Ending::Failed(error)) = bed.shard.turn() else { panic!("{errno}: it goes on") };
        assert_eq!(error.raw_os_error(), Some(errno));
    }
}

/// Errors of sends with what is to be counted. A peer's own socket tells some of them of an earlier send, and then it
/// is tried once more.
#[test]
fn a_send_that_fails_is_its_peers_own_failure() {
    const ERRORS: [i32; 16] = [
        libc::ENOBUFS,
        libc::ENOMEM,
        libc::ECONNREFUSED,
        libc::EPERM,
        libc::EACCES,
        libc::EMSGSIZE,
        libc::EINVAL,
        libc::EBADF,
        libc::ECANCELED,
        libc::ENETUNREACH,
        libc::EHOSTUNREACH,
        libc::EPIPE,
        libc::ENOTCONN,
        libc::EINTR,
        libc::EFAULT,
        libc::EIO,
    ];
    for own_sockets in BOTH {
        let Some(mut bed) = Bed::new(own_sockets) else { return };
        for errno in ERRORS {
            let before = bed.add_up();
            // The first datagram of every other peer, as long as the first submission lasts.
            faults::plan_sends([Some(errno), None, None, None].into_iter().cycle().take(12));
            bed.fan_out();
            faults::no_more_sends();
            let stats = bed.add_up();
            let failed = stats.send_failed() - before.send_failed();
            assert!((1..=3).contains(&failed) || own_sockets, "errno {errno}: {failed}");
            assert_eq!(bed.received(ANSWERS - failed) + failed, ANSWERS, "errno {errno}: {stats:?}");
            // And all of them at once, twice over.
            let before = stats;
            faults::plan_sends(vec![Some(errno); 4 * PEERS]);
            bed.fan_out();
            faults::no_more_sends();
            let stats = bed.add_up();
            let failed = stats.send_failed() - before.send_failed();
            assert_eq!((bed.received(0), failed), (0, ANSWERS), "errno {errno}: {stats:?}");
            bed.buffers_go_round();
        }
    }
}

#[test]
fn full_sockets_and_a_ring_that_takes_nothing_keep_the_order() {
    for own_sockets in BOTH {
        let Some(mut bed) = Bed::new(own_sockets) else { return };
        let mut failed = 0;
        for round in 0..16 {
            let nth = |n: usize| n.is_multiple_of(3 + round % 5).then_some(libc::EAGAIN);
            faults::plan_sends((0..2 * PEERS).map(nth));
            faults::plan_entries(vec![Fault::Fails(libc::EAGAIN); 7 * round % 20]);
            bed.fan_out();
            faults::no_more_sends();
            let stats = bed.add_up();
            let lost = stats.send_failed() - failed;
            failed = stats.send_failed();
            assert_eq!(bed.received(ANSWERS - lost) + lost, ANSWERS, "round {round}: {stats:?}");
        }
        faults::no_more_entries();
        bed.buffers_go_round();
    }
}

#[test]
fn a_shard_that_lost_completions_begins_anew() {
    for own_sockets in BOTH {
        let Some(mut bed) = Bed::new(own_sockets) else { return };
        for lost in [1, 2, 5, 12] {
            // Among them the ends of receives and of the watch for wake-ups, and some with a buffer.
            faults::plan_losses(lost);
            for at in 0..PEERS {
                send(&bed.clients[at], &[ANSWER; 9]);
            }
            while faults::planned_losses() > 0 {
                bed.turn();
            }
            faults::plan_entries([Fault::Fails(libc::EBADR)]);
            while faults::planned_entries() > 0 {
                bed.turn();
            }
            // What a client had asked before is behind it once it is answered what it asks now.
            for at in 0..PEERS {
                bed.ask(at, &[ANSWER, lost as u8]);
            }
            bed.buffers_go_round();
            bed.fan_out();
            assert_eq!(bed.received(ANSWERS), ANSWERS, "after {lost} losses");
        }
        bed.add_up();
    }
}
