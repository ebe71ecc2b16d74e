//! Honest clients: those that are there, those that come, and those that have to prove their address first.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::{system, wire};

/// How long somebody waits before asking again.
pub const RETRY: Duration = Duration::from_millis(250);
/// Within what a newcomer is to be answered.
pub const WITHIN: Duration = Duration::from_secs(1);
/// Tries of a handshake before it is given up.
const TRIES: u32 = 5;
/// The longest latency that is told apart, in nanoseconds.
const LONGEST_NS: u64 = 60_000_000_000;

/// An empty histogram of nanoseconds.
///
/// # Panics
/// Never: the bounds are in range.
#[must_use]
pub fn latencies() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LONGEST_NS, 3).expect("bounds in range")
}

/// What a client does.
#[derive(Debug)]
enum Role {
    /// It asks once, and again until it is answered.
    Comes(Newcomer),
    /// It proves its address, in three datagrams.
    Proves(Handshake),
    /// It asks at an interval.
    Asks,
    /// It does nothing more.
    Rests,
}

#[derive(Debug, Default)]
struct Newcomer {
    began_ns: Option<u64>,
    tries: u32,
}

#[derive(Debug, Default)]
struct Handshake {
    /// What lies between a datagram of the server and the client's next.
    round_trip: Duration,
    began_ns: Option<u64>,
    tries: u32,
    /// The cookie that is on its way back.
    cookie: Option<Vec<u8>>,
    /// When this try is given up.
    until: Option<Instant>,
}

/// Questions at an interval, and their answers.
#[derive(Debug)]
pub struct Asking {
    /// Time between two.
    pub every: Duration,
    /// Numbers, and when they were sent.
    waiting: VecDeque<(u64, u64)>,
    /// Questions.
    pub asked: u64,
    /// Answers to them.
    pub answered: u64,
    /// Answers that say the server had forgotten this peer.
    pub forgotten: u64,
    counted: u64,
    /// Time until the answers, in nanoseconds.
    pub latencies: Histogram<u64>,
}

impl Asking {
    fn new(every: Duration) -> Self {
        Self {
            every,
            waiting: VecDeque::new(),
            asked: 0,
            answered: 0,
            forgotten: 0,
            counted: 0,
            latencies: latencies(),
        }
    }

    fn answer(&mut self, number: u64, counted: u64, at_ns: u64) {
        if counted <= self.counted {
            self.forgotten += 1;
        }
        self.counted = counted;
        let Ok(at) = self.waiting.binary_search_by_key(&number, |waiting| waiting.0) else { return };
        let Some((_, sent)) = self.waiting.remove(at) else { return };
        self.answered += 1;
        self.latencies.saturating_record(at_ns.saturating_sub(sent));
    }
}

/// What became of a client until it was served.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Tries it took, or has taken so far.
    pub tries: u32,
    /// Nanoseconds from its first datagram until it was served; `None` if it was not.
    pub after_ns: Option<u64>,
}

/// A client with a socket of its own, and what became of it.
#[derive(Debug)]
pub struct Guest {
    socket: UdpSocket,
    flow: u32,
    role: Role,
    /// What became of its arrival, once that is decided.
    pub arrival: Option<Arrival>,
    /// What it asks when it has arrived.
    pub asking: Option<Asking>,
}

/// The number of a newcomer's first question. Those after it have others, so that a late second answer to the first one
/// is taken for none of them.
const FIRST: u64 = 1;

impl Guest {
    fn new(
        ip: Ipv4Addr,
        to: SocketAddrV4,
        flow: u32,
        role: Role,
        every: Option<Duration>,
    ) -> io::Result<Self> {
        let socket = UdpSocket::bind((ip, 0))?;
        socket.connect(to)?;
        socket.set_nonblocking(true)?;
        system::report_times(&socket)?;
        Ok(Self { socket, flow, role, arrival: None, asking: every.map(Asking::new) })
    }

    /// One that asks, every [`RETRY`] until it is answered or [`WITHIN`] has passed; then at an interval, if one is named.
    ///
    /// # Errors
    /// If it gets no socket.
    pub fn newcomer(ip: Ipv4Addr, to: SocketAddrV4, flow: u32, every: Option<Duration>) -> io::Result<Self> {
        Self::new(ip, to, flow, Role::Comes(Newcomer::default()), every)
    }

    /// One that gets a cookie and brings it back, the round trip later; then asks at an interval, if one is named.
    ///
    /// # Errors
    /// If it gets no socket.
    pub fn handshake(
        ip: Ipv4Addr,
        to: SocketAddrV4,
        flow: u32,
        round_trip: Duration,
        every: Option<Duration>,
    ) -> io::Result<Self> {
        Self::new(ip, to, flow, Role::Proves(Handshake { round_trip, ..Handshake::default() }), every)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// Asks no more.
    pub fn rest(&mut self) {
        self.role = Role::Rests;
    }

    /// Goes on asking.
    pub fn go_on(&mut self) {
        self.role = Role::Asks;
    }

    /// Forgets what it has counted of its questions, whose answers have come or will not.
    pub fn count_anew(&mut self) {
        if let Some(asking) = &mut self.asking {
            let counted = asking.counted;
            *asking = Asking { counted, ..Asking::new(asking.every) };
        }
    }

    /// Its time has come; when it comes again.
    pub(super) fn due(&mut self, now: Instant) -> Option<Instant> {
        // What cannot be sent is lost, as what the kernel drops is.
        let Self { socket, flow, role, .. } = self;
        let send = |bytes: &[u8]| drop(socket.send(bytes));
        match role {
            Role::Rests => None,
            Role::Asks => {
                let asking = self.asking.as_mut()?;
                let number = asking.asked;
                asking.asked += 1;
                asking.waiting.push_back((number, system::realtime_ns()));
                send(&wire::request(wire::ASK, *flow, FIRST + 1 + number));
                Some(now + asking.every)
            }
            Role::Comes(newcomer) => {
                if RETRY * newcomer.tries >= WITHIN {
                    self.arrival = Some(Arrival { tries: newcomer.tries, after_ns: None });
                    return self.arrived(now);
                }
                newcomer.began_ns.get_or_insert_with(system::realtime_ns);
                newcomer.tries += 1;
                send(&wire::request(wire::ASK, *flow, FIRST));
                Some(now + RETRY)
            }
            Role::Proves(handshake) => {
                if let Some(cookie) = handshake.cookie.take() {
                    send(&[&[wire::PROOF], &cookie[..]].concat());
                    return handshake.until;
                }
                if handshake.tries == TRIES {
                    self.arrival = Some(Arrival { tries: TRIES, after_ns: None });
                    self.role = Role::Rests;
                    return None;
                }
                handshake.began_ns.get_or_insert_with(system::realtime_ns);
                handshake.tries += 1;
                handshake.until = Some(now + WITHIN);
                send(&wire::request(wire::HELLO, *flow, 0));
                handshake.until
            }
        }
    }

    /// Something came; when it wants to do something because of it, instead of what it was going to do.
    pub(super) fn received(&mut self, now: Instant, at_ns: u64, bytes: &[u8]) -> Option<Instant> {
        let after = |began: Option<u64>| began.map(|began| at_ns.saturating_sub(began));
        match (&mut self.role, bytes.first()) {
            (Role::Comes(newcomer), Some(&wire::ANSWER)) => {
                let (_, _, counted) = wire::answered(bytes)?;
                let arrival = Arrival { tries: newcomer.tries, after_ns: after(newcomer.began_ns) };
                if let Some(asking) = &mut self.asking {
                    asking.counted = counted;
                }
                self.arrival = Some(arrival);
                self.arrived(now)
            }
            (Role::Proves(handshake), Some(&wire::COOKIE)) => {
                handshake.cookie = Some(bytes[1..].to_vec());
                Some(now + handshake.round_trip)
            }
            (Role::Proves(handshake), Some(&wire::WELCOME)) => {
                self.arrival = Some(Arrival { tries: handshake.tries, after_ns: after(handshake.began_ns) });
                self.arrived(now)
            }
            (Role::Asks | Role::Rests, Some(&wire::ANSWER)) => {
                let (flow, number, counted) = wire::answered(bytes)?;
                let number = number.checked_sub(FIRST + 1).filter(|_| flow == self.flow)?;
                self.asking.as_mut()?.answer(number, counted, at_ns);
                None
            }
            _ => None,
        }
    }

    /// Its arrival is decided: it asks from now on, if it is to.
    fn arrived(&mut self, now: Instant) -> Option<Instant> {
        let every = self.asking.as_ref().map(|asking| asking.every);
        self.role = if every.is_some() { Role::Asks } else { Role::Rests };
        every.map(|every| now + every)
    }
}
