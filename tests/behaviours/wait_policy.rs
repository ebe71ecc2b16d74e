//! What waiting costs: a shard that spins uses its core meanwhile, one that is to spin for a while sleeps then, one that
//! blocks does not run.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Sender};
use std::time::{Duration, Instant};

use shardgram::{Accept, Config, Context, Datagram, Handler, Origin, PeerId, WaitPolicy};

use crate::common::{Bed, PATIENCE, Served, loopback};

/// Echoes, and does what messages say.
struct Waiter;

enum Order {
    /// Say which thread this is.
    Who(Sender<PathBuf>),
    /// Have the next shard say something after that time; how late it was.
    Remind(Duration, Sender<Duration>),
    Say(Sender<Duration>, Duration),
}

impl Handler for Waiter {
    type Peer = ();
    type Timer = (Instant, Sender<Duration>);
    type Message = Order;

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, _: PeerId, datagram: Datagram<'_>) {
        let len = datagram.len();
        cx.io.reply(datagram, len).expect("room for a reply");
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            // proc(5): where the calling thread is found.
            Order::Who(tell) => tell.send(std::fs::read_link("/proc/thread-self").unwrap()).unwrap(),
            Order::Remind(after, tell) => {
                let at = cx.io.now() + after;
                assert!(cx.io.set_timer(at, (at, tell)).is_ok(), "room for a timer");
            }
            Order::Say(tell, late) => tell.send(late).unwrap(),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (at, tell): Self::Timer) {
        assert!(cx.io.now() >= at, "it is too early");
        let next = (cx.io.shard() + 1) % cx.io.shards();
        let late = cx.io.now() - at;
        assert!(cx.io.tell(next, Order::Say(tell, late)).is_ok(), "room for a message");
    }
}

/// Where the statistics of a shard's thread are.
fn thread_of(bed: &mut Bed, server: &Served<Order>, shard: u16) -> PathBuf {
    let (tell, told) = mpsc::channel();
    bed.tell(server, shard, Order::Who(tell));
    PathBuf::from("/proc").join(told.recv_timeout(PATIENCE).expect("the shard answers"))
}

/// How long a thread has run (proc(5), `schedstat`).
fn cpu_time(thread: &Path) -> Duration {
    let text = std::fs::read_to_string(thread.join("schedstat")).unwrap();
    Duration::from_nanos(text.split_whitespace().next().unwrap().parse().unwrap())
}

/// Whether a thread sleeps (proc(5), `stat`): one that only has no core now is not.
fn sleeps(thread: &Path) -> bool {
    let text = std::fs::read_to_string(thread.join("stat")).unwrap();
    let (_, state) = text.rsplit_once(") ").unwrap();
    state.starts_with('S')
}

/// Waits until the thread sleeps, and not only in passing; how long it has run.
fn until_it_sleeps(bed: &mut Bed, thread: &Path) -> Duration {
    let mut before = cpu_time(thread);
    bed.until("it sleeps", |bed| {
        bed.pass(Duration::from_millis(20));
        let now = cpu_time(thread);
        std::mem::replace(&mut before, now) == now && sleeps(thread)
    });
    before
}

fn waiting(policy: WaitPolicy) -> Config {
    loopback().wait(policy)
}

fn a_spinning_shard_uses_its_core(mut bed: Bed) {
    let server = bed.serve(waiting(WaitPolicy::Spin), |_| Waiter);
    let thread = thread_of(&mut bed, &server, 0);
    let before = cpu_time(&thread);
    bed.until("it has run for a while", |_| cpu_time(&thread) > before + Duration::from_millis(200));
    // What it is told is heard all the same.
    let (tell, told) = mpsc::channel();
    bed.tell(&server, 0, Order::Remind(Duration::from_millis(20), tell));
    told.recv_timeout(PATIENCE).expect("by timer and message");
    let before = cpu_time(&thread);
    bed.until("it goes on", |_| cpu_time(&thread) > before + Duration::from_millis(50));
    bed.drain(server);
}

fn a_shard_that_spins_for_a_while_sleeps_then(mut bed: Bed) {
    let server = bed.serve(waiting(WaitPolicy::SpinFor(Duration::from_millis(400))), |_| Waiter);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    let thread = thread_of(&mut bed, &server, 0);
    for _ in 0..2 {
        let before = until_it_sleeps(&mut bed, &thread);
        assert_eq!(bed.ask(&peer, at, b"wake up"), b"wake up");
        let after = until_it_sleeps(&mut bed, &thread);
        // Others may have had the core for most of the time; one that blocks needs a fraction of that.
        assert!(after - before > Duration::from_millis(2), "it did not spin: {:?}", after - before);
        assert!(after - before < Duration::from_secs(2), "{:?}", after - before);
    }
    // A far timer does not keep it awake, and is kept to.
    let (tell, told) = mpsc::channel();
    let told_at = Instant::now();
    bed.tell(&server, 0, Order::Remind(Duration::from_secs(2), tell));
    until_it_sleeps(&mut bed, &thread);
    assert!(told_at.elapsed() > Duration::from_millis(400), "it spun for as long as it was to");
    told.recv_timeout(PATIENCE).expect("by timer and message");
    bed.drain(server);
}

fn a_blocking_shard_does_not_run(mut bed: Bed) {
    let server = bed.serve(waiting(WaitPolicy::Block), |_| Waiter);
    let thread = thread_of(&mut bed, &server, 0);
    let before = until_it_sleeps(&mut bed, &thread);
    bed.pass(Duration::from_millis(300));
    assert_eq!(cpu_time(&thread), before);
    bed.drain(server);
}

on_real_drivers!(
    a_spinning_shard_uses_its_core,
    a_shard_that_spins_for_a_while_sleeps_then,
    a_blocking_shard_does_not_run,
);
