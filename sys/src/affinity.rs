//! Pinning a thread to a core.

use core_affinity::CoreId;

/// Cores past this number do not fit into the set that `sched_setaffinity(2)` takes
/// (`CPU_SETSIZE` in `CPU_SET(3)`), and indexing the set there is not defined.
const MAX_CORE: usize = 1023;

/// Why a thread was not pinned.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AffinityError {
    /// The core does not exist, or this process may not run there.
    #[error(
        "there is no core {core} for this process; it may run on {available:?}: pick one of them, \
         or widen its cpuset or taskset"
    )]
    NoSuchCore {
        /// The core that was asked for.
        core: usize,
        /// The cores there are.
        available: Vec<usize>,
    },
    /// The core exists and the system refused, as Apple silicon always does.
    #[error("the system refused to pin a thread to core {core}; run without pinning")]
    Refused {
        /// The core that was asked for.
        core: usize,
    },
}

/// The cores that the calling thread may run on, ascending; empty if the system does not say.
///
/// Call it before any pinning: a pinned thread, and every thread started from it, sees only its
/// own core.
#[must_use]
pub fn available_cores() -> Vec<usize> {
    core_affinity::get_core_ids().unwrap_or_default().into_iter().map(|core| core.id).collect()
}

/// Lets the calling thread run on `core` only (`sched_setaffinity(2)` on Linux).
///
/// # Errors
///
/// [`AffinityError::NoSuchCore`] lists the cores there are.
pub fn pin_current_thread(core: usize) -> Result<(), AffinityError> {
    // Trying comes first: a thread that is pinned already lists one core and may still move to
    // another.
    if core <= MAX_CORE && core_affinity::set_for_current(CoreId { id: core }) {
        return Ok(());
    }
    let available = available_cores();
    if available.contains(&core) {
        Err(AffinityError::Refused { core })
    } else {
        Err(AffinityError::NoSuchCore { core, available })
    }
}
