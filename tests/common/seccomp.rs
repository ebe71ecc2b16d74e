//! Filters that refuse system calls (seccomp(2)), as a container's profile does, or as a kernel would that does
//! not know what is asked of it.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};

/// From now on this thread, and what it starts, gets `errno` for every such call. It may be used between fork
/// and exec.
pub fn refuse(call: libc::c_long, errno: i32) -> io::Result<()> {
    install(&mut answer(call, libc::SECCOMP_RET_ERRNO | errno as u32))
}

/// Sets a filter for this thread and what it starts.
fn install(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    give_up_privileges()?;
    // SAFETY: it reads a filter that is alive.
    let code = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// As [`refuse`], for calls of setsockopt(2) that set this option.
pub fn refuse_option(level: i32, name: i32, errno: i32) -> io::Result<()> {
    // The lower halves of the second and the third argument, where the lower half comes first (seccomp(2)).
    const LEVEL: u32 = 16 + 8;
    const NAME: u32 = 16 + 16;
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at| statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, at);
    let unless = |is: u32, jf| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt: 0,
        jf,
        k: is,
    };
    let mut program = [
        load(0),
        unless(libc::SYS_setsockopt as u32, 5),
        load(LEVEL),
        unless(level as u32, 3),
        load(NAME),
        unless(name as u32, 1),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | errno as u32),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ];
    install(&mut program)
}

/// Load the call's number; if it is this one give this answer, else allow it.
fn answer(call: libc::c_long, answer: u32) -> [libc::sock_filter; 4] {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    [
        statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0),
        libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: 0,
            jf: 1,
            k: call as u32,
        },
        statement(libc::BPF_RET | libc::BPF_K, answer),
        statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW),
    ]
}

/// What an unprivileged thread has to do before it may set a filter: programs it runs gain no privileges.
fn give_up_privileges() -> io::Result<()> {
    // SAFETY: it takes no pointers.
    let code = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The number under which a program that is supervised has the descriptor it is supervised by, where its
/// supervisor finds it.
const LISTENER: RawFd = 200;

/// Has the program of a command ask before every such call; somebody has to [`supervise`] it.
pub fn ask_first(command: &mut Command, call: libc::c_long) -> &mut Command {
    let install = move || {
        let mut program = answer(call, libc::SECCOMP_RET_USER_NOTIF);
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        give_up_privileges()?;
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        // SAFETY: they read a filter that is alive, and take no other pointers. A program whose supervisor is
        // gone would wait for an answer for ever, so it ends with it.
        let failed = unsafe {
            let listener = libc::syscall(libc::SYS_seccomp, mode, flags, &raw const filter);
            listener < 0
                || libc::dup2(listener as RawFd, LISTENER) < 0
                || libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
        };
        if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: the closure makes system calls and touches only its own stack.
    unsafe { command.pre_exec(install) }
}

/// Answers for a program that asks, until it ends. `judge` gets the call's arguments and the program's memory, and
/// says with what error it is refused, if it is.
pub fn supervise(child: &mut Child, mut judge: impl FnMut([u64; 6], &File) -> Option<i32>) -> ExitStatus {
    let listener = listener_of(child).expect("the program's listener");
    loop {
        if let Some(status) = child.try_wait().expect("a child") {
            return status;
        }
        let mut ready = libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: it reads and writes one live struct.
        unsafe { libc::poll(&raw mut ready, 1, 20) };
        if ready.revents & libc::POLLIN == 0 {
            continue;
        }
        // SAFETY: both are made of integers, for which all-zero bytes are valid; seccomp_unotify(2) wants them so.
        let (mut asked, mut said): (libc::seccomp_notif, libc::seccomp_notif_resp) =
            unsafe { (std::mem::zeroed(), std::mem::zeroed()) };
        // SAFETY: the kernel writes one struct of the kind that the request names.
        if unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut asked) } != 0 {
            continue; // the thread that asked was interrupted, and asks again
        }
        let memory = File::open(format!("/proc/{}/mem", asked.pid)).expect("the program's memory");
        said.id = asked.id;
        match judge(asked.data.args, &memory) {
            Some(errno) => said.error = -errno,
            None => said.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        }
        // SAFETY: as above. It fails if the thread that asked is gone.
        unsafe { libc::ioctl(listener.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut said) };
    }
}

/// A copy of the descriptor a child left for its supervisor (pidfd_getfd(2), 5.6).
fn listener_of(child: &Child) -> io::Result<OwnedFd> {
    let owned = |fd: libc::c_long| match fd {
        // SAFETY: a new descriptor owned by nobody else.
        0.. => Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) }),
        _ => Err(io::Error::last_os_error()),
    };
    // SAFETY: neither takes a pointer.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, child.id() as libc::pid_t, 0) })?;
    // SAFETY: as above.
    owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), LISTENER, 0) })
}
