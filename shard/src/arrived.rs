//! Completions that wait to be handed over, and whose turn it is.
//!
//! As long as a turn hands over all there is, they are handed over as they came. What a turn leaves behind is sorted by
//! socket if it is of several, and then sockets take turns, a few completions each: so one that is flooded, which may hold
//! every receive buffer, keeps the others waiting for a few of its datagrams at a time and not for all of them. What waits
//! of one socket only is never sorted, so this costs the others nothing.
//!
//! Sockets of peers' own and those that many share, listeners above all, have every other turn: a listener stands for many
//! peers, and those that move to sockets of their own wait until it is worked off.
//!
//! A socket that was turned away from its peer is in a hurry: what it brought is older than what comes by its peer's
//! listener from then on, and is handed over before anything else.

use std::collections::VecDeque;
use std::ops::Range;

use crate::completion;
use crate::user_data::{Kind, UserData};

const NONE: u32 = u32::MAX;

/// A completion of a receive or a watch that was not yet handed over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Completed {
    pub(crate) data: UserData,
    pub(crate) result: i32,
    pub(crate) flags: u32,
}

impl Completed {
    /// As if what has this name had been cancelled.
    pub(crate) fn cancelled(data: UserData) -> Self {
        Self { data, result: -libc::ECANCELED, flags: 0 }
    }

    /// What it is the completion of.
    pub(crate) fn name(&self) -> u64 {
        self.data.bits()
    }

    /// Whether no other follows.
    pub(crate) fn is_last(&self) -> bool {
        !completion::decode(self.result, self.flags).more()
    }

    /// The buffer that it names.
    pub(crate) fn buffer(&self) -> Option<u16> {
        (self.data.kind == Kind::Receive)
            .then(|| completion::decode(self.result, self.flags).buffer())
            .flatten()
    }
}

/// One that was sorted, with the next one of its socket.
#[derive(Debug)]
struct Node {
    done: Completed,
    next: u32,
}

/// What waits of the socket in a place.
#[derive(Clone, Copy, Debug)]
struct Lane {
    first: u32,
    last: u32,
    in_a_hurry: bool,
}

const EMPTY: Lane = Lane { first: NONE, last: NONE, in_a_hurry: false };

#[derive(Debug)]
pub(crate) struct Arrived {
    /// How many places there are. Completions of others, which no kernel should make, share a lane.
    places: u32,
    /// As they came; empty while anything is sorted.
    queue: VecDeque<Completed>,
    /// The place of the one that came last, and whether the queue has some of another.
    last: u32,
    mixed: bool,
    /// Those that are sorted, and the first free place among them.
    nodes: Vec<Node>,
    free: u32,
    sorted: usize,
    /// By place of the socket, as far as any was ever sorted or in a hurry.
    lanes: Vec<Lane>,
    /// Places of peers' own sockets.
    own: Range<u32>,
    /// Places whose lanes hold something, the next one first: of sockets that are shared, and of peers' own.
    order: [VecDeque<u32>; 2],
    /// It is the turn of a peer's own.
    own_next: bool,
    /// The place whose turn it is, which then is not in the order, and how much of its turn is left.
    current: u32,
    left: usize,
    /// How long turns are.
    each: usize,
    /// Those of sockets in a hurry.
    first: VecDeque<Completed>,
    hurrying: usize,
}

impl Arrived {
    pub(crate) fn new(places: u32, own: Range<u32>) -> Self {
        Self {
            places,
            queue: VecDeque::new(),
            last: 0,
            mixed: false,
            nodes: Vec::new(),
            free: NONE,
            sorted: 0,
            lanes: Vec::new(),
            own,
            order: Default::default(),
            own_next: false,
            current: NONE,
            left: 0,
            each: 1,
            first: VecDeque::new(),
            hurrying: 0,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty() && self.sorted == 0
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len() + self.sorted
    }

    /// How many sockets wait for their turn, as far as is known without a look at each completion.
    pub(crate) fn sockets(&self) -> usize {
        let lined_up: usize = self.order.iter().map(VecDeque::len).sum();
        (lined_up + usize::from(self.current != NONE)).max(1)
    }

    /// After so many completions of one socket it is the turn of the next.
    #[inline]
    pub(crate) fn set_turns(&mut self, each: usize) {
        self.each = each;
    }

    /// Whether some are to be handed over before anything else, also before what comes by other ways.
    pub(crate) fn any_in_a_hurry(&self) -> bool {
        !self.first.is_empty()
    }

    /// All that wait.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Completed> {
        let of = |lane: &Lane| {
            let first = self.nodes.get(lane.first as usize);
            std::iter::successors(first, |node| self.nodes.get(node.next as usize)).map(|node| &node.done)
        };
        self.queue.iter().chain(&self.first).chain(self.lanes.iter().flat_map(of))
    }

    #[inline]
    pub(crate) fn push(&mut self, done: Completed) {
        if self.sorted > 0 || self.hurrying > 0 {
            return self.push_sorted(done);
        }
        let place = done.data.index;
        self.mixed = !self.queue.is_empty() && (self.mixed || place != self.last);
        self.last = place;
        self.queue.push_back(done);
    }

    #[inline]
    pub(crate) fn pop(&mut self) -> Option<Completed> {
        if self.sorted > 0 { self.pop_sorted() } else { self.queue.pop_front() }
    }

    /// Sorts what waits, if it is of several sockets: what the last turn left, when the next one begins.
    #[inline]
    pub(crate) fn sort_mixed(&mut self) {
        if self.mixed && !self.queue.is_empty() {
            self.sort();
        }
    }

    #[inline(never)]
    fn sort(&mut self) {
        for done in std::mem::take(&mut self.queue) {
            self.push_sorted(done);
        }
        self.mixed = false;
    }

    fn lane(&mut self, place: u32) -> &mut Lane {
        let at = place.min(self.places) as usize;
        if self.lanes.len() <= at {
            self.lanes.resize(at + 1, EMPTY);
        }
        &mut self.lanes[at]
    }

    #[inline(never)]
    fn push_sorted(&mut self, done: Completed) {
        let place = done.data.index.min(self.places);
        self.sorted += 1;
        if self.lane(place).in_a_hurry {
            return self.first.push_back(done);
        }
        let at = self.take_node(done);
        let lane = self.lane(place);
        let last = std::mem::replace(&mut lane.last, at);
        if last == NONE {
            lane.first = at;
            self.line_up(place);
        } else {
            self.nodes[last as usize].next = at;
        }
    }

    fn take_node(&mut self, done: Completed) -> u32 {
        let node = Node { done, next: NONE };
        if self.free == NONE {
            self.nodes.push(node);
            return (self.nodes.len() - 1) as u32;
        }
        let at = self.free;
        self.free = std::mem::replace(&mut self.nodes[at as usize], node).next;
        at
    }

    #[inline(never)]
    fn pop_sorted(&mut self) -> Option<Completed> {
        if let Some(done) = self.first.pop_front() {
            self.sorted -= 1;
            return Some(done);
        }
        if self.current == NONE {
            let class = usize::from(self.own_next);
            self.own_next = !self.own_next;
            let next = self.order[class].pop_front();
            self.current = next.or_else(|| self.order[1 - class].pop_front())?;
            self.left = self.each;
        }
        let place = self.current;
        let done = self.pop_of(place)?;
        self.left = self.left.min(self.each).saturating_sub(1);
        let more = self.lanes[place as usize].first != NONE;
        if !more || self.left == 0 {
            self.current = NONE;
        }
        if more && self.left == 0 {
            self.line_up(place);
        }
        self.sorted -= 1;
        Some(done)
    }

    fn line_up(&mut self, place: u32) {
        self.order[usize::from(self.own.contains(&place))].push_back(place);
    }

    /// The first of a lane. Its place in the order and the count of all are the caller's.
    fn pop_of(&mut self, place: u32) -> Option<Completed> {
        let lane = self.lanes.get_mut(place as usize)?;
        let at = lane.first;
        let node = self.nodes.get_mut(at as usize)?;
        lane.first = node.next;
        if lane.first == NONE {
            lane.last = NONE;
        }
        node.next = std::mem::replace(&mut self.free, at);
        Some(node.done)
    }

    /// Has what the socket in this place has brought and will bring handed over before anything else.
    pub(crate) fn hurry(&mut self, place: u32) {
        // What comes from then on is sorted, so what waits has to be.
        self.sort();
        if std::mem::replace(&mut self.lane(place).in_a_hurry, true) {
            return;
        }
        self.hurrying += 1;
        if self.current == place {
            self.current = NONE;
        }
        while let Some(done) = self.pop_of(place) {
            self.first.push_back(done);
        }
        self.order.iter_mut().for_each(|order| order.retain(|other| *other != place));
    }

    /// The socket in this place is closed.
    pub(crate) fn hurry_no_more(&mut self, place: u32) {
        if let Some(lane) = self.lanes.get_mut(place as usize)
            && std::mem::take(&mut lane.in_a_hurry)
        {
            self.hurrying -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The completion number `result` of the socket in a place.
    fn done(place: u32, result: i32) -> Completed {
        Completed { data: UserData::receive(place, 0), result, flags: 0 }
    }

    fn pop(arrived: &mut Arrived) -> Option<(u32, i32)> {
        arrived.pop().map(|done| (done.data.index, done.result))
    }

    fn all(arrived: &mut Arrived) -> Vec<(u32, i32)> {
        std::iter::from_fn(|| pop(arrived)).collect()
    }

    #[test]
    fn what_one_turn_takes_comes_in_the_order_of_arrival() {
        let mut arrived = Arrived::new(4, 3..4);
        for (place, number) in [(0, 0), (1, 0), (0, 1), (0, 2), (2, 0)] {
            arrived.push(done(place, number));
        }
        assert_eq!(all(&mut arrived), [(0, 0), (1, 0), (0, 1), (0, 2), (2, 0)]);
        assert!(arrived.is_empty() && arrived.lanes.is_empty(), "nothing was sorted");
    }

    #[test]
    fn what_is_left_of_one_socket_is_not_sorted() {
        let mut arrived = Arrived::new(4, 3..4);
        for number in 0..100 {
            arrived.push(done(3, number));
            arrived.sort_mixed();
        }
        assert!(arrived.lanes.is_empty() && arrived.sockets() == 1);
        assert_eq!(all(&mut arrived), (0..100).map(|number| (3, number)).collect::<Vec<_>>());
    }

    #[test]
    fn sockets_take_turns_with_what_is_left_and_what_follows() {
        let mut arrived = Arrived::new(4, 3..4);
        (0..100).for_each(|number| arrived.push(done(0, number)));
        arrived.push(done(1, 0));
        assert_eq!(pop(&mut arrived), Some((0, 0)));
        arrived.sort_mixed();
        arrived.push(done(2, 0));
        arrived.push(done(1, 1));
        let order: Vec<_> = (0..7).filter_map(|_| pop(&mut arrived)).collect();
        assert_eq!(order, [(0, 1), (1, 0), (2, 0), (0, 2), (1, 1), (0, 3), (0, 4)]);
        arrived.sort_mixed();
        assert_eq!(all(&mut arrived).len(), 95);
        assert!(arrived.is_empty());
        // And in the order of arrival again.
        for (place, number) in [(1, 0), (0, 0), (1, 1)] {
            arrived.push(done(place, number));
        }
        assert_eq!(all(&mut arrived), [(1, 0), (0, 0), (1, 1)]);
    }

    #[test]
    fn a_listener_has_every_other_turn_beside_peers_own() {
        let mut arrived = Arrived::new(10, 1..10);
        for place in (1..5).chain([0; 6]).chain(1..5) {
            arrived.push(done(place, 0));
        }
        arrived.sort_mixed();
        let order: Vec<_> = all(&mut arrived).into_iter().map(|(place, _)| place).collect();
        assert_eq!(order, [0, 1, 0, 2, 0, 3, 0, 4, 0, 1, 0, 2, 3, 4]);
    }

    #[test]
    fn turns_are_as_long_as_they_are_to_be() {
        let mut arrived = Arrived::new(4, 3..4);
        for place in [0, 1].into_iter().cycle().take(12) {
            arrived.push(done(place, 0));
        }
        arrived.sort_mixed();
        arrived.set_turns(4);
        let mut order: Vec<_> = (0..6).filter_map(|_| pop(&mut arrived)).map(|(place, _)| place).collect();
        arrived.set_turns(1);
        order.extend(all(&mut arrived).into_iter().map(|(place, _)| place));
        assert_eq!(order, [0, 0, 0, 0, 1, 1, 1, 0, 1, 0, 1, 1]);
    }

    #[test]
    fn who_is_in_a_hurry_comes_first_until_it_is_closed() {
        let mut arrived = Arrived::new(4, 3..4);
        (0..3).for_each(|number| arrived.push(done(0, number)));
        (0..2).for_each(|number| arrived.push(done(1, number)));
        arrived.hurry(1);
        arrived.hurry(1);
        assert!(arrived.any_in_a_hurry());
        assert_eq!(pop(&mut arrived), Some((1, 0)));
        arrived.push(done(0, 3));
        arrived.push(done(1, 2));
        assert_eq!([pop(&mut arrived), pop(&mut arrived)], [Some((1, 1)), Some((1, 2))]);
        assert_eq!(all(&mut arrived), [(0, 0), (0, 1), (0, 2), (0, 3)]);
        arrived.push(done(0, 4));
        arrived.push(done(1, 3));
        assert_eq!(all(&mut arrived), [(1, 3), (0, 4)]);
        arrived.hurry_no_more(1);
        arrived.push(done(0, 5));
        arrived.push(done(1, 4));
        assert_eq!(all(&mut arrived), [(0, 5), (1, 4)]);
    }

    #[test]
    fn of_each_socket_everything_comes_once_and_in_order() {
        let seed = 0x9e37_79b9_7f4a_7c15_u64;
        let mut state = seed;
        let mut random = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut arrived = Arrived::new(7, 3..6);
        let (mut next, mut expected, mut waiting) = ([0; 9], [0; 9], 0);
        for _ in 0..if cfg!(miri) { 500 } else { 200_000 } {
            match random(8) {
                0..4 => {
                    let place = random(9) as usize;
                    arrived.push(done(place as u32, next[place]));
                    next[place] += 1;
                    waiting += 1;
                }
                4..6 => {
                    for _ in 0..random(4) {
                        let Some((place, number)) = pop(&mut arrived) else { break };
                        let of = &mut expected[place as usize];
                        assert_eq!(number, *of, "socket {place}, seed {seed}");
                        *of += 1;
                        waiting -= 1;
                    }
                }
                6 => {
                    arrived.sort_mixed();
                    arrived.set_turns(1 + random(3) as usize);
                }
                _ if random(40) == 0 => arrived.hurry(random(7) as u32),
                _ => arrived.hurry_no_more(random(7) as u32),
            }
            assert_eq!(arrived.is_empty(), waiting == 0, "seed {seed}");
            if random(100) == 0 {
                assert_eq!(arrived.iter().count(), waiting, "seed {seed}");
            }
        }
        assert_eq!(all(&mut arrived).len(), waiting, "seed {seed}");
    }
}
