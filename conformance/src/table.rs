//! Which driver shows which behaviour on which system, and why not where not.
//!
//! This is the one place where a driver may be excused from something. Tests hold drivers to it in both directions.

mod elsewhere;
mod page;

use std::fmt;

pub use elsewhere::{ELSEWHERE, Elsewhere};
pub use page::markdown;

use super::SUITE;
use shardgram_core::Capability;

/// A driver.
///
/// ```
/// use shardgram_conformance::table::Driver;
/// assert_eq!(Driver::Uring.to_string(), "io_uring");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Driver {
    /// io_uring (`shardgram-shard`).
    Uring,
    /// mio (`shardgram-fallback`).
    Mio,
    /// The simulator (`shardgram-sim`).
    Sim,
    /// Somebody else's. This table knows nothing of it; its bed does ([`Bed::expected`](super::Bed::expected)).
    Other(&'static str),
}

impl fmt::Display for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Uring => "io_uring",
            Self::Mio => "mio",
            Self::Sim => "simulator",
            Self::Other(name) => name,
        })
    }
}

/// A system.
///
/// ```
/// use shardgram_conformance::table::Os;
/// assert_eq!(cfg!(target_os = "linux"), Os::HERE == Os::Linux);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Os {
    /// Linux 6.1 or later.
    Linux,
    /// FreeBSD 12 or later.
    FreeBsd,
    /// macOS.
    MacOs,
    /// OpenBSD, and every system that is not named here: what all have.
    OpenBsd,
    /// Windows 10 or later.
    Windows,
}

impl Os {
    /// This one.
    pub const HERE: Self = if cfg!(target_os = "linux") {
        Self::Linux
    } else if cfg!(target_os = "freebsd") {
        Self::FreeBsd
    } else if cfg!(target_vendor = "apple") {
        Self::MacOs
    } else if cfg!(windows) {
        Self::Windows
    } else {
        Self::OpenBsd
    };
}

impl fmt::Display for Os {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Linux => "Linux",
            Self::FreeBsd => "FreeBSD",
            Self::MacOs => "macOS",
            Self::OpenBsd => "OpenBSD",
            Self::Windows => "Windows",
        })
    }
}

/// A driver on a system.
///
/// ```
/// use shardgram_conformance::table::{Driver, Os, Platform};
/// let here = Platform { driver: Driver::Sim, os: Os::HERE, one_receiver: false };
/// assert!(here.to_string().starts_with("simulator"));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Platform {
    /// The driver.
    pub driver: Driver,
    /// The system. The simulator is the same on all of them.
    pub os: Os,
    /// Whether the bed has one shard receive for all, which systems may be asked for that could do better.
    pub one_receiver: bool,
}

impl Platform {
    /// A driver on this system, as it is.
    ///
    /// ```
    /// use shardgram_conformance::table::{Driver, Os, Platform};
    /// assert_eq!(Platform::here(Driver::Mio).os, Os::HERE);
    /// ```
    pub const fn here(driver: Driver) -> Self {
        Self { driver, os: Os::HERE, one_receiver: false }
    }

    const fn of(driver: Driver, os: Os) -> Self {
        Self { driver, os, one_receiver: false }
    }
}

impl fmt::Display for Platform {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.driver {
            Driver::Sim => self.driver.fmt(f),
            driver => write!(f, "{driver}, {}", self.os),
        }
    }
}

/// The columns of the table.
pub const PLATFORMS: [Platform; 7] = [
    Platform::of(Driver::Uring, Os::Linux),
    Platform::of(Driver::Mio, Os::Linux),
    Platform::of(Driver::Mio, Os::FreeBsd),
    Platform::of(Driver::Mio, Os::MacOs),
    Platform::of(Driver::Mio, Os::OpenBsd),
    Platform::of(Driver::Mio, Os::Windows),
    Platform::of(Driver::Sim, Os::Linux),
];

/// What is expected of a driver.
///
/// ```
/// use shardgram_conformance::table::Expected;
/// assert_eq!(Expected::No("there is none").reason(), Some("there is none"));
/// assert_eq!(Expected::Partly("the rest is missing").reason(), None);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expected {
    /// It can, and shows it.
    Yes,
    /// It can, and shows what all can; what is missing.
    Partly(&'static str),
    /// It cannot; why.
    No(&'static str),
}

impl Expected {
    /// Why it cannot, if it cannot.
    ///
    /// ```
    /// assert_eq!(shardgram_conformance::table::Expected::Yes.reason(), None);
    /// ```
    pub const fn reason(self) -> Option<&'static str> {
        match self {
            Self::No(reason) => Some(reason),
            Self::Yes | Self::Partly(_) => None,
        }
    }

    const fn note(self) -> Option<&'static str> {
        match self {
            Self::No(note) | Self::Partly(note) => Some(note),
            Self::Yes => None,
        }
    }
}

use Expected::{No, Partly, Yes};

const PEERS_SHARE: Expected = No("which of the two gets a datagram differs from system to system");
const ONE_BY_ONE: Expected = No("one system call for each datagram");
const NOT_MERGED: Expected = No("datagrams are handed over one by one");
const NO_TIMES: Expected = No("times are asked for on Linux only");
const NO_COUNTER: Expected = No("no counter of a socket's drops is known");
const NOT_LEARNED: Expected = No("no socket option has the kernel refuse by what routers said of a path");
const ONE_LISTENER: Expected = No("ports cannot be shared to balance load: one shard receives for all");
const KERNELS_HASH: Expected = No("the kernel balances by a hash of its own: others forward");
const WHOLE_BYTE: Expected = Partly("a DSCP that a socket hook sets is replaced");
const NO_V4_MARKS: Expected = No("not for IPv4, so for none");

/// What each driver can do, in the order of [`PLATFORMS`].
pub const CAPABILITIES: [(Capability, [Expected; 7]); 12] = [
    (Capability::TrainsOut, [Yes, Yes, ONE_BY_ONE, ONE_BY_ONE, ONE_BY_ONE, ONE_BY_ONE, Yes]),
    (
        Capability::TrainsIn,
        [
            Yes,
            Partly("not where marks and times are both asked for: quinn-udp has no room for a train's then"),
            NOT_MERGED,
            NOT_MERGED,
            NOT_MERGED,
            NOT_MERGED,
            Yes,
        ],
    ),
    (Capability::EcnOut, [Yes, Yes, WHOLE_BYTE, WHOLE_BYTE, NO_V4_MARKS, WHOLE_BYTE, Yes]),
    (Capability::EcnIn, [Yes, Yes, Yes, Yes, NO_V4_MARKS, Yes, Yes]),
    (Capability::Timestamps, [Yes, Yes, NO_TIMES, NO_TIMES, NO_TIMES, NO_TIMES, Yes]),
    (Capability::Connected, [Yes, PEERS_SHARE, PEERS_SHARE, PEERS_SHARE, PEERS_SHARE, PEERS_SHARE, Yes]),
    (Capability::PathMtu, [Yes, Yes, NOT_LEARNED, NOT_LEARNED, NOT_LEARNED, NOT_LEARNED, Yes]),
    (Capability::KernelDrops, [Yes, Yes, NO_COUNTER, NO_COUNTER, NO_COUNTER, NO_COUNTER, Yes]),
    (Capability::BalancedListeners, [Yes, Yes, Yes, ONE_LISTENER, ONE_LISTENER, ONE_LISTENER, Yes]),
    (Capability::SteeredListeners, [Yes, Yes, KERNELS_HASH, ONE_LISTENER, ONE_LISTENER, ONE_LISTENER, Yes]),
    (Capability::Backlog, [Yes, Yes, Yes, Yes, Yes, Yes, Yes]),
    (
        Capability::Blocking,
        [Yes, Yes, Yes, Yes, Yes, Yes, No("its time is virtual and passes when all shards rest")],
    ),
];

/// A behaviour of the suite, and what it needs.
///
/// ```
/// use shardgram_conformance::table::ROWS;
/// assert!(ROWS.iter().any(|row| row.needs.is_empty()), "some need nothing, so every driver shows them");
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Row {
    /// The name of its file.
    pub behaviour: &'static str,
    /// In a sentence.
    pub shows: &'static str,
    /// Where one of these is missing the behaviour cannot be shown; all others show it.
    pub needs: &'static [Capability],
}

const fn row(behaviour: &'static str, shows: &'static str, needs: &'static [Capability]) -> Row {
    Row { behaviour, shows, needs }
}

/// Every behaviour of the suite, once.
pub const ROWS: &[Row] = &[
    row("accept", "what `accept` decides is what happens, and each decision has its counter", &[]),
    row("capabilities", "the driver says of itself what this table says", &[]),
    row(
        "connected",
        "a peer moves to a socket of its own and back: the same peer, path and order, nothing lost",
        &[Capability::Connected],
    ),
    row("copies", "a reply is not copied, and what many get is copied once", &[]),
    row("counters", "each datagram has one outcome, and the outcomes add up", &[]),
    row(
        "crowded_table",
        "newcomers get in when the table is full, the proven keep their places, and limits hold for each path",
        &[],
    ),
    row(
        "drain",
        "a drain answers what had arrived, waits for handlers and mail, and keeps its deadline",
        &[],
    ),
    row("echo_sizes", "every size of datagram comes back byte for byte", &[]),
    row("ecn_in", "where it is asked for, each datagram says how it was marked", &[Capability::EcnIn]),
    row(
        "ecn_in_trains",
        "of a train each datagram says how it was marked",
        &[Capability::EcnIn, Capability::TrainsIn],
    ),
    row("ecn_out", "what is sent is marked as the handler says, from then on", &[Capability::EcnOut]),
    row(
        "endpoints",
        "endpoints speak first, hear only whom they speak with, and say when they cannot open",
        &[],
    ),
    row("exhausted_buffers", "a burst far beyond the receive buffers is served, in order", &[]),
    row("fairness", "a socket that is flooded leaves the others their turns", &[]),
    row(
        "fan_out",
        "what many say at once to many waits for room in the outbox, and nobody is refused for it",
        &[],
    ),
    row("idle_peers", "a peer that says nothing for the idle timeout is closed, and not before", &[]),
    row(
        "kernel_drops",
        "what the system drops is counted, and the rest is answered",
        &[Capability::KernelDrops],
    ),
    row("messages", "messages come in the order of each sender, and wake the shard", &[]),
    row(
        "panic",
        "a handler that panics ends nothing: its source is refused, what it says is kept, the shard goes on",
        &[],
    ),
    row(
        "paths",
        "a path that was kept leads where it did or nowhere; one that was dropped is a stranger's",
        &[],
    ),
    row("ports", "port 0 is one port for all shards; a held port is refused; a drained one is free", &[]),
    row("refusals", "who asks for what the driver cannot do is refused, or served without it", &[]),
    row("short_queues", "short queues lose nothing", &[]),
    row(
        "source_address",
        "replies leave from the address written to, by listeners on one address and on all",
        &[],
    ),
    row("spinning", "a shard that spins does the same", &[Capability::Blocking]),
    row(
        "spinning_trains",
        "a shard that spins receives trains and cuts long datagrams",
        &[Capability::Blocking, Capability::TrainsIn, Capability::TrainsOut],
    ),
    row("stale_ids", "a stale id finds nothing and sends nothing", &[]),
    row("steering", "no datagram has to be forwarded", &[Capability::SteeredListeners]),
    row("timers", "timers fire in order and never early; a cancelled one never", &[]),
    row(
        "timestamps",
        "where it is asked for, each datagram says when the system received it",
        &[Capability::Timestamps, Capability::TrainsIn],
    ),
    row(
        "trains_in",
        "what came as one is handed over one by one, or whole, and goes back as one",
        &[Capability::TrainsIn, Capability::TrainsOut],
    ),
    row("trains_out", "what goes to one peer in one turn leaves as one, in order", &[Capability::TrainsOut]),
    row("truncation", "a datagram longer than the receive buffer is flagged with its true length", &[]),
    row("waiting", "each wait policy serves datagrams, messages and timers", &[]),
    row("waking", "a shard wakes for what there is to do, and for nothing else", &[]),
    row("zero_length", "datagrams without a payload are datagrams, in their places", &[]),
];

/// What a behaviour of the suite needs.
///
/// # Panics
/// If the table has no such behaviour.
///
/// ```
/// assert!(shardgram_conformance::table::needs("echo_sizes").is_empty());
/// ```
pub fn needs(behaviour: &str) -> &'static [Capability] {
    let row = ROWS.iter().find(|row| row.behaviour == behaviour);
    row.unwrap_or_else(|| panic!("the table has no row for {behaviour}")).needs
}

/// What is expected of a driver of this workspace.
///
/// # Panics
/// If the table does not know it.
///
/// ```
/// use shardgram_core::Capability;
/// use shardgram_conformance::table::{Driver, Expected, Platform, expected};
/// assert_eq!(expected(Capability::EcnIn, Platform::here(Driver::Sim)), Expected::Yes);
/// ```
pub fn expected(capability: Capability, platform: Platform) -> Expected {
    let listeners = [Capability::BalancedListeners, Capability::SteeredListeners];
    if platform.one_receiver && listeners.contains(&capability) {
        return No("one shard is to receive for all");
    }
    let same = |column: &Platform| {
        column.driver == platform.driver && (column.os == platform.os || platform.driver == Driver::Sim)
    };
    let column = PLATFORMS.iter().position(same);
    let column = column.unwrap_or_else(|| panic!("the table has no column for {platform}"));
    let row = CAPABILITIES.iter().find(|(of, _)| *of == capability);
    row.unwrap_or_else(|| panic!("the table has no row for {capability}")).1[column]
}

/// What is expected of a behaviour: the first capability that is missing decides.
///
/// ```
/// use shardgram_conformance::table::{Driver, Expected, Platform, of_behaviour};
/// assert_eq!(of_behaviour("accept", Platform::here(Driver::Sim)), Expected::Yes);
/// ```
pub fn of_behaviour(behaviour: &str, platform: Platform) -> Expected {
    let all = needs(behaviour).iter().map(|need| expected(*need, platform));
    all.reduce(|worse, next| match (worse, next) {
        (No(_), _) | (Partly(_), Yes | Partly(_)) => worse,
        _ => next,
    })
    .unwrap_or(Yes)
}

/// What is wrong with the table itself.
///
/// ```
/// assert_eq!(shardgram_conformance::table::faults(), Vec::<String>::new());
/// ```
pub fn faults() -> Vec<String> {
    let mut faults = Vec::new();
    for behaviour in SUITE {
        let rows = ROWS.iter().filter(|row| row.behaviour == behaviour.name).count();
        if rows != 1 {
            faults.push(format!("{} is in the table {rows} times", behaviour.name));
        }
    }
    for row in ROWS {
        if !SUITE.iter().any(|behaviour| behaviour.name == row.behaviour) {
            faults.push(format!("the suite has no behaviour {}", row.behaviour));
        }
        if row.shows.is_empty() {
            faults.push(format!("{} does not say what it shows", row.behaviour));
        }
    }
    for capability in Capability::ALL {
        let rows: Vec<_> = CAPABILITIES.iter().filter(|(of, _)| *of == capability).collect();
        if rows.len() != 1 {
            faults.push(format!("{capability} is in the table {} times", rows.len()));
        }
        let cells = rows.iter().flat_map(|(_, cells)| cells);
        if cells.filter_map(|cell| cell.note()).any(|note| note.len() < 5) {
            faults.push(format!("{capability} is missing somewhere without a reason"));
        }
    }
    faults
}
