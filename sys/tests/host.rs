//! What the host has: its addresses and its cores.
#![cfg(target_os = "linux")]

use shardgram_sys::affinity::{available_cores, pin_current_thread};
use shardgram_sys::interfaces::{broadcast_addresses, local_addresses};
use shardgram_sys::{AffinityError, InterfaceAddress};

#[test]
fn loopback_is_listed() {
    let addresses = local_addresses().expect("addresses");
    let is_loopback = |one: &&InterfaceAddress| one.address == std::net::IpAddr::from([127, 0, 0, 1]);
    let loopback = addresses.iter().find(is_loopback).expect("127.0.0.1");
    assert!(loopback.is_loopback);
    assert_ne!(loopback.index, 0);
    assert_eq!(loopback.broadcast, Some([127, 255, 255, 255].into()));
    assert!(addresses.iter().all(|one| !one.name.is_empty()));
    let broadcasts = broadcast_addresses().expect("addresses");
    assert!(
        addresses.iter().all(|one| one.broadcast.is_none_or(|broadcast| broadcasts.contains(&broadcast)))
    );
    assert!(
        broadcasts.contains(&[127, 255, 255, 255].into()) && !broadcasts.contains(&[127, 0, 0, 1].into())
    );
}

#[test]
fn a_thread_moves_between_cores_and_not_beyond_them() {
    let cores = available_cores();
    assert!(!cores.is_empty());
    for core in cores.clone() {
        pin_current_thread(core).expect("pin");
        assert_eq!(available_cores(), [core]);
    }
    let fresh = |core| std::thread::spawn(move || pin_current_thread(core)).join().expect("thread");
    for core in [1023, 1024, usize::MAX] {
        let Err(AffinityError::NoSuchCore { core: refused, available }) = fresh(core) else {
            panic!("pinned to core {core}");
        };
        assert_eq!(refused, core);
        assert!(!available.is_empty());
    }
    let text = fresh(usize::MAX).expect_err("no such core").to_string();
    assert!(text.contains("may run on ["), "{text}");
}
