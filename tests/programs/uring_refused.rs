//! Where io_uring is refused, `auto` serves with mio and says why, and `uring` is an error with the remedy.

use std::net::UdpSocket;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use crate::common::program::{Echo, check_refusal, example};

/// A program that gets `errno` for every `io_uring_setup`, as in a container's seccomp profile.
#[allow(unsafe_code, reason = "a seccomp filter can only be set between fork and exec")]
fn without_uring(errno: i32) -> Command {
    let mut command = Command::new(example("echo"));
    let install = move || {
        // Load the system call's number; if it is io_uring_setup fail with `errno`, else allow.
        let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
        let mut program = [
            statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
            libc::sock_filter {
                code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                jt: 0,
                jf: 1,
                k: libc::SYS_io_uring_setup as u32,
            },
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
            statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
        ];
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        // SAFETY: two system calls that read local memory; they are async-signal-safe, as code between
        // fork and exec has to be.
        let refused = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0
                || libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) != 0
        };
        if refused { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes two system calls and touches only its own stack.
    unsafe { command.pre_exec(install) };
    command
}

#[test]
fn auto_falls_back_and_says_why() {
    for (errno, name) in [(libc::EPERM, "EPERM"), (libc::ENOSYS, "ENOSYS"), (libc::ENOMEM, "ENOMEM")] {
        let echo = Echo::spawn(without_uring(errno).args(["--listen", "127.0.0.1:0"]));
        let expected = format!(" shards=1 backend=mio tier=listener reason=io_uring_setup:{name}");
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
fn asking_for_it_is_an_error_with_the_remedy() {
    for (errno, remedy) in [
        (libc::EPERM, "kernel.io_uring_disabled"),
        (libc::ENOSYS, "Linux 6.1 or later"),
        (libc::ENOMEM, "RLIMIT_MEMLOCK"),
    ] {
        let output =
            without_uring(errno).args(["--listen", "127.0.0.1:0", "--backend", "uring"]).output().unwrap();
        let error = check_refusal(&output);
        assert!(error.contains("uring") && error.contains(remedy), "{error}");
    }
}
