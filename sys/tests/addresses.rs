//! Addresses survive the way into the kernel's layout and back, and no bytes break the reader.
#![cfg(target_os = "linux")]

mod support;

use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};

use shardgram_sys::addr::{decode, write_to};
use shardgram_sys::{ControlBuilder, ControlSpace, RawAddr};

/// The bytes that socket2 makes of an address.
fn kernel_layout(address: SocketAddr) -> Vec<u8> {
    let SocketAddr::V4(v4) = address else {
        let SocketAddr::V6(v6) = address else { unreachable!() };
        let mut bytes = (libc::AF_INET6 as u16).to_ne_bytes().to_vec();
        bytes.extend(v6.port().to_be_bytes());
        bytes.extend(v6.flowinfo().to_ne_bytes());
        bytes.extend(v6.ip().octets());
        bytes.extend(v6.scope_id().to_ne_bytes());
        return bytes;
    };
    let mut bytes = (libc::AF_INET as u16).to_ne_bytes().to_vec();
    bytes.extend(v4.port().to_be_bytes());
    bytes.extend(v4.ip().octets());
    bytes.extend([0; 8]);
    bytes
}

#[test]
fn decodes_what_the_kernel_lays_out() {
    for text in ["192.0.2.7:53", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:9", "[2001:db8::7]:4433"] {
        let address: SocketAddr = text.parse().expect(text);
        assert_eq!(decode(&kernel_layout(address)), Some(address), "{text}");
    }
}

#[test]
fn scope_is_kept_and_flow_label_is_not() {
    let name = SocketAddrV6::new("fe80::1".parse::<Ipv6Addr>().expect("address"), 7, 0xABCDE, 3);
    let decoded = decode(&kernel_layout(name.into()));
    assert_eq!(decoded, Some(SocketAddrV6::new(*name.ip(), 7, 0, 3).into()));
}

#[test]
fn every_shorter_name_is_none() {
    for text in ["192.0.2.7:53", "[2001:db8::7]:4433"] {
        let bytes = kernel_layout(text.parse().expect(text));
        let needed = if bytes.len() == 16 { 8 } else { 28 };
        for len in 0..needed {
            assert_eq!(decode(&bytes[..len]), None, "{text} cut to {len}");
        }
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut random = support::Random::seeded("--test addresses");
    let mut bytes = [0u8; 64];
    for _ in 0..200_000 {
        random.fill(&mut bytes);
        // Half of them with a family that gets further.
        match random.below(4) {
            0 => bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes()),
            1 => bytes[..2].copy_from_slice(&(libc::AF_INET6 as u16).to_ne_bytes()),
            _ => {}
        }
        let (start, len) = (random.below(2), random.below(60));
        let _ = decode(&bytes[start..start + len]);
    }
}

#[test]
fn the_kernel_understands_what_is_encoded() {
    for wildcard in ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| support::here(address)) {
        let server = UdpSocket::bind(wildcard).expect("server");
        let client = UdpSocket::bind(wildcard).expect("client");
        let to = server.local_addr().expect("address");
        let mut space = ControlSpace::new();
        let len = ControlBuilder::new(&mut space).finish();
        support::send(&client, b"hello", to, &mut space, len).expect("send");
        let received = support::receive(&server).expect("receive");
        assert_eq!(received.payload, b"hello");
        assert_eq!(received.source, client.local_addr().expect("address"));
    }
}

#[test]
fn a_reused_storage_takes_either_family() {
    // SAFETY: sockaddr_storage is a C struct of integers; all zeroes is a value of it.
    #[allow(unsafe_code)]
    let mut storage: libc::sockaddr_storage = unsafe { std::mem::zeroed() };
    let (v4, v6) = ("192.0.2.7:53".parse().expect("IPv4"), "[2001:db8::7]:53".parse().expect("IPv6"));
    assert_eq!(write_to(&v6, &mut storage), 28);
    assert_eq!(i32::from(storage.ss_family), libc::AF_INET6);
    assert_eq!(write_to(&v4, &mut storage), 16);
    assert_eq!(i32::from(storage.ss_family), libc::AF_INET);
    assert_eq!((RawAddr::new(v4).len(), RawAddr::new(v6).len()), (16, 28));
}
