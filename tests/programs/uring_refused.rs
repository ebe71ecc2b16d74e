//! Where io_uring is refused, `auto` serves with mio and says why, and `uring` is an error with the remedy.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::common::program::{Echo, check_refusal, example};
use crate::common::{loopback, seccomp};
use shardgram::{Backend, Server};

/// How long the choice of mio may take.
const FALL_BACK: Duration = Duration::from_millis(50);

/// The ways to refuse it: the call, its error, and what the ready line makes of it. Every ring needs all three
/// calls: one makes it, one gives it buffers and has it enabled, one submits and waits.
const REFUSALS: [(libc::c_long, i32, &str); 5] = [
    (libc::SYS_io_uring_setup, libc::EPERM, "io_uring_setup:EPERM"),
    (libc::SYS_io_uring_setup, libc::ENOSYS, "io_uring_setup:ENOSYS"),
    (libc::SYS_io_uring_setup, libc::ENOMEM, "io_uring_setup:ENOMEM"),
    (libc::SYS_io_uring_register, libc::EPERM, "buffer_ring:EPERM"),
    (libc::SYS_io_uring_enter, libc::EPERM, "io_uring_enter:EPERM"),
];

/// The echo example where a call is refused, as in a container's seccomp profile.
#[allow(unsafe_code, reason = "a seccomp filter can only be set between fork and exec")]
fn refused(call: libc::c_long, errno: i32) -> Command {
    let mut command = Command::new(example("echo"));
    // SAFETY: the closure makes system calls and touches only its own stack.
    unsafe { command.pre_exec(move || seccomp::refuse(call, errno)) };
    command
}

#[test]
fn auto_falls_back_and_says_why() {
    for (call, errno, reason) in REFUSALS {
        let echo = Echo::spawn(refused(call, errno).args(["--listen", "127.0.0.1:0"]));
        let expected = format!(" shards=1 backend=mio tier=listener reason={reason}");
        assert!(echo.ready.ends_with(&expected), "{}", echo.ready);
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"hello", echo.addresses()[0]).unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("it serves all the same"), 5);
        echo.signal("TERM");
        assert_eq!(echo.finish().0.code(), Some(0));
    }
}

#[test]
fn it_falls_back_at_once() {
    for (call, errno, reason) in REFUSALS {
        // Of several runs, since others may take the cores at any time.
        let best = (0..5).map(|_| time_to_fall_back(call, errno, reason)).min().unwrap();
        println!("{reason}: bound with mio after {best:?}");
        // Locked memory may be that of a server that has just ended, and so long it is waited for.
        let refund = if errno == libc::ENOMEM { Duration::from_secs(1) } else { Duration::ZERO };
        assert!(best < FALL_BACK + refund, "{reason}: {best:?}");
    }
}

/// From the beginning of the bind to a server that is bound, on a thread where a call is refused. The server
/// then serves.
fn time_to_fall_back(call: libc::c_long, errno: i32, reason: &'static str) -> Duration {
    let fall_back = move || {
        seccomp::refuse(call, errno).expect("a filter");
        let begin = Instant::now();
        let server = Server::bind(loopback().shards(2)).expect("it binds");
        let took = begin.elapsed();
        assert_eq!((server.backend(), server.fallback_reason()), (Backend::Mio, Some(reason)));
        let handle = server.spawn(|_| shardgram_conformance::Echo).expect("it starts");
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send_to(b"hello", handle.local_addrs()[0]).unwrap();
        assert_eq!(peer.recv(&mut [0; 16]).expect("it serves all the same"), 5);
        took
    };
    std::thread::spawn(fall_back).join().expect("the thread with the filter")
}

#[test]
fn asking_for_it_is_an_error_with_the_remedy() {
    for (call, errno, reason) in REFUSALS {
        let output = refused(call, errno).args(["--listen", "127.0.0.1:0", "--backend", "uring"]).output();
        let error = check_refusal(&output.unwrap());
        let remedy = match errno {
            libc::EPERM => "kernel.io_uring_disabled",
            libc::ENOSYS => "Linux 6.1 or later",
            _ => "RLIMIT_MEMLOCK",
        };
        let step = reason.split(':').next().unwrap();
        assert!(error.contains("uring") && error.contains(step) && error.contains(remedy), "{error}");
    }
}
