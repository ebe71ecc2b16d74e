//! Floods: what strangers and peers send, and what the others notice of it.
//!
//! The server is this program started again ([`served`], [`handler`]), pinned to a core of its own. Attackers and honest
//! clients are one thread on another core ([`generator`]), each datagram at a moment of its own, so that none of them waits
//! for the core while others are served. Both are in a network namespace that the program makes for itself ([`namespace`]),
//! in which every address of 10.128.0.0/9 is this host's, and what is sent to any other is thrown away: so a datagram may
//! say that it comes from anywhere ([`forge`]), and its answer costs what it would, and goes nowhere.

pub mod bars;
pub mod clients;
pub mod forge;
pub mod generator;
pub mod handler;
pub mod namespace;
pub mod scenarios;
pub mod served;
#[allow(
    unsafe_code,
    reason = "sendmmsg, times of the kernel and raw sockets have no safe face in the standard library"
)]
pub mod system;
pub mod wire;
