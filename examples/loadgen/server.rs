//! The handler of the embedded server: it echoes, takes what comes, or passes it to subscribers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use shardgram::{Accept, CloseReason, Context, Datagram, Handler, Origin, PeerId, ShardInfo};

use super::arrivals::{self, Books, Seen};
use super::cpu::Threads;
use super::link::{Event, Order, Shared};
use super::pattern::Pattern;
use super::payload;
use super::slices::Slices;
use super::tally::Tally;

/// How often the intervals are looked at.
const INTERVAL_EVERY: Duration = Duration::from_millis(10);

pub(crate) struct Responder {
    threads: Arc<Threads>,
    pattern: Pattern,
    info: ShardInfo,
    /// Fan-out: those of this shard.
    subscribers: Vec<PeerId>,
    watch: Option<Watch>,
}

/// What is counted of one run.
struct Watch {
    shared: Arc<Shared>,
    tally: Tally,
    /// Sink: what arrived in each interval.
    slices: Option<Slices>,
}

impl Watch {
    /// Known from when the generator has begun, so before anything arrives.
    fn learn_when_it_counts(&mut self) {
        if self.tally.counted_from_ns == u64::MAX
            && let Some(counted_from_ns) = self.shared.counted_from_ns.get()
        {
            self.tally.counted_from_ns = *counted_from_ns;
            self.slices = self.shared.plan.grid(*counted_from_ns).map(|grid| Slices::new(grid, false));
        }
    }
}

#[derive(Default)]
pub(crate) struct Known {
    subscribed: bool,
    /// The flow it is, and what came of it.
    flow: Option<u32>,
    seen: Seen,
}

impl Known {
    /// What came of this flow. It may be a new one that got the port of one that was closed: to the server they are
    /// one peer, and each has sequences of its own.
    fn seen_of(&mut self, flow: u32) -> &mut Seen {
        if self.flow.replace(flow) != Some(flow) {
            self.seen = Seen::default();
        }
        &mut self.seen
    }
}

impl Responder {
    pub(crate) fn new(threads: Arc<Threads>, pattern: Pattern, info: ShardInfo) -> Self {
        Self { threads, pattern, info, subscribers: Vec::new(), watch: None }
    }

    fn arrived(&mut self, known: &mut Known, mut datagram: Datagram<'_>) {
        let Some(watch) = self.watch.as_mut() else { return };
        watch.learn_when_it_counts();
        let Watch { shared, tally, slices } = watch;
        let plan = &shared.plan;
        let (now_ns, len) = (plan.now_ns(), datagram.len());
        let Some(header) = payload::read(&mut datagram) else {
            tally.corrupted += u64::from(now_ns >= tally.counted_from_ns);
            return;
        };
        if header.run != plan.run {
            tally.strange += 1;
            return;
        }
        let timeout_ns = plan.timeout.as_nanos() as u64;
        let books =
            Books { tally, slices: slices.as_mut(), timeout_ns, remember: plan.remembered_arrivals() };
        arrivals::count(books, known.seen_of(header.flow), &header, len, now_ns);
    }

    /// Subscribes the sender, or sends the datagram to all subscribers of all shards.
    fn publish(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if payload::is_subscription(&datagram) {
            if let Some(known) = cx.peers.get_mut(from)
                && !std::mem::replace(&mut known.subscribed, true)
            {
                self.subscribers.push(from);
            }
            let len = datagram.len();
            let _ = cx.io.reply(datagram, len); // a refusal is counted, and the subscriber asks again
            return;
        }
        if self.info.shards > 1 {
            let copy: Arc<[u8]> = (*datagram).into();
            for shard in (0..self.info.shards).filter(|shard| *shard != self.info.shard) {
                let _ = cx.io.tell(shard, Order::Publish(Arc::clone(&copy))); // a refusal is counted
            }
        }
        self.pass_on(cx, &datagram);
    }

    fn pass_on(&self, cx: &mut Context<'_, Self>, bytes: &[u8]) {
        let Ok(shared) = cx.io.share(bytes) else { return };
        for subscriber in &self.subscribers {
            let _ = cx.io.send_shared(*subscriber, shared); // a refusal is counted
        }
    }

    fn begin(&mut self, cx: &mut Context<'_, Self>, shared: Arc<Shared>) {
        let _ = shared.events.send(Event::Watching);
        self.watch = Some(Watch { shared, tally: Tally::new(), slices: None });
        self.tell_of_intervals(cx);
    }

    /// Where intervals are wanted of what arrives: tells of those that are over, and looks again later.
    fn tell_of_intervals(&mut self, cx: &mut Context<'_, Self>) {
        let Some(watch) = self.watch.as_mut() else { return };
        if self.pattern != Pattern::Sink || watch.shared.plan.step.is_none() {
            return;
        }
        watch.learn_when_it_counts();
        let Watch { shared, slices, .. } = watch;
        let now_ns = shared.plan.now_ns();
        while let Some((index, slice)) = slices.as_mut().and_then(|slices| slices.over(now_ns)) {
            let _ = shared.events.send(Event::Interval(index, Box::new(slice)));
        }
        let _ = cx.io.set_timer(cx.io.now() + INTERVAL_EVERY, ());
    }

    /// The run is over: tells what was counted, and forgets everyone.
    fn end(&mut self, cx: &mut Context<'_, Self>) {
        let Some(mut watch) = self.watch.take() else { return };
        let stop_ns = watch.shared.plan.now_ns();
        for (index, slice) in watch.slices.iter_mut().flat_map(|slices| slices.rest(stop_ns)) {
            let _ = watch.shared.events.send(Event::Interval(index, Box::new(slice)));
        }
        let _ = watch.shared.events.send(Event::Served(Box::new(watch.tally)));
        let all: Vec<_> = cx.peers.iter().map(|(peer, _)| peer).collect();
        all.into_iter().for_each(|peer| cx.io.close(peer));
        self.subscribers.clear();
    }
}

impl Handler for Responder {
    type Peer = Known;
    type Timer = ();
    type Message = Order;

    fn on_start(&mut self, _: &mut Context<'_, Self>) {
        self.threads.join();
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Known> {
        Accept::Peer(Known::default())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        match self.pattern {
            Pattern::Echo => {
                let len = datagram.len();
                let _ = cx.io.reply(datagram, len); // a refusal is counted
            }
            Pattern::Sink => {
                if let Some(known) = cx.peers.get_mut(from) {
                    self.arrived(known, datagram);
                }
            }
            Pattern::FanOut { .. } => self.publish(cx, from, datagram),
        }
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, (): ()) {
        self.tell_of_intervals(cx);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, order: Order) {
        match order {
            Order::Begin(shared) => self.begin(cx, shared),
            Order::Publish(bytes) => self.pass_on(cx, &bytes),
            Order::End => self.end(cx),
        }
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, peer: PeerId, known: Known, _: CloseReason) {
        if known.subscribed {
            self.subscribers.retain(|subscriber| *subscriber != peer);
        }
    }

    fn on_turn_end(&mut self, _: &mut Context<'_, Self>) {
        let Some(watch) = &self.watch else { return };
        let place = usize::from(watch.shared.plan.shards) + usize::from(self.info.shard);
        if let Some(progress) = watch.shared.progress.get(place) {
            progress.received.store(watch.tally.received, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flow::Kind;
    use super::*;

    #[test]
    fn a_flow_that_gets_the_port_of_another_is_another() {
        let mut known = Known::default();
        let mut note = |flow, sequence| known.seen_of(flow).note(sequence, 64);
        let fresh = Kind::Fresh { reordered: false };
        assert_eq!([note(3, 0), note(3, 1), note(3, 1)], [fresh, fresh, Kind::Duplicate]);
        assert_eq!([note(11, 0), note(11, 1), note(11, 1)], [fresh, fresh, Kind::Duplicate]);
    }
}
