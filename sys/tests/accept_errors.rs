//! What stands in the way of accepting is told by its number. One test, since the limit of descriptors
//! is the whole process's.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

mod support;

use shardgram_sys::accept::connected;
use shardgram_sys::limits::raise_descriptor_limit;
use shardgram_sys::{BindError, SocketOptions, accept_support};
use support::accept::{address, client, listen};

#[test]
fn each_obstacle_has_its_number() {
    let options = SocketOptions::default();
    let mode = accept_support().mode;
    let (local, _listeners) = listen(address("127.0.0.1:0"), 1, &options);
    let (_peer, name) = client(local);

    let error =
        connected(mode, address("192.0.2.1:9000"), address("192.0.2.2:9000"), &options).expect_err("foreign");
    assert!(matches!(error, BindError::AddressNotAvailable { .. }), "{error}");
    let everybody = address("255.255.255.255:9");
    let error = connected(mode, local, everybody, &options).expect_err("not a peer");
    assert!(matches!(error.errno(), libc::EACCES | libc::ENETUNREACH), "{error}");
    assert!(error.to_string().contains("connect a UDP socket for 255.255.255.255:9"), "{error}");

    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a live one.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    limit.rlim_cur = 16;
    // SAFETY: the kernel reads one rlimit from a live one.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);
    let mut accepted = Vec::new();
    let error = loop {
        match connected(mode, local, name, &options) {
            Ok(socket) => accepted.push(socket),
            Err(error) => break error,
        }
        assert!(accepted.len() < 16, "more sockets than descriptors");
    };
    assert!(matches!(error, BindError::DescriptorLimit), "{error}");
    assert_eq!(error.errno(), libc::EMFILE);
    raise_descriptor_limit().expect("raise");
    connected(mode, local, name, &options).expect("there is room again");
}
