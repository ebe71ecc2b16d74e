//! What this driver can do on which system, beside what follows from its trains. The reasons of what is missing stand
//! in the table of `shardgram_core::conformance`, which the tests hold each system to.

use shardgram_core::Capability::{self, *};

#[cfg(target_os = "linux")]
pub(crate) const ABLE: &[Capability] = &[
    TrainsIn,
    EcnOut,
    EcnIn,
    Timestamps,
    PathMtu,
    KernelDrops,
    BalancedListeners,
    SteeredListeners,
    Backlog,
];

/// `SO_REUSEPORT_LB` balances by a hash of the kernel's own.
#[cfg(target_os = "freebsd")]
pub(crate) const ABLE: &[Capability] = &[EcnOut, EcnIn, BalancedListeners, Backlog];

#[cfg(target_vendor = "apple")]
pub(crate) const ABLE: &[Capability] = &[EcnOut, EcnIn, Backlog];

/// quinn-udp has the system merge what comes in.
#[cfg(windows)]
pub(crate) const ABLE: &[Capability] = &[TrainsIn, EcnOut, EcnIn, Backlog];

/// What every system has.
#[cfg(not(any(target_os = "linux", target_os = "freebsd", target_vendor = "apple", windows)))]
pub(crate) const ABLE: &[Capability] = &[Backlog];
