//! A program may fork between binding and serving, as daemons do: the child serves on the rings that were made
//! for its parent.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crate::common::{Bed, PATIENCE, Served, loopback, role};
use shardgram::{Backend, Server};
use shardgram_conformance::Echo;

/// More than there are buffers, so each of them is given back to the kernel and used again.
const DATAGRAMS: u32 = 2_000;

#[allow(unsafe_code, reason = "a fork is a system call")]
fn serve_in_a_child(backend: Backend) {
    let server =
        Server::bind(loopback().backend(backend).shards(2).receive_buffers(8)).expect("the server binds");
    // SAFETY: no other thread of this process holds a lock the child may need: there is only the test runner's,
    // which waits.
    match unsafe { libc::fork() } {
        0 => {
            let served = catch_unwind(AssertUnwindSafe(|| serve(server, backend))).is_ok();
            // SAFETY: it does not return; what the parent has to clean up is not cleaned up here.
            unsafe { libc::_exit(i32::from(!served)) }
        }
        child => {
            assert!(child > 0, "{}", std::io::Error::last_os_error());
            let mut status = 0;
            // SAFETY: it writes one integer to a live one.
            assert_eq!(unsafe { libc::waitpid(child, &raw mut status, 0) }, child);
            assert_eq!(status, 0, "the child failed; its output is above");
        }
    }
}

fn serve(server: Server, backend: Backend) {
    let mut bed = Bed::Real(backend);
    let server = Served::Real(server.spawn(|_| Echo).expect("the server starts"));
    let at = bed.address(&server);
    let peers: Vec<_> = (0..8).map(|_| bed.peer(at)).collect();
    for n in 0..DATAGRAMS {
        let peer = &peers[n as usize % peers.len()];
        assert_eq!(bed.ask(peer, at, &n.to_be_bytes()), n.to_be_bytes());
    }
    let Served::Real(handle) = server else { unreachable!("a real server") };
    let total = handle.drain(PATIENCE).unwrap().total;
    assert_eq!((total.sent(), total.unaccounted()), (u64::from(DATAGRAMS), 0), "{total:?}");
}

#[test]
fn uring() {
    if Bed::uring().is_none() {
        return;
    }
    match role::mine() {
        Some(_) => serve_in_a_child(Backend::Uring),
        None => drop(role::alone("daemon::uring", "daemon")),
    }
}

#[test]
fn mio() {
    match role::mine() {
        Some(_) => serve_in_a_child(Backend::Mio),
        None => drop(role::alone("daemon::mio", "daemon")),
    }
}
