//! What needs a process of its own: network namespaces, signals, limits, exit codes.
//!
//! Apart from the behaviours because a process that starts another keeps a copy of every socket for a
//! moment, and a port that was just closed is then still taken.
//!
//! Linux: elsewhere it is an empty program.
#![cfg(target_os = "linux")]
#![allow(unreachable_pub, clippy::unwrap_used, clippy::needless_pass_by_value, reason = "a test program")]

#[macro_use]
#[path = "../common/mod.rs"]
mod common;

mod addresses_refused;
mod broadcast;
mod control_refused;
mod daemon;
mod dial_example;
mod dialing;
mod drop_privileges;
mod echo_example;
mod emfile;
mod emfile_in_accept;
mod few_descriptors;
mod flapping_addresses;
mod foreign_sockets;
mod forged_errors;
mod full_send_socket;
mod full_sockets_take_turns;
mod grace_refused;
mod idle;
mod interface_made_anew;
mod interfaces;
mod local_addresses;
mod marks_that_wait;
mod memlock;
mod memory;
mod multicast;
mod own_source;
mod path_mtu;
mod peer_errors;
mod refused_trains;
mod restarts;
mod retire_refused;
mod send_credit;
mod shutdown_under_load;
mod source_address;
mod stalls;
mod steering_refused;
mod suspended;
mod threads_of_pinned_shards;
mod trains_at_the_start;
mod unprivileged;
mod unsupported_flags;
mod uring_refused;
mod vanished_peers;
