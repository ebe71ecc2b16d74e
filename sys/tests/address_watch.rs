//! A change of the host's addresses ends a wait, and so does whoever wakes it.
#![cfg(target_os = "linux")]

mod support;

use std::net::Ipv6Addr;
use std::time::{Duration, Instant};

use shardgram_sys::interfaces::{AddressWatch, local_addresses};
use support::PATIENCE;
use support::accept::{enter_network_with_a_cable, ip};

fn quiet(watch: &mut AddressWatch) -> bool {
    !watch.wait(Some(Duration::ZERO)).expect("poll")
}

#[test]
fn addresses_that_come_and_go() {
    if !enter_network_with_a_cable() {
        return;
    }
    let mut watch = AddressWatch::new().expect("watch");
    // The cable's link-local address may still come.
    while watch.wait(Some(Duration::from_secs(3))).expect("poll") {}
    let changes = [
        ("address add 10.77.0.2/24 dev v0", "10.77.0.2", true),
        ("address del 10.77.0.2/24 dev v0", "10.77.0.2", false),
        ("address add fd77::2/64 dev v0 nodad", "fd77::2", true),
        ("address del fd77::2/64 dev v0", "fd77::2", false),
    ];
    for (change, address, there) in changes {
        let listed = || {
            let address = address.parse::<std::net::IpAddr>().expect(address);
            local_addresses().expect("addresses").iter().any(|one| one.address == address)
        };
        assert_eq!(listed(), !there);
        assert!(quiet(&mut watch));
        ip(change);
        assert!(watch.wait(Some(PATIENCE)).expect("poll"), "{change}");
        assert_eq!(listed(), there, "{change}");
        support::until("all of it is told", || quiet(&mut watch));
    }
}

#[test]
fn an_overrun_is_a_change_and_then_over() {
    if !enter_network_with_a_cable() {
        return;
    }
    let mut watch = AddressWatch::new().expect("watch");
    let mut batch = String::new();
    // Each is about a kilobyte of kernel memory, and the socket holds 208 KiB by default.
    for address in 1..=2000u32 {
        let address = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, address as u16);
        batch.push_str(&format!("address add {address}/128 dev lo nodad\n"));
    }
    let path = std::env::temp_dir().join(format!("shardgram-watch-{}", std::process::id()));
    std::fs::write(&path, batch).expect("a file");
    ip(&format!("-batch {}", path.display()));
    std::fs::remove_file(&path).expect("it is there");
    assert!(watch.wait(Some(Duration::ZERO)).expect("poll"));
    support::until("all of it is thrown away", || quiet(&mut watch));
    ip("address del fd78::1/128 dev lo");
    assert!(watch.wait(Some(PATIENCE)).expect("poll"), "it goes on watching");
}

#[test]
fn a_waker_ends_a_wait() {
    let mut watch = AddressWatch::new().expect("watch");
    let waker = watch.waker().expect("waker");
    // Before the wait, more often than there is room for.
    for _ in 0..100_000 {
        waker.wake();
    }
    watch.wait(None).expect("poll");
    let start = Instant::now();
    let millisecond = Duration::from_millis(1);
    watch.wait(Some(millisecond)).expect("poll");
    assert!(start.elapsed() >= millisecond, "all wake-ups counted as one");
    // During the wait.
    let thread = std::thread::spawn(move || {
        watch.wait(None).expect("poll");
        watch
    });
    waker.wake();
    drop(thread.join().expect("the wait ended"));
    waker.wake();
}
