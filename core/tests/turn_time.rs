//! A turn hands over as much as its time allows, and each kind of work has its own: on a clock that callbacks advance.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use shardgram_core::backlog::Backlog;
use shardgram_core::datagram::SocketId;
use shardgram_core::driver::{Arrival, Capabilities, Driver, Sink, Turned, Wait};
use shardgram_core::mailbox::{Postbox, mailboxes};
use shardgram_core::outbox::{Outbox, TrainLimits};
use shardgram_core::shard_loop::{Secrets, Setup, ShardLoop, Turn};
use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, Handler, Meta, Origin, PeerId, ShardInfo, Stats,
};

/// The time, and what took it.
#[derive(Clone)]
struct World {
    now: Rc<Cell<Instant>>,
    asked: Rc<Cell<u32>>,
    /// Datagrams, messages and timers, in the order of their callbacks.
    calls: Rc<RefCell<String>>,
    each: Rc<Cell<Duration>>,
    /// What each datagram says.
    said: Rc<RefCell<Vec<u32>>>,
}

impl World {
    fn new(each: Duration) -> Self {
        let now = Rc::new(Cell::new(Instant::now()));
        let each = Rc::new(Cell::new(each));
        Self { now, asked: Rc::default(), calls: Rc::default(), each, said: Rc::default() }
    }

    fn call(&self, what: char) {
        self.calls.borrow_mut().push(what);
        self.now.set(self.now.get() + self.each.get());
    }
}

/// A socket that is always full, of trains of so many datagrams, which are numbered.
struct Flooded {
    world: World,
    train: u32,
    next: u32,
}

impl Driver for Flooded {
    fn capabilities(&self) -> Capabilities {
        Capabilities::new(TrainLimits::SINGLE)
    }

    fn now(&self) -> Instant {
        self.world.asked.set(self.world.asked.get() + 1);
        self.world.now.get()
    }

    fn open(&mut self, _: SocketId, _: &Endpoint) -> Result<SocketAddr, i32> {
        Err(95)
    }

    fn close(&mut self, _: SocketId) {}

    fn wake(&mut self, _: u16) {}

    fn turn(&mut self, _: &Outbox, _: &mut Backlog, wait: Wait) -> io::Result<Turned> {
        assert_eq!(wait, Wait::Poll, "there is more");
        Ok(Turned::Awake)
    }

    fn receive(&mut self, budget: usize, each: usize, sink: &mut impl Sink) -> usize {
        assert!(each >= 1, "a socket has its turn");
        for handed_over in 1..=budget {
            let (socket, meta) = (SocketId::listener(0), Meta::default());
            let remote = ([192, 0, 2, 7], 4_000).into();
            let mut bytes: Vec<u8> = (self.next..self.next + self.train).flat_map(u32::to_be_bytes).collect();
            self.next += self.train;
            let fate = sink.datagram(Arrival {
                socket,
                remote,
                local: None,
                meta,
                segment: if self.train > 1 { 4 } else { 0 },
                bytes: &mut bytes,
                buffer: 0,
                start: 0,
            });
            if fate.stop {
                return handed_over;
            }
        }
        budget
    }

    fn has_more(&self) -> bool {
        true
    }

    fn kernel_dropped(&mut self) -> u64 {
        0
    }
}

struct Slow(World);

impl Handler for Slow {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        let _ = cx.io.set_timer(cx.io.now(), ());
        Accept::Peer(())
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        self.0.said.borrow_mut().push(u32::from_be_bytes(datagram[..].try_into().expect("a number")));
        self.0.call('d');
    }

    fn on_message(&mut self, _: &mut Context<'_, Self>, _: Origin, (): ()) {
        self.0.call('m');
    }

    /// Always due.
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.0.call('t');
        for _ in 0..2 {
            let _ = cx.io.set_timer(cx.io.now(), ());
        }
    }
}

type Shard = ShardLoop<Flooded, Slow, Box<dyn Fn(ShardInfo) -> Slow>>;

fn shard(world: &World, config: &Config) -> (Shard, Postbox<()>) {
    let (shard, postbox, _) = shard_of_trains(world, config, 1);
    (shard, postbox)
}

fn shard_of_trains(world: &World, config: &Config, train: u32) -> (Shard, Postbox<()>, Arc<Stats>) {
    let (postboxes, mut mailboxes) = mailboxes(1, 4_096);
    let (postbox, stats) = (postboxes[0].clone(), Arc::<Stats>::default());
    let setup = Setup {
        info: ShardInfo::new(0, 1),
        listeners: Arc::new([([192, 0, 2, 1], 9_000).into()]),
        mailbox: mailboxes.remove(0),
        postboxes,
        control: Arc::default(),
        stats: Arc::clone(&stats),
        secrets: Secrets { table: (1, 2), cookies: (3, 4) },
        resolver: None,
        own: Arc::default(),
        start: world.now.get(),
    };
    let theirs = world.clone();
    let make: Box<dyn Fn(ShardInfo) -> Slow> = Box::new(move |_| Slow(theirs.clone()));
    let driver = Flooded { world: world.clone(), train, next: 0 };
    (ShardLoop::new(driver, setup, config, make).expect("a shard"), postbox, stats)
}

/// What a turn does when everything always has something to do: datagrams, messages and timers.
fn turn(shard: &mut Shard, postbox: &Postbox<()>, world: &World) -> [usize; 3] {
    while postbox.post(()).is_ok() {}
    world.calls.borrow_mut().clear();
    world.asked.set(0);
    assert!(matches!(shard.turn(), Turn::Ran));
    let calls = world.calls.borrow();
    ['d', 'm', 't'].map(|kind| calls.chars().filter(|call| *call == kind).count())
}

#[test]
fn slow_callbacks_keep_no_other_kind_waiting() {
    for micros in [50, 100, 250, 700] {
        let world = World::new(Duration::from_micros(micros));
        let config = Config::new().turn_budget(256).max_timers(1_000).turn_time_us(500).idle_timeout(None);
        let (mut shard, postbox) = shard(&world, &config);
        let turns: Vec<_> = (0..30).map(|_| turn(&mut shard, &postbox, &world)).collect();
        let share = 500_usize.div_ceil(micros as usize);
        assert!(turns[20..].iter().all(|done| *done == [share; 3]), "{micros} us each: {turns:?}");
    }
}

#[test]
fn quick_ones_are_bounded_by_their_budgets_and_hardly_timed() {
    let world = World::new(Duration::from_nanos(300));
    let config = Config::new().turn_budget(64).event_budget(100).max_timers(1_000).idle_timeout(None);
    let (mut shard, postbox) = shard(&world, &config);
    for _ in 0..100 {
        turn(&mut shard, &postbox, &world);
    }
    assert_eq!(turn(&mut shard, &postbox, &world), [64, 100, 100]);
    assert!(world.asked.get() <= 10, "the clock was asked {} times", world.asked.get());
}

#[test]
fn callbacks_that_become_slow_are_noticed_after_a_slice() {
    let world = World::new(Duration::from_nanos(300));
    let config = Config::new().turn_budget(64).max_timers(1_000).turn_time_us(500).idle_timeout(None);
    let (mut shard, postbox) = shard(&world, &config);
    for _ in 0..100 {
        turn(&mut shard, &postbox, &world);
    }
    world.each.set(Duration::from_micros(100));
    let [datagrams, messages, timers] = turn(&mut shard, &postbox, &world);
    assert_eq!(datagrams, 16);
    // Where the clock is not read first, a slice goes by before there is anything to compare with.
    assert!(messages <= 32 && timers <= 32, "{messages} messages, {timers} timers");
    assert_eq!(turn(&mut shard, &postbox, &world), [5; 3]);
}

#[test]
fn the_rest_of_a_train_waits_where_callbacks_are_slow() {
    for micros in [50, 100, 250, 700] {
        let world = World::new(Duration::from_micros(micros));
        let config = Config::new().turn_budget(256).max_timers(1_000).turn_time_us(500).idle_timeout(None);
        let (mut shard, postbox, stats) = shard_of_trains(&world, &config, 64);
        let turns: Vec<_> = (0..60).map(|_| turn(&mut shard, &postbox, &world)).collect();
        let share = 500_usize.div_ceil(micros as usize);
        // While messages and timers are as slow, what waits has half of the time for mail beside.
        let fair = |done: &[usize; 3]| {
            (share..=2 * share).contains(&done[0]) && done[1] >= share / 2 && done[2] == share
        };
        assert!(turns[20..].iter().all(fair), "{micros} us each: {turns:?}");
        let said = world.said.borrow();
        assert_eq!(*said, (0..said.len() as u32).collect::<Vec<_>>(), "each once and in order");
        let counted = stats.snapshot();
        assert_eq!(counted.received, counted.delivered + counted.held_back, "{counted:?}");
        assert!(counted.held_back < 64, "no more than a train waits: {counted:?}");
    }
}

#[test]
fn trains_are_handed_over_in_one_go_where_callbacks_are_quick() {
    let world = World::new(Duration::from_nanos(300));
    let config = Config::new().turn_budget(16).max_timers(1_000).turn_time_us(500).idle_timeout(None);
    let (mut shard, postbox, stats) = shard_of_trains(&world, &config, 64);
    for _ in 0..100 {
        turn(&mut shard, &postbox, &world);
    }
    assert_eq!(turn(&mut shard, &postbox, &world)[0], 16 * 64);
    assert_eq!(stats.snapshot().held_back, 0);
    world.each.set(Duration::from_micros(100));
    let turns = [(); 3].map(|()| turn(&mut shard, &postbox, &world)[0]);
    assert_eq!(turns[..2], [64, 64], "one may have been interrupted, two were not");
    assert!(turns[2] <= 10, "{turns:?}");
}
