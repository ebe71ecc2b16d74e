//! A server that is bound by root and then becomes somebody else still gives peers sockets of their own, once
//! it has given its listeners away; without that they stay with the listener.

use crate::common::user::is_root;
use crate::common::{Bed, PATIENCE, Served, loopback, role, skip};
use shardgram::{Backend, Server, TierPolicy};
use shardgram_conformance::Echo;

const NOBODY: u32 = 65_534;

#[allow(unsafe_code, reason = "a change of user is a system call")]
fn become_nobody() {
    // SAFETY: three plain system calls; glibc has every thread make them.
    let failed = unsafe {
        libc::setgroups(0, std::ptr::null()) != 0
            || libc::setresgid(NOBODY, NOBODY, NOBODY) != 0
            || libc::setresuid(NOBODY, NOBODY, NOBODY) != 0
    };
    assert!(!failed, "{}", std::io::Error::last_os_error());
}

/// Serves as nobody what root has bound; says how many peers got sockets of their own and how many failed.
fn serve(give: bool) -> (u64, u64) {
    let config = loopback().backend(Backend::Uring).tier(TierPolicy::Connected);
    let server = Server::bind(config).expect("root binds");
    if give {
        server.give_to_user(NOBODY).expect("root gives");
    }
    become_nobody();
    let mut bed = Bed::Real(Backend::Uring);
    let server = Served::Real(server.spawn(|_| Echo).expect("nobody serves"));
    let at = bed.address(&server);
    for n in 0..10_u8 {
        let peer = bed.peer(at);
        for round in 0..3 {
            assert_eq!(bed.ask(&peer, at, &[n, round]), [n, round]);
        }
    }
    let Served::Real(handle) = server else { unreachable!("a real server") };
    let total = handle.drain(PATIENCE).expect("it drains").total;
    assert_eq!((total.received, total.unaccounted()), (30, 0), "{total:?}");
    (total.promoted, total.promotions_failed)
}

fn in_a_process_of_its_own(test: &str, give: bool) -> Option<(u64, u64)> {
    if role::mine().is_some() {
        return Some(serve(give));
    }
    if !is_root() {
        skip::record("root is needed to become somebody else");
    } else if Bed::uring().is_some() {
        role::alone(test, "nobody");
    }
    None
}

#[test]
fn listeners_that_were_given_away() {
    let outcome = in_a_process_of_its_own("drop_privileges::listeners_that_were_given_away", true);
    assert!(outcome.is_none_or(|outcome| outcome == (10, 0)), "{outcome:?}");
}

#[test]
fn listeners_that_were_kept() {
    let outcome = in_a_process_of_its_own("drop_privileges::listeners_that_were_kept", false);
    assert!(outcome.is_none_or(|(promoted, failed)| promoted == 0 && failed > 0), "{outcome:?}");
}
