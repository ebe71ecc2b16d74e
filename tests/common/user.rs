//! Ordinary users, and what a process may use.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

pub fn is_root() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().any(|line| line.split_whitespace().take(3).eq(["Uid:", "0", "0"]))
}

/// A user whose processes are this test's alone, so that nobody else counts against its limits. `number` is
/// below 16.
pub fn private_user(number: u32) -> u32 {
    10_000 + (std::process::id() * 16 + number) % 50_000
}

/// A program as an ordinary user: as this one, who may not be able to reach the folder it was built in, if root
/// runs the test. Else as whoever runs the test.
pub fn as_user(program: &Path, user: u32) -> (Command, Option<tempfile::TempDir>) {
    if !is_root() {
        return (Command::new(program), None);
    }
    let folder = tempfile::tempdir().unwrap();
    let copy = folder.path().join("program");
    // Copied by another process: one that other tests start from here would hold the descriptor that this
    // one writes with until its own exec, and a file that is open for writing cannot be run (ETXTBSY).
    assert!(Command::new("cp").arg(program).arg(&copy).status().unwrap().success());
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut command = Command::new(copy);
    command.uid(user).gid(user).current_dir("/");
    (command, Some(folder))
}

/// Has the program of a command start with this limit.
pub fn limit(command: &mut Command, resource: libc::__rlimit_resource_t, value: u64) -> &mut Command {
    // SAFETY: the closure makes one system call and touches only its own stack.
    unsafe { command.pre_exec(move || set_limit(resource, value)) }
}

/// The same with a limit that it cannot raise.
pub fn hard_limit(command: &mut Command, resource: libc::__rlimit_resource_t, value: u64) -> &mut Command {
    let set = move || {
        let limit = libc::rlimit { rlim_cur: value, rlim_max: value };
        // SAFETY: the kernel reads one rlimit from a live one.
        let code = unsafe { libc::setrlimit(resource, &raw const limit) };
        if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes one system call and touches only its own stack.
    unsafe { command.pre_exec(set) }
}

/// Sets a soft limit of this process.
pub fn set_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    let hard = read_limit(resource)?.rlim_max;
    write_limit(resource, libc::rlimit { rlim_cur: value.min(hard), rlim_max: hard })
}

/// Lowers a limit of this process for good.
pub fn set_hard_limit(resource: libc::__rlimit_resource_t, value: u64) -> io::Result<()> {
    write_limit(resource, libc::rlimit { rlim_cur: value, rlim_max: value })
}

fn read_limit(resource: libc::__rlimit_resource_t) -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a live one.
    let code = unsafe { libc::getrlimit(resource, &raw mut limit) };
    if code == 0 { Ok(limit) } else { Err(io::Error::last_os_error()) }
}

fn write_limit(resource: libc::__rlimit_resource_t, limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the kernel reads one rlimit from a live one.
    let code = unsafe { libc::setrlimit(resource, &raw const limit) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Has a socket send no checksums (`SO_NO_CHECK`, SOL_SOCKET in include/uapi/asm-generic/socket.h).
pub fn set_no_check(socket: &socket2::Socket) -> io::Result<()> {
    let on: libc::c_int = 1;
    let len = size_of::<libc::c_int>() as libc::socklen_t;
    let fd = std::os::fd::AsRawFd::as_raw_fd(socket);
    // SAFETY: the kernel reads one int from a live one.
    let code =
        unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_NO_CHECK, (&raw const on).cast(), len) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
