//! The behaviours that every driver has to show, and the table that says of each driver which it does.
//!
//! There is no I/O here and no clock: a test program brings both as a [`Bed`], and [`conformance!`](crate::conformance!)
//! makes a `#[test]` of every case of every behaviour, so that none is left out by being forgotten:
//!
//! ```text
//! // tests/conformance_mio.rs
//! fn bed() -> Option<common::Bed> {
//!     Some(common::Bed::mio())
//! }
//! shardgram_conformance::conformance!(crate::bed);
//! ```
//!
//! # The table
//!
//! What a driver can do on a system stands in [`table`], not in the driver: each yes, and each no with its reason. The
//! behaviour `capabilities` compares what the driver says of itself ([`Capabilities`](shardgram_core::driver::Capabilities))
//! with it, so a driver that says "I cannot" where the table says yes fails, and one that has learned something fails
//! until the table says so. A behaviour runs wherever the table has what it needs. Where not, its tests check that
//! the driver says so too, and what becomes of who asks for it all the same ([`refusals`]).
//!
//! The only test that passes without having shown anything is one of a driver that the environment refuses, such as
//! io_uring in a container that forbids it; its bed is `None`, and whoever made it records that.
//!
//! # A driver of your own
//!
//! Take this crate as a dev-dependency. Write a [`Bed`] whose
//! [`platform`](Bed::platform) is [`Driver::Other`](table::Driver::Other) and whose [`expected`](Bed::expected) is a table
//! of your own, in your repository, so that it is looked at when it changes. Then call `conformance!` with the path of
//! a function that makes one. The [`Echo`] example at [`Bed`] is all that a behaviour looks like; a bed over real
//! sockets has some 200 lines (`tests/common/conformance.rs` of this workspace).
//!
//! # Another behaviour
//!
//! A file here with public functions over any `Bed`, its name in `behaviours!` below, a line in `list.rs`, and a row in
//! `table.rs`. `tests/conformance_table.rs` of the workspace says how the page is written anew.
#![allow(clippy::unwrap_used, clippy::needless_pass_by_value, reason = "what does not hold fails the test")]

mod bed;
mod handlers;
#[macro_use]
mod list;
mod places;
pub mod table;
mod witness;

pub use bed::{Bed, Came, End, Ended, PATIENCE, Sending, loopback};
pub use handlers::{Echo, Marks};
pub use list::{Behaviour, SUITE};

use bed::{both_families, pattern, to_loopback};

use shardgram_core::{Capability, TierPolicy};
use table::Expected;

/// The behaviours. The functions are named by sentences, and each is one test.
macro_rules! behaviours {
    ($($name:ident),+ $(,)?) => {
        $(
            #[doc(hidden)]
            #[allow(missing_docs, reason = "each function is named by a sentence")]
            pub mod $name;
        )+
    };
}

behaviours!(
    accept,
    capabilities,
    connected,
    copies,
    counters,
    crowded_table,
    drain,
    echo_sizes,
    ecn_in,
    ecn_in_trains,
    ecn_out,
    endpoints,
    exhausted_buffers,
    fairness,
    fan_out,
    idle_peers,
    kernel_drops,
    messages,
    panic,
    paths,
    ports,
    refusals,
    short_queues,
    source_address,
    spinning,
    spinning_trains,
    stale_ids,
    steering,
    timers,
    timestamps,
    trains_in,
    trains_out,
    truncation,
    waiting,
    waking,
    zero_length,
);

/// Runs a case of a behaviour where the table has what it needs, and else sees to it that the driver says so too.
///
/// For [`conformance!`](crate::conformance!).
///
/// # Panics
/// If the behaviour is not shown.
#[doc(hidden)]
pub fn run<B: Bed>(behaviour: &str, bed: fn() -> Option<B>, case: fn(B)) {
    // Whoever refused the bed has recorded it.
    let Some(mut bed) = bed() else { return };
    let missing = table::needs(behaviour)
        .iter()
        .find_map(|need| bed.expected(*need).reason().map(|reason| (*need, reason)));
    let Some((need, reason)) = missing else { return case(bed) };
    let able = capabilities::of(&mut bed);
    assert!(!able.has(need), "the table says that there is no {need} ({reason}); the driver says there is");
    println!("no {need} here: {reason}");
    refusals::check(&mut bed, need);
}

/// The DSCP of expedited forwarding (RFC 3246), as a byte without congestion bits.
const DSCP: u8 = 0xb8;

/// The tiers that there are.
fn tiers<B: Bed>(bed: &B) -> Vec<TierPolicy> {
    match bed.expected(Capability::Connected) {
        Expected::No(_) => vec![TierPolicy::Listener],
        _ => vec![TierPolicy::Listener, TierPolicy::Connected],
    }
}

/// Random numbers from a seed, for what a test tries (SplitMix64).
struct Random(u64);

impl Random {
    fn of<B: Bed>(bed: &B) -> Self {
        println!("seed {}", bed.seed());
        Self(bed.seed())
    }

    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }
}
