//! A kernel that does not know the best flags of a ring (io_uring_setup(2)): the next best serve, down to the last
//! rung, and then mio. A supervisor plays the older kernel: it looks at the flags and answers EINVAL.

use std::fs::File;
use std::io::{Read, Seek};
use std::os::unix::fs::FileExt;
use std::process::Command;

use crate::common::program::test_program;
use crate::common::{Bed, PATIENCE, Served, log, loopback, role, seccomp};
use shardgram::Server;
use shardgram_conformance::Echo;
use tracing::Metadata;

/// `IORING_SETUP_SINGLE_ISSUER` (6.0), `IORING_SETUP_DEFER_TASKRUN` (6.1), `IORING_SETUP_NO_SQARRAY` (6.6).
const SINGLE_ISSUER: u32 = 1 << 12;
const DEFER_TASKRUN: u32 = 1 << 13;
const NO_SQARRAY: u32 = 1 << 16;
/// Offset of the flags in `struct io_uring_params`.
const FLAGS: u64 = 8;

const SHARDS: u16 = 2;

/// Runs a program where these flags are unknown. Gives what it said, and the flags of the rings that were made.
fn without(unknown: u32, command: &mut Command) -> (String, Vec<u32>) {
    let mut said = tempfile::tempfile().expect("a file");
    command.stdout(said.try_clone().expect("a file")).stderr(said.try_clone().expect("a file"));
    let mut child = seccomp::ask_first(command, libc::SYS_io_uring_setup).spawn().expect("it starts");
    let (mut made, mut refused) = (Vec::new(), 0);
    let judge = |arguments: [u64; 6], memory: &File| {
        let mut flags = [0; 4];
        memory.read_exact_at(&mut flags, arguments[1] + FLAGS).expect("the flags");
        let flags = u32::from_ne_bytes(flags);
        if flags & unknown != 0 {
            refused += 1;
            return Some(libc::EINVAL);
        }
        made.push(flags);
        None
    };
    let status = seccomp::supervise(&mut child, judge);
    let mut text = String::new();
    said.rewind().expect("a file");
    said.read_to_string(&mut text).expect("text");
    assert!(status.success(), "without {unknown:x}: {text}");
    assert!(refused > 0, "it asked for none of {unknown:x}");
    (text, made)
}

/// Serves whatever the driver, and says which.
fn serve() {
    let of_driver = |metadata: &Metadata<'_>| metadata.target().starts_with("shardgram_shard");
    log::listen(of_driver, |line| println!("log:{}", line.fields));
    let server = Server::bind(loopback().shards(SHARDS).receive_buffers(8)).expect("the server binds");
    println!("{}", server.ready_line());
    let mut bed = Bed::Real(server.backend());
    let server = Served::Real(server.spawn(|_| Echo).expect("the server starts"));
    let at = bed.address(&server);
    let peers: Vec<_> = (0..20).map(|_| bed.peer(at)).collect();
    for round in 0..100_u8 {
        peers.iter().for_each(|peer| bed.send(peer, at, &[round]));
        peers.iter().for_each(|peer| bed.send(peer, at, b""));
        for peer in &peers {
            assert_eq!(bed.receive(peer).1, [round]);
            assert_eq!(bed.receive(peer).1, b"");
        }
    }
    let Served::Real(handle) = server else { unreachable!("a real server") };
    let total = handle.drain(PATIENCE).expect("it drains").total;
    assert_eq!((total.sent(), total.unaccounted()), (4_000, 0), "{total:?}");
}

#[test]
fn the_next_best_rung_serves() {
    const ME: &str = "unsupported_flags::the_next_best_rung_serves";
    if role::mine().is_some() {
        return serve();
    }
    if Bed::uring().is_none() {
        return;
    }
    let here = std::env::current_exe().unwrap();
    for (unknown, rung) in [(NO_SQARRAY, "Deferred"), (NO_SQARRAY | DEFER_TASKRUN, "Cooperative")] {
        let (said, made) = without(unknown, role::play(&mut Command::new(&here), ME, "server"));
        assert!(said.contains(" backend=uring "), "{said}");
        // One for the self-test, and one for each shard.
        assert_eq!(made.len(), 1 + usize::from(SHARDS), "{said}");
        let logged = said.lines().filter(|line| line.contains("a ring was made"));
        let logged: Vec<_> = logged.map(|line| line.contains(&format!(" rung={rung} "))).collect();
        assert_eq!(logged, vec![true; made.len()], "{said}");
    }
    let (said, made) = without(SINGLE_ISSUER, role::play(&mut Command::new(&here), ME, "server"));
    assert!(said.contains(" backend=mio tier=listener reason=io_uring_setup:EINVAL\n"), "{said}");
    assert_eq!(made, [0; 0]);
}

#[test]
fn all_behaviours_are_the_same_on_each_rung() {
    if Bed::uring().is_none() {
        return;
    }
    for unknown in [NO_SQARRAY, NO_SQARRAY | DEFER_TASKRUN] {
        // The suite, and what only this driver shows.
        for (program, only, at_least) in [("conformance_uring", "", 100), ("behaviours", "uring::", 35)] {
            let mut tests = Command::new(test_program(program));
            let (said, made) = without(unknown, tests.arg(only));
            let ran = said.lines().filter(|line| line.ends_with(" ... ok")).count();
            assert!(ran >= at_least && made.len() > ran, "{ran} tests with {} rings: {said}", made.len());
        }
    }
}
