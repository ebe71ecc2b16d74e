//! What a server does, one file per behaviour, on every driver that can show it.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test program")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod accept;
mod bad_input;
mod buffers_exhausted;
mod closing_connected_peers;
mod completion_queue_overflow;
mod connected;
mod connected_caps;
mod counters;
mod demotion_loses_nothing;
mod drain;
mod echo_sizes;
mod ecn_in;
mod ecn_out;
mod endpoints;
mod foreign_datagrams;
mod groups;
mod handover_order;
mod idle_peers;
mod messages;
mod panic;
mod port_in_use;
mod port_zero;
#[cfg(target_os = "linux")]
mod spinning;
mod stale_completions;
mod stale_ids;
mod submission_queue_small;
mod timers;
mod timestamps;
#[cfg(target_os = "linux")]
mod trains_in;
#[cfg(target_os = "linux")]
mod trains_out;
mod truncation;
mod wait_policy;
mod zero_length;
