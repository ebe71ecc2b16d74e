//! A randomised run of shardgram on its simulator: from one number a configuration, handlers that do anything a
//! handler may, traffic and faults; and a model that says after every step what has to hold.
//!
//! A failing run is made shorter, and printed with what replays it. See CONTRIBUTING.md, "Randomised run".
//!
//! What is looked at, after each step or callback:
//!
//! - The network's counts and each shard's add up; the counters are what callbacks have seen; bounds hold
//!   (`run/course`).
//! - Floods keep their rate, and what comes of them seems to come from where they were to (`run/floods`).
//! - Whoever is behind a translator is known by one port for as long as it has to be, and hears whom it wrote to from
//!   there and nobody else (`translators`).
//! - Every datagram that arrives was sent, to this address, from that one, with these bytes and marks, once and in
//!   order where the network keeps order, to the shard that owns it and to the peer whose path it is (`ledger`,
//!   `handler/look`).
//! - An id finds its peer as long as it is open and nobody afterwards; each end is told once, with a reason there was
//!   (`world`).
//! - What is sent to a group is heard by whoever is in it, once by each socket, and by nobody who has left; a fresh handler
//!   begins with the groups of the configuration (`world/members`, `ledger/many`, `run/groups`).
//! - Timers fire once, not early and not after they were cancelled; messages come once, in order, and before long.
//! - No callback runs after a panic; what the handler panics with by intent is all that panics.
//! - When nothing new begins everything comes to rest: no datagram, message, due timer or receive buffer is left
//!   (`run/at_rest`). Sends, messages and what handlers do at the end of turns have one budget, so that each run ends.
//! - Servers that are drained or stopped have ended by then. One that takes the place of another knows none of its peers
//!   and takes none of its cookies; nothing is heard of one that was killed, nor of a shard that gets no processor
//!   (`run/outages`).
//! - Nobody stays a peer by an address that is gone. When every address is back a stranger is heard wherever a node
//!   listens, once, by the shard that owns it (`run/probes`).
//!
//! All of a run follows from its seed, each callback from a stream named by what it is about (`dice`), so leaving out
//! actions changes little of the rest: that is how a failing run is made shorter (`shrink`).
#![forbid(unsafe_code)]

mod actions;
mod actor;
mod dice;
mod groups;
mod handler;
mod ledger;
mod part;
mod payload;
mod plan;
mod quiet;
mod reached;
mod run;
mod scenario;
mod settings;
mod shrink;
mod temper;
mod torrent;
mod translators;
mod world;

pub use part::Part;
pub use plan::Plan;
pub use reached::Reached;
pub use run::{Report, run};
pub use shrink::shrink;
