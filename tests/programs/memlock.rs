//! An ordinary user who may lock little memory (RLIMIT_MEMLOCK): the server starts all the same, on rings that
//! are smaller, or with mio as a whole.

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use crate::common::program::{Echo, check_refusal, example};
use crate::common::user::{as_user, is_root, limit, private_user};
use crate::common::{Bed, Served, loopback, role, skip};
use shardgram::{Backend, Server};

const FLOWS: usize = 20;

/// Starts the echo example with so many shards as a user who may lock so much.
fn start(user: u32, kib: u64, shards: &str) -> (Echo, tempfile::TempDir) {
    let (mut command, folder) = limited(user, kib);
    let echo = Echo::spawn(command.args(["--listen", "127.0.0.1:0", "--shards", shards]));
    (echo, folder)
}

fn limited(user: u32, kib: u64) -> (Command, tempfile::TempDir) {
    let (mut command, folder) = as_user(&example("echo"), private_user(user));
    limit(&mut command, libc::RLIMIT_MEMLOCK, kib << 10);
    (command, folder.expect("root runs this"))
}

/// Every flow is answered, whichever shard it belongs to; then the server drains. Gives its warnings.
fn serves(echo: Echo) -> String {
    let to: SocketAddr = echo.addresses()[0];
    for _ in 0..FLOWS {
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"hello", to).unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("an answer"), 5, "{}", echo.ready);
    }
    echo.signal("TERM");
    let (status, said, errors) = echo.finish();
    assert_eq!(status.code(), Some(0), "{errors}");
    assert!(said.starts_with(&format!("received={FLOWS} sent={FLOWS} dropped=0")), "{said}");
    errors
}

/// Whether rings are counted here at all: that depends on the kernel.
fn rings_are_counted() -> bool {
    if !is_root() {
        skip::record(
            "other processes of this user may have locked memory: root is needed for a user of one's own",
        );
        return false;
    }
    let (echo, _folder) = start(0, 0, "1");
    let counted = echo.ready.contains("backend=mio");
    if counted {
        assert!(
            echo.ready.ends_with(" shards=1 backend=mio tier=listener reason=io_uring_setup:ENOMEM"),
            "{}",
            echo.ready
        );
    } else {
        skip::record("this kernel does not count rings as locked memory");
    }
    assert_eq!(serves(echo), "");
    counted
}

#[test]
fn the_server_starts_however_little_may_be_locked() {
    if !rings_are_counted() {
        return;
    }
    // 512 KiB are plenty, in 64 KiB one ring fits as it is and two only when they are smaller.
    for (user, kib, shards) in [(1, 512, "2"), (2, 64, "1")] {
        let (echo, _folder) = start(user, kib, shards);
        assert!(echo.ready.contains(&format!(" shards={shards} backend=uring ")), "{}", echo.ready);
        assert_eq!(serves(echo), "", "nothing to warn of");
    }
    let (echo, _folder) = start(3, 64, "2");
    assert!(echo.ready.contains(" shards=2 backend=uring "), "{}", echo.ready);
    let warning = serves(echo);
    // 128 entries fit, unless the kernel takes very long to give back what the first try took.
    assert!(warning.contains("each ring has 128 ") || warning.contains("each ring has 64 "), "{warning}");
    assert!(warning.contains("instead of 256 submission entries, 1024 completion entries"), "{warning}");
    assert!(warning.contains("raise RLIMIT_MEMLOCK"), "{warning}");
    // The self-test passes, and so do the first rings; but all of them together never fit.
    let (echo, _folder) = start(4, 64, "8");
    assert!(echo.ready.contains(" shards=8 backend=mio tier=listener reason="), "{}", echo.ready);
    assert!(echo.ready.ends_with(":ENOMEM"), "{}", echo.ready);
    serves(echo);
}

#[test]
fn a_server_that_follows_another_at_once_gets_the_same_rings() {
    if !rings_are_counted() {
        return;
    }
    // The kernel gives back what the first one locked some time after it has ended.
    for _ in 0..3 {
        let (echo, _folder) = start(5, 104, "2");
        assert!(echo.ready.contains(" shards=2 backend=uring "), "{}", echo.ready);
        assert_eq!(serves(echo), "", "nothing to warn of");
    }
}

#[test]
fn a_server_that_follows_a_killed_one_at_once_gets_the_same_rings() {
    if !rings_are_counted() {
        return;
    }
    for _ in 0..8 {
        let (echo, _folder) = start(8, 168, "4");
        assert!(echo.ready.contains(" shards=4 backend=uring "), "{}", echo.ready);
        echo.signal("KILL");
        let (_, _, errors) = echo.finish();
        assert_eq!(errors, "", "nothing to warn of");
    }
}

#[test]
fn receive_buffers_are_halved_too() {
    const ME: &str = "memlock::receive_buffers_are_halved_too";
    if role::mine().is_some() {
        return many_buffers();
    }
    if !rings_are_counted() {
        return;
    }
    let here = std::env::current_exe().unwrap();
    let (mut command, _folder) = as_user(&here, private_user(7));
    limit(&mut command, libc::RLIMIT_MEMLOCK, 64 << 10);
    role::passes(role::play(&mut command, ME, "server"));
}

fn many_buffers() {
    let mut bed = Bed::Real(Backend::Uring);
    let config = loopback().shards(2).receive_buffers(32_768).backend(Backend::Uring);
    let server = Server::bind(config).expect("the server binds");
    let warnings = server.warnings();
    // How far they are halved depends on what else the kernel counts; 16 bytes for each buffer would be too much.
    let few = |w: &String| {
        let granted = w.split(" receive buffers instead of ").next()?.rsplit(' ').next()?;
        Some(
            granted.parse::<u32>().ok()? <= 2048
                && w.contains("and 32768 receive buffers; raise RLIMIT_MEMLOCK"),
        )
    };
    assert!(warnings.iter().any(|w| few(w) == Some(true)), "{warnings:?}");
    let server = Served::Real(server.spawn(|_| shardgram_conformance::Echo).expect("the server starts"));
    let at = bed.address(&server);
    for n in 0..FLOWS as u8 {
        let peer = bed.peer(at);
        assert_eq!(bed.ask(&peer, at, &[n]), [n]);
    }
    bed.drain(server);
}

#[test]
fn asking_for_io_uring_is_an_error_with_the_remedy() {
    if !rings_are_counted() {
        return;
    }
    for (kib, shards) in [(0, "1"), (64, "8")] {
        let (mut command, _folder) = limited(6, kib);
        command.args(["--listen", "127.0.0.1:0", "--backend", "uring", "--shards", shards]);
        let error = check_refusal(&command.output().unwrap());
        assert!(error.contains("uring was asked for") && error.contains("raise RLIMIT_MEMLOCK"), "{error}");
    }
}
