//! One thread sends everything: the flood, evenly spaced, and between its datagrams what honest clients have to say.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io;
use std::time::{Duration, Instant};

use super::clients::Guest;
use super::forge::{MOST, Stream};
use super::system;
use crate::pps::epoll::Epoll;

/// How long answers lie in their sockets at most; the kernel has noted when they came.
const LOOKS: Duration = Duration::from_micros(200);
/// The longest that nothing is looked at.
const REST: Duration = Duration::from_millis(1);
/// Clients that have their turn before the flood has.
const TURNS: usize = 8;
/// Datagrams of one client that are read at once.
const READS: usize = 16;

/// What a flood makes up for at most: a thread that was kept from its core for longer would else overwhelm the server.
const MAKES_UP: Duration = Duration::from_millis(2);

/// A flood of a rate, in small steps.
#[derive(Debug)]
pub struct Flood {
    stream: Stream,
    per_second: u64,
    /// Datagrams in all.
    count: u64,
    /// Datagrams that leave together, unless it is behind.
    step: u64,
    /// When the first datagram would have left, had it never been late.
    began: Option<Instant>,
    ended: Option<Instant>,
    /// What it was late in all, beyond what it makes up for.
    late: Duration,
}

impl Flood {
    /// So many datagrams, in steps of at most `step`.
    #[must_use]
    pub fn new(stream: Stream, per_second: u64, count: u64, step: Duration) -> Self {
        let step = (per_second as f64 * step.as_secs_f64()) as u64;
        let step = step.clamp(1, MOST as u64);
        Self { stream, per_second, count, step, began: None, ended: None, late: Duration::ZERO }
    }

    /// Datagrams that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.stream.sent()
    }

    /// The longest that it may take: ten times what it should.
    #[must_use]
    pub fn patience(&self) -> Duration {
        10 * self.due_after(self.count) + Duration::from_secs(10)
    }

    /// Whether all is sent.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.sent() >= self.count
    }

    /// The part of its rate that it has kept so far.
    #[must_use]
    pub fn kept(&self) -> f64 {
        let (Some(began), Some(ended)) = (self.began, self.ended) else { return 0.0 };
        let took = (ended - began + self.late).as_secs_f64().max(1e-6);
        // The first one takes no time.
        self.sent().saturating_sub(1) as f64 / took / self.per_second as f64
    }

    /// Goes on where it is, as if no time had passed since it was last at work.
    pub fn go_on(&mut self) {
        if let (Some(began), Some(ended)) = (&mut self.began, self.ended) {
            *began += ended.elapsed();
        }
    }

    /// When so many datagrams have been sent, after the first one.
    fn due_after(&self, datagrams: u64) -> Duration {
        Duration::from_nanos((u128::from(datagrams) * 1_000_000_000 / u128::from(self.per_second)) as u64)
    }

    /// Sends what is due; when the next step is.
    fn step(&mut self, now: Instant) -> io::Result<Option<Instant>> {
        if self.is_over() {
            return Ok(None);
        }
        let expected = self.due_after(self.sent());
        let began = self.began.get_or_insert(now);
        if let Some(late) = now.checked_duration_since(*began + expected + MAKES_UP) {
            *began += late;
            self.late += late;
        }
        let began = *began;
        let due = 1 + ((now - began).as_nanos() * u128::from(self.per_second) / 1_000_000_000) as u64;
        let owed = due.min(self.count).saturating_sub(self.sent());
        if owed >= self.step || (owed > 0 && due >= self.count) {
            self.stream.send(owed as usize)?;
            self.ended = Some(now);
        }
        let next = (self.sent() + self.step).min(self.count).saturating_sub(1);
        Ok(Some(began + self.due_after(next)))
    }
}

/// All clients, and the thread that plays them.
#[derive(Debug)]
pub struct Generator {
    /// In the order in which they were added.
    pub guests: Vec<Guest>,
    epoll: Epoll,
    /// When somebody's time comes. Entries that are not in `next` any more mean nothing.
    agenda: BinaryHeap<Reverse<(Instant, usize)>>,
    next: Vec<Option<Instant>>,
    bytes: Vec<u8>,
    looked: Instant,
}

impl Generator {
    /// Without clients so far.
    ///
    /// # Errors
    /// If the system has no epoll for it.
    pub fn new() -> io::Result<Self> {
        system::wake_on_time();
        Ok(Self {
            guests: Vec::new(),
            epoll: Epoll::new()?,
            agenda: BinaryHeap::new(),
            next: Vec::new(),
            bytes: vec![0; 2_048],
            looked: Instant::now(),
        })
    }

    /// Adds a client that begins at that time; its index.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn add(&mut self, guest: Guest, at: Instant) -> io::Result<usize> {
        let index = self.guests.len();
        self.epoll.add(guest.socket(), index as u64)?;
        self.guests.push(guest);
        self.next.push(None);
        self.plan(index, Some(at));
        Ok(index)
    }

    /// Has a client's time come then, instead of when it was going to.
    pub fn plan(&mut self, index: usize, at: Option<Instant>) {
        self.next[index] = at;
        self.agenda.extend(at.map(|at| Reverse((at, index))));
    }

    /// Plays everybody, for so long.
    ///
    /// # Errors
    /// What the system says of the flood, or of waiting.
    pub fn run(&mut self, time: Duration, mut flood: Option<&mut Flood>) -> io::Result<()> {
        let end = Instant::now() + time;
        loop {
            let now = Instant::now();
            if now >= end {
                return Ok(());
            }
            let mut until = (now + REST).min(end);
            if let Some(flood) = &mut flood {
                until = until.min(flood.step(now)?.unwrap_or(until));
            }
            self.clients(now);
            until = until.min(self.agenda.peek().map_or(until, |Reverse((at, _))| *at));
            if now - self.looked >= LOOKS {
                self.look()?;
            }
            system::wait(until.min(self.looked + LOOKS).saturating_duration_since(Instant::now()));
        }
    }

    /// Plays everybody until the flood is over, or ever so late.
    ///
    /// # Errors
    /// What the system says, and if it takes ten times as long as it should.
    pub fn run_flood(&mut self, flood: &mut Flood, mut each: impl FnMut(&mut Self)) -> io::Result<()> {
        /// How often the caller looks at what is going on.
        const INTERVAL: Duration = Duration::from_millis(500);
        let end = Instant::now() + flood.patience();
        while !flood.is_over() {
            if Instant::now() > end {
                return Err(io::Error::other("the flood takes ten times as long as it should"));
            }
            let left = flood.due_after(flood.count.saturating_sub(flood.sent())) + Duration::from_millis(1);
            self.run(left.min(INTERVAL), Some(flood))?;
            each(self);
        }
        Ok(())
    }

    /// Plays the clients whose time has come, some of them.
    fn clients(&mut self, now: Instant) {
        for _ in 0..TURNS {
            let Some(&Reverse((at, index))) = self.agenda.peek() else { return };
            if at > now {
                return;
            }
            self.agenda.pop();
            if self.next[index] == Some(at) {
                let next = self.guests[index].due(now);
                self.plan(index, next);
            }
        }
    }

    /// Reads what has come.
    fn look(&mut self) -> io::Result<()> {
        self.looked = Instant::now();
        for event in 0..self.epoll.wait(Duration::ZERO)? {
            let index = self.epoll.ready(event) as usize;
            for _ in 0..READS {
                // Nothing more, or an error that the next datagram will meet as well.
                let Ok((len, at_ns)) = system::receive(self.guests[index].socket(), &mut self.bytes) else {
                    break;
                };
                let next = self.guests[index].received(self.looked, at_ns, &self.bytes[..len]);
                if next.is_some() {
                    self.plan(index, next);
                }
            }
        }
        Ok(())
    }
}
