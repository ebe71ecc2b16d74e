//! The sleeping flag and the mailbox under every order of steps, and every outcome of them, that the memory
//! model allows: loom runs each test once for each.
//!
//! `bell.rs` and `mailbox.rs` are compiled here as they stand, over atomics of loom's and a channel that is
//! modelled on such atomics ([`channel`]). Run by
//!
//! ```sh
//! RUSTFLAGS="--cfg loom" cargo test -p shardgram-core --test loom_bell --release
//! ```
//!
//! `LOOM_MAX_PREEMPTIONS` says how many times a thread is interrupted at most in one order, 3 unless told.
#![cfg(loom)]
#![allow(dead_code, unused_imports, unreachable_pub, reason = "only a part of the files under test is used")]
#![allow(clippy::unwrap_used, reason = "a test program")]

mod channel;

#[path = "../../src/messages"]
mod messages {
    pub(crate) mod bell;
    pub(crate) mod mailbox;
}

/// What the files under test take from elsewhere in the crate.
mod types {
    pub(crate) use shardgram_core::{datagram, error};

    pub(crate) mod ids {
        pub(crate) use shardgram_core::{Origin, PeerId};
    }
}

/// What `core/src/sync.rs` is to the crate.
mod sync {
    pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

    pub(crate) use crate::channel::{Receiver, Sender, TrySendError, bounded};
}

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use messages::bell::Bell;

use loom::sync::{Condvar, Mutex};
use loom::thread;
use messages::mailbox::{Forwarded, Mailbox, Postbox, mailboxes};
use types::datagram;
use types::ids::Origin;

/// What a shard sleeps on, as it were an eventfd(2), with counts of how it was used. The counts are no part
/// of the model: loom runs one thread at a time.
#[derive(Default)]
struct Sleep {
    woken: Mutex<bool>,
    changed: Condvar,
    sleeps: AtomicUsize,
    wakes: AtomicUsize,
}

impl Sleep {
    fn connected_to(bell: &Bell) -> Arc<Self> {
        let sleep = Arc::<Self>::default();
        let waker = Arc::clone(&sleep);
        bell.connect(Box::new(move || waker.wake()));
        sleep
    }

    fn wake(&self) {
        self.wakes.fetch_add(1, Ordering::Relaxed);
        *self.woken.lock().unwrap() = true;
        self.changed.notify_one();
    }

    /// If nobody ever wakes it, loom finds that all threads are blocked and fails.
    fn wait(&self) {
        let mut woken = self.woken.lock().unwrap();
        while !*woken {
            woken = self.changed.wait(woken).unwrap();
        }
        *woken = false;
    }
}

fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = builder.preemption_bound.or(Some(3));
    builder.check(model);
}

/// One shard, as `ShardLoop` does it: it works, raises the flag, looks once more, and sleeps.
fn handle_all(mailbox: &Mailbox<u32>, sleep: &Sleep, expected: usize) {
    let mut handled = 0;
    loop {
        while let Some(_mail) = mailbox.take_any() {
            handled += 1;
            mailbox.handled();
        }
        if handled == expected {
            return;
        }
        mailbox.bell().going_to_sleep();
        sleep.sleeps.fetch_add(1, Ordering::Relaxed);
        if mailbox.is_empty() {
            sleep.wait();
        }
        mailbox.bell().awake();
    }
}

fn one_mailbox(len: usize) -> (Arc<[Postbox<u32>]>, Mailbox<u32>, Arc<Sleep>) {
    let (postboxes, mut mailboxes) = mailboxes(1, len);
    let sleep = Sleep::connected_to(postboxes[0].bell());
    (postboxes, mailboxes.remove(0), sleep)
}

fn forwarded() -> Forwarded {
    let any = ([127, 0, 0, 1], 9).into();
    let path = datagram::Path { local: any, remote: any, socket: datagram::SocketId::listener(0) };
    let meta = datagram::Meta::default();
    Forwarded { path, group: None, meta, peer: None, segment: 0, allowance: None, bytes: vec![1] }
}

#[test]
fn no_wake_up_is_lost() {
    check(|| {
        let (postboxes, mailbox, sleep) = one_mailbox(2);
        let from_a_handle = thread::spawn({
            let postboxes = Arc::clone(&postboxes);
            move || postboxes[0].post(1).expect("room")
        });
        // Another shard puts its mail in, claims the sleeper, and wakes it some time later.
        let from_a_shard = thread::spawn(move || {
            assert!(postboxes[0].put_forward(forwarded()));
            if postboxes[0].bell().claim() {
                postboxes[0].bell().wake();
            }
        });
        handle_all(&mailbox, &sleep, 2);
        from_a_handle.join().unwrap();
        from_a_shard.join().unwrap();
        assert!(mailbox.in_flight().is_none());
        let [wakes, sleeps] = [&sleep.wakes, &sleep.sleeps].map(|count| count.load(Ordering::Relaxed));
        assert!(wakes <= sleeps, "{wakes} wake-ups for {sleeps} sleeps");
    });
}

#[test]
fn a_sleeper_is_claimed_once() {
    check(|| {
        let bell = Arc::<Bell>::default();
        let claim = |bell: &Arc<Bell>| {
            let bell = Arc::clone(bell);
            thread::spawn(move || bell.claim())
        };
        bell.going_to_sleep();
        let claims = [claim(&bell), claim(&bell)].map(|thread| thread.join().unwrap());
        assert_eq!(claims.iter().filter(|claimed| **claimed).count(), 1);
        assert!(!bell.claim(), "nobody sleeps any more");
    });
}

#[test]
fn a_shard_that_wakes_by_itself_may_be_claimed_in_vain_but_once() {
    check(|| {
        let bell = Arc::<Bell>::default();
        bell.going_to_sleep();
        let claims = [0, 1].map(|_| {
            let bell = Arc::clone(&bell);
            thread::spawn(move || usize::from(bell.claim()))
        });
        bell.awake();
        let claims: usize = claims.map(|thread| thread.join().unwrap()).iter().sum();
        assert!(claims <= 1, "{claims} claims of one sleep");
        assert!(!bell.claim(), "it is awake");
    });
}

#[test]
fn mail_is_in_flight_until_what_it_caused_is_handled() {
    check(|| {
        let (postboxes, mut mailboxes) = mailboxes(2, 1);
        let (second, first) = (mailboxes.pop().unwrap(), mailboxes.pop().unwrap());
        let in_flight = first.in_flight().clone();
        let handled = Arc::new(loom::sync::atomic::AtomicUsize::new(0));
        postboxes[0].put_message(Origin::Handle, 1).expect("room");
        // The first shard's mail makes it write to the second.
        let first = thread::spawn({
            let handled = Arc::clone(&handled);
            move || {
                first.take_any().expect("it was there before");
                postboxes[1].put_message(Origin::Shard(0), 2).expect("room");
                handled.fetch_add(1, Ordering::Relaxed);
                first.handled();
                (first, postboxes)
            }
        });
        let second = thread::spawn({
            let handled = Arc::clone(&handled);
            move || {
                if second.take_any().is_some() {
                    handled.fetch_add(1, Ordering::Relaxed);
                    second.handled();
                }
                second
            }
        });
        if in_flight.is_none() {
            assert_eq!(handled.load(Ordering::Relaxed), 2, "mail was on its way and nobody could tell");
        }
        let (_first, second) = (first.join().unwrap(), second.join().unwrap());
        while second.take_any().is_some() {
            second.handled();
        }
        assert!(in_flight.is_none());
    });
}

#[test]
fn mail_that_a_shard_that_ends_refused_is_not_in_flight() {
    check(|| {
        let (postboxes, mailbox, _) = one_mailbox(1);
        let in_flight = mailbox.in_flight().clone();
        postboxes[0].post(1).expect("room");
        let sender = thread::spawn(move || {
            // Refused while the first is there, and again when the shard has ended.
            postboxes[0].post(2).is_err() & !postboxes[0].put_forward(forwarded())
        });
        drop(mailbox);
        let refused = sender.join().unwrap();
        assert!(!refused || in_flight.is_none(), "what was refused is on its way");
    });
}
