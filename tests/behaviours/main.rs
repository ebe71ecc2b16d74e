//! What a server does, one file per behaviour, on every driver that can show it.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test program")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod bad_input;
mod buffers_exhausted;
mod closing_connected_peers;
mod completion_queue_overflow;
mod connected;
mod connected_caps;
mod demotion_loses_nothing;
mod dialing;
mod ecn_out;
mod fairness;
mod foreign_datagrams;
mod gathering;
mod groups;
mod handover_order;
#[cfg(target_os = "linux")]
mod impossible_settings;
mod interface_not_there;
mod listener_peers;
mod messages;
mod mixed_hearers;
#[cfg(target_os = "linux")]
mod one_receiver;
mod panics;
mod port_in_use;
#[cfg(target_os = "linux")]
mod rooms;
mod socket_reports;
mod stale_completions;
mod submission_queue_small;
mod timestamps;
mod wait_policy;
