//! The way of accepting is found by trying it out.
#![cfg(target_os = "linux")]

mod support;

use std::net::UdpSocket;

use shardgram_sys::accept::connected;
use shardgram_sys::{AcceptMode, BindError, SocketOptions, accept_support};
use support::accept::{address, client, listen};

#[test]
fn what_it_says_is_so() {
    let found = accept_support();
    assert_eq!(found.mode == AcceptMode::SideGroup, found.reason.is_none(), "{found:?}");
    // Whoever has the four-tuple hash and IPv6 in the kernel must not be sent to the slow way.
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("a release");
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|n| n.parse::<u32>().unwrap_or(0));
    let version = (numbers.next().expect("major"), numbers.next().expect("minor"));
    let ipv6 = std::path::Path::new("/proc/net/if_inet6").exists();
    assert_eq!(found.mode == AcceptMode::SideGroup, version >= (6, 13) && ipv6, "{found:?} on {release}");
}

#[test]
fn descriptors_and_ports_are_given_back() {
    let open = || std::fs::read_dir("/proc/thread-self/fd").expect("descriptors").count();
    // Another test of this program may have sockets open for a moment.
    support::until("nothing is left open", || {
        let before = open();
        let _ = accept_support();
        open() <= before
    });
}

#[test]
fn without_ipv6_in_the_kernel_it_is_the_same_group() {
    std::thread::spawn(|| {
        refuse_ipv6_sockets();
        assert!(UdpSocket::bind("[::1]:0").is_err());
        let found = accept_support();
        assert_eq!(found.mode, AcceptMode::SameGroup);
        let reason = found.reason.expect("a reason");
        assert!(reason.contains("no IPv6"), "{reason}");

        let options = SocketOptions::default();
        let (local, _listeners) = listen(address("127.0.0.1:0"), 1, &options);
        let (_peer, peer) = client(local);
        let error = connected(AcceptMode::SideGroup, local, peer, &options).expect_err("no IPv6");
        assert!(matches!(error, BindError::FamilyUnsupported { .. }), "{error}");
        assert_eq!(error.errno(), libc::EAFNOSUPPORT);
        connected(AcceptMode::SameGroup, local, peer, &options).expect("the same group works");
    })
    .join()
    .expect("the thread");
}

/// From now on `socket(AF_INET6, ...)` fails on the calling thread as it does on a kernel without IPv6.
#[allow(unsafe_code)]
fn refuse_ipv6_sockets() {
    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSE: u32 = libc::SECCOMP_RET_ERRNO | libc::EAFNOSUPPORT as u32;
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    let equal = libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K;
    let mut filter = [
        op(load, 0, 0, std::mem::offset_of!(libc::seccomp_data, nr) as u32),
        op(equal, 0, 3, libc::SYS_socket as u32),
        // The lower half of the first argument, where the machine is little endian.
        op(load, 0, 0, std::mem::offset_of!(libc::seccomp_data, args) as u32),
        op(equal, 0, 1, libc::AF_INET6 as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, REFUSE),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: prctl takes integers here.
    let code = unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
    // SAFETY: the kernel reads one sock_fprog and the instructions it points to, all alive.
    let code = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
    assert_eq!(code, 0, "{}", std::io::Error::last_os_error());
}
