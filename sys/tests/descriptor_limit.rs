//! Running out of descriptors is told as such, and the limit can be raised. One test, since the
//! limit is the whole process's.
#![cfg(target_os = "linux")]
#![allow(unsafe_code)]

use shardgram_sys::limits::raise_descriptor_limit;
use shardgram_sys::{BindError, ListenerGroup, SocketOptions};

#[test]
fn the_limit_is_named_and_raised() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the kernel writes one rlimit to a live one.
    assert_eq!(unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) }, 0);
    let hard = limit.rlim_max;
    limit.rlim_cur = 32;
    // SAFETY: the kernel reads one rlimit from a live one.
    assert_eq!(unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) }, 0);

    let address = "127.0.0.1:0".parse().expect("address");
    let bind = || ListenerGroup::bind(address, 64, &SocketOptions::default());
    assert!(matches!(bind(), Err(BindError::DescriptorLimit)));

    assert_eq!(raise_descriptor_limit().expect("raise"), hard);
    assert_eq!(raise_descriptor_limit().expect("raise again"), hard);
    assert_eq!(bind().expect("group").take_sockets().len(), 64);
}
