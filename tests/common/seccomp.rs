//! Filters that refuse system calls (seccomp(2)), as a container's profile does.

use std::io;

/// From now on this thread, and what it starts, gets `errno` for every such call. It may be used between fork
/// and exec.
pub fn refuse(call: libc::c_long, errno: i32) -> io::Result<()> {
    let mut program = answer(call, libc::SECCOMP_RET_ERRNO | errno as u32);
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    give_up_privileges()?;
    // SAFETY: it reads a filter that is alive.
    let code = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const filter) };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
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
