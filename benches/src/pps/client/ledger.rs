//! What is in flight, and what is wrong with what comes back.

use std::time::Instant;

use hdrhistogram::Histogram;

use crate::pps::wire::{HEADER, Head, Kind, filling};

/// Longest latency that is told from longer ones, in nanoseconds: ten seconds.
const LONGEST_NS: u64 = 10_000_000_000;

#[derive(Clone, Copy, Default)]
struct Place {
    /// 0 if it is free.
    number: u64,
    at_ns: u64,
}

struct Flow {
    next: u64,
    newest: u64,
    free: Vec<u16>,
}

/// The numbers of all flows.
pub(super) struct Ledger {
    window: usize,
    places: Vec<Place>,
    flows: Vec<Flow>,
    pattern: Vec<u8>,
    base: Instant,
    in_flight: usize,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) corrupted: u64,
    pub(super) duplicated: u64,
    pub(super) reordered: u64,
    pub(super) latency: Histogram<u64>,
}

/// An empty histogram of latencies.
pub(super) fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("the bounds are constant and right")
}

impl Ledger {
    pub(super) fn new(flows: u32, window: u32, size: usize) -> Self {
        let window = window.clamp(1, u32::from(u16::MAX)) as usize;
        let free: Vec<u16> = (0..window as u16).rev().collect();
        Self {
            window,
            places: vec![Place::default(); flows as usize * window],
            flows: (0..flows).map(|_| Flow { next: 1, newest: 0, free: free.clone() }).collect(),
            pattern: (0..size).map(filling).collect(),
            base: Instant::now(),
            in_flight: 0,
            received: 0,
            lost: 0,
            corrupted: 0,
            duplicated: 0,
            reordered: 0,
            latency: latencies(),
        }
    }

    /// Forgets what it counted, but not what is in flight.
    pub(super) fn begin(&mut self) {
        (self.lost, self.corrupted, self.duplicated, self.reordered) = (0, 0, 0, 0);
        self.latency.reset();
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn free(&self, flow: usize) -> usize {
        self.flows[flow].free.len()
    }

    /// Nanoseconds of this moment.
    pub(super) fn ns(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.base).as_nanos() as u64
    }

    /// The next datagram of a flow takes a place, and its head is written; false if there is none free.
    pub(super) fn depart(&mut self, flow: usize, at_ns: u64, datagram: &mut [u8]) -> bool {
        let state = &mut self.flows[flow];
        let Some(slot) = state.free.pop() else { return false };
        let number = state.next;
        state.next += 1;
        self.places[flow * self.window + usize::from(slot)] = Place { number, at_ns };
        self.in_flight += 1;
        let head = Head { kind: Kind::Load, slot, flow: flow as u32, number };
        datagram[..HEADER].copy_from_slice(&head.bytes());
        true
    }

    /// Something came to the socket of a flow.
    pub(super) fn arrive(&mut self, flow: usize, datagram: &[u8], now_ns: u64) {
        let head = Head::read(datagram);
        let intact = datagram.len() == self.pattern.len() && datagram[HEADER..] == self.pattern[HEADER..];
        let Some(head) = head.filter(|head| {
            intact && head.flow as usize == flow && usize::from(head.slot) < self.window && head.number > 0
        }) else {
            self.corrupted += 1;
            return;
        };
        let place = &mut self.places[flow * self.window + usize::from(head.slot)];
        if place.number != head.number {
            self.duplicated += 1;
            return;
        }
        place.number = 0;
        let state = &mut self.flows[flow];
        state.free.push(head.slot);
        self.in_flight -= 1;
        self.received += 1;
        self.reordered += u64::from(head.number < state.newest);
        state.newest = state.newest.max(head.number);
        self.latency.saturating_record(now_ns.saturating_sub(place.at_ns).max(1));
    }

    /// Gives up what left before that; says which flows have a place again.
    pub(super) fn give_up(&mut self, before_ns: u64) -> Vec<usize> {
        let mut flows = Vec::new();
        if self.in_flight == 0 {
            return flows;
        }
        for (at, place) in self.places.iter_mut().enumerate() {
            if place.number == 0 || place.at_ns >= before_ns {
                continue;
            }
            place.number = 0;
            let flow = at / self.window;
            self.flows[flow].free.push((at % self.window) as u16);
            self.in_flight -= 1;
            self.lost += 1;
            flows.push(flow);
        }
        flows.dedup();
        flows
    }
}

#[cfg(test)]
mod tests {
    use super::Ledger;
    use crate::pps::wire::filling;

    fn datagram(ledger: &mut Ledger, flow: usize, at_ns: u64) -> Vec<u8> {
        let mut bytes: Vec<u8> = (0..64).map(filling).collect();
        assert!(ledger.depart(flow, at_ns, &mut bytes));
        bytes
    }

    #[test]
    fn what_comes_back_is_received_once() {
        let mut ledger = Ledger::new(2, 1, 64);
        let bytes = datagram(&mut ledger, 1, 100);
        assert_eq!((ledger.free(0), ledger.free(1), ledger.in_flight()), (1, 0, 1));
        ledger.arrive(1, &bytes, 350);
        ledger.arrive(1, &bytes, 360);
        assert_eq!((ledger.received, ledger.duplicated, ledger.in_flight()), (1, 1, 0));
        assert_eq!(ledger.latency.max(), 250);
    }

    #[test]
    fn other_bytes_another_flow_and_another_length_are_corruption() {
        let mut ledger = Ledger::new(2, 1, 64);
        let mut bytes = datagram(&mut ledger, 0, 0);
        ledger.arrive(1, &bytes, 1);
        ledger.arrive(0, &bytes[..63], 1);
        bytes[40] ^= 1;
        ledger.arrive(0, &bytes, 1);
        ledger.arrive(0, b"", 1);
        assert_eq!((ledger.received, ledger.corrupted, ledger.in_flight()), (0, 4, 1));
    }

    #[test]
    fn order_is_that_of_a_flow() {
        let mut ledger = Ledger::new(2, 2, 64);
        let (first, second) = (datagram(&mut ledger, 0, 0), datagram(&mut ledger, 0, 0));
        let other = datagram(&mut ledger, 1, 0);
        ledger.arrive(0, &second, 1);
        ledger.arrive(1, &other, 1);
        ledger.arrive(0, &first, 1);
        assert_eq!((ledger.received, ledger.reordered), (3, 1));
    }

    #[test]
    fn what_does_not_come_is_lost_and_its_place_is_free() {
        let mut ledger = Ledger::new(3, 1, 64);
        let old = datagram(&mut ledger, 2, 10);
        let _ = datagram(&mut ledger, 1, 30);
        assert_eq!(ledger.give_up(20), [2]);
        assert_eq!((ledger.lost, ledger.free(2), ledger.free(1)), (1, 1, 0));
        let again = datagram(&mut ledger, 2, 40);
        ledger.arrive(2, &old, 50);
        ledger.arrive(2, &again, 50);
        assert_eq!((ledger.received, ledger.duplicated), (1, 1));
    }
}
