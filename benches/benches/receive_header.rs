//! Micro benches of the reader of what the io_uring driver receives: header, source address, control messages.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use divan::{Bencher, black_box};
use shardgram_shard::recv::{Layout, Layouts, NAME_SPACE, parse};
use shardgram_sys::Control;
use shardgram_sys::cmsg::Reports;

const V4: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 0, 0, 2)), 4_000);
const V6: SocketAddr = SocketAddr::new(IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2)), 4_000);
/// `struct in_pktinfo`: interface, address to answer from, destination (ip(7)).
const PACKET_INFO_V4: Message = (libc::SOL_IP, libc::IP_PKTINFO, &[1, 0, 0, 0, 10, 0, 0, 1, 10, 0, 0, 1]);
/// `struct in6_pktinfo`: destination, interface (ipv6(7)).
const PACKET_INFO_V6: Message = (
    libc::SOL_IPV6,
    libc::IPV6_PKTINFO,
    &[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0],
);
/// A train of datagrams of 16 bytes (udp(7)).
const SEGMENT: Message = (libc::SOL_UDP, libc::UDP_GRO, &[16, 0, 0, 0]);

/// Level, type and data.
type Message = (libc::c_int, libc::c_int, &'static [u8]);

fn main() {
    divan::main();
}

/// Control messages as the kernel writes them (cmsg(3)).
fn control(messages: &[Message]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (level, kind, data) in messages {
        bytes.extend((16 + data.len()).to_ne_bytes());
        bytes.extend(level.to_ne_bytes());
        bytes.extend(kind.to_ne_bytes());
        bytes.extend(*data);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
    }
    bytes
}

/// An address as the kernel writes it (ip(7), ipv6(7)).
fn name(address: SocketAddr) -> Vec<u8> {
    let mut bytes = Vec::new();
    let port = address.port().to_be_bytes();
    match address.ip() {
        IpAddr::V4(ip) => {
            bytes.extend((libc::AF_INET as u16).to_ne_bytes());
            bytes.extend(port);
            bytes.extend(ip.octets());
            bytes.extend([0; 8]);
        }
        IpAddr::V6(ip) => {
            bytes.extend((libc::AF_INET6 as u16).to_ne_bytes());
            bytes.extend(port);
            bytes.extend([0; 4]);
            bytes.extend(ip.octets());
            bytes.extend([0; 4]);
        }
    }
    bytes
}

/// A buffer with a datagram or train of 64 bytes, as a multishot `recvmsg` fills it.
fn written(layout: Layout, remote: SocketAddr, messages: &[Message]) -> Vec<u8> {
    const PAYLOAD: [u8; 64] = [7; 64];
    let (name, control) = (name(remote), control(messages));
    let mut bytes = Vec::new();
    for word in [name.len(), control.len(), PAYLOAD.len(), 0] {
        bytes.extend((word as u32).to_ne_bytes());
    }
    let begin = bytes.len();
    bytes.extend(name);
    bytes.resize(begin + NAME_SPACE, 0);
    bytes.extend(control);
    bytes.resize(layout.payload(), 0);
    bytes.extend(PAYLOAD);
    bytes
}

fn read(bencher: Bencher<'_, '_>, layout: Layout, remote: SocketAddr, messages: &[Message]) {
    let bytes = written(layout, remote, messages);
    let received = parse(&bytes, layout).expect("well formed");
    assert_eq!((received.remote, received.payload.len()), (remote, 64));
    assert_eq!(received.control.local.is_some(), messages.iter().any(|message| *message != SEGMENT));
    assert_eq!(received.control.segment_size.is_some(), messages.contains(&SEGMENT));
    bencher.bench_local(|| parse(black_box(&bytes), black_box(layout)));
}

/// Those of a shard that receives trains, or not.
fn layouts(trains: bool) -> Layouts {
    Layouts::new(Reports { trains, ..Reports::default() })
}

#[divan::bench]
fn plain_v4(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(false).specific, V4, &[]);
}

#[divan::bench]
fn plain_v6(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(false).specific, V6, &[]);
}

#[divan::bench]
fn packet_info_v4(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(false).wildcard, V4, &[PACKET_INFO_V4]);
}

#[divan::bench]
fn packet_info_v6(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(false).wildcard, V6, &[PACKET_INFO_V6]);
}

#[divan::bench]
fn train_v4(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(true).specific, V4, &[SEGMENT]);
}

#[divan::bench]
fn train_with_packet_info_v4(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(true).wildcard, V4, &[PACKET_INFO_V4, SEGMENT]);
}

#[divan::bench]
fn train_with_packet_info_v6(bencher: Bencher<'_, '_>) {
    read(bencher, layouts(true).wildcard, V6, &[PACKET_INFO_V6, SEGMENT]);
}

/// The control messages alone.
#[divan::bench]
fn control_messages_v4(bencher: Bencher<'_, '_>) {
    let bytes = control(&[PACKET_INFO_V4, SEGMENT]);
    bencher.bench_local(|| Control::parse(black_box(&bytes)));
}
