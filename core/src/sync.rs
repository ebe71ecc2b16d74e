//! What threads share, under one roof: `tests/loom_bell/main.rs` compiles `bell.rs` and `mailbox.rs` over a `sync`
//! of its own, whose atomics try out every order that the memory model allows.

pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(crate) use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
