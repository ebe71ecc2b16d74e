//! A server that follows another at once, which ended without a drain: the kernel ends its rings some time after the
//! process, and until then they keep its port.

use std::net::UdpSocket;
use std::process::Command;

use crate::common::program::{Echo, check_refusal, example};
use crate::common::user::{as_user, is_root, private_user};
use crate::common::{Bed, namespace, skip};

/// Kills a server and starts it anew at the same address.
fn follow_at_once(listen: &str, shards: &str, rounds: usize) {
    for round in 0..rounds {
        let echo = Echo::start(&["--listen", listen, "--shards", shards, "--backend", "uring"]);
        assert!(echo.ready.contains(" backend=uring "), "round {round}: {}", echo.ready);
        // Whoever is started again is not told what the one before had.
        let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
        peer.send_to(b"hello", ("127.0.0.1", echo.addresses()[0].port())).unwrap();
        echo.signal("KILL");
        drop(echo.finish());
    }
}

#[test]
fn a_killed_server_is_followed_at_once() {
    if Bed::uring().is_none() {
        return;
    }
    // In a namespace of its own nobody else is given the port.
    namespace::alone(concat!(module_path!(), "::a_killed_server_is_followed_at_once"), || {
        follow_at_once("127.0.0.1:9000", "1", 8);
        follow_at_once("0.0.0.0:9000", "2", 4);
        follow_at_once("127.0.0.1:9000", "16", 4);
    });
}

#[test]
fn a_port_that_a_process_has_is_refused_with_its_name() {
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    for shards in ["1", "2"] {
        let mut echo = Command::new(example("echo"));
        echo.args(["--listen", &address, "--shards", shards]);
        let error = check_refusal(&echo.output().unwrap());
        assert!(error.contains(&format!("in use by process {} (", std::process::id())), "{error}");
        assert!(error.contains("stop it or take another port"), "{error}");
    }
}

#[test]
fn a_port_that_nobody_seen_has_is_refused_with_user_and_inode() {
    if !is_root() {
        return skip::record("root is needed for a process whose descriptors another may not see");
    }
    let holder = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = holder.local_addr().unwrap().to_string();
    let link = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&holder));
    let link = std::fs::read_link(link).unwrap();
    let inode = link.to_str().unwrap().trim_start_matches("socket:[").trim_end_matches(']');
    let (mut echo, _folder) = as_user(&example("echo"), private_user(9));
    let error = check_refusal(&echo.args(["--listen", &address]).output().unwrap());
    assert!(error.contains(&format!("uid 0 (inode {inode})")) && error.contains("`ss -ulnpe`"), "{error}");
}
