//! The steering program of a listener group: classic BPF that computes
//! [`flow_shard`](crate::flow_shard) in the kernel.
//!
//! The program sees the datagram with its UDP payload at offset 0; `SKF_NET_OFF` addresses the
//! IP header (`bpf(2)` and the kernel's `Documentation/networking/filter.rst`). A load out of
//! range ends the program with 0. An index past the group makes the kernel use its own hash,
//! which is what happens in the microseconds before the last shard's socket is bound.

use std::io;
use std::os::fd::AsFd;

use libc::sock_filter;

use crate::sockopt;
use shardgram_core::flow::{MULTIPLIER, SHIFT};

/// Offset of the IP header as an unsigned BPF constant.
const NET: u32 = libc::SKF_NET_OFF as u32;

/// RFC 791 section 3.1: the source address is at byte 12 of the IPv4 header.
const IPV4_SOURCE: u32 = 12;

/// RFC 8200 section 3: the source address takes bytes 8 to 23 of the IPv6 header; this is its
/// last word.
const IPV6_SOURCE_LAST_WORD: u32 = 20;

/// RFC 8200 section 3: the IPv6 header is 40 bytes. Extension headers move the port, and then
/// the program reads something else: such flows still keep to one listener as long as the
/// bytes there do not change, and user space decides who owns them.
const IPV6_HEADER: u32 = 40;

/// Attaches the flow-hash program to the port group of `socket`, for `shards` listeners whose
/// indexes are `0..shards` in the order they were bound.
///
/// Call it on any bound member of a group, or on an unbound socket with `SO_REUSEPORT` set:
/// that founds the group with the program in place. It replaces the program that was there.
/// No privilege is needed. `shards` of 0 counts as 1.
///
/// # Errors
///
/// `EINVAL` if the socket is bound and has no group; `EPERM` or `ENOPROTOOPT` where a sandbox
/// does not offer it.
pub fn attach_flow_hash(socket: &impl AsFd, ipv6: bool, shards: u16) -> io::Result<()> {
    let shards = u32::from(shards.max(1));
    if ipv6 {
        sockopt::attach_reuseport_program(socket.as_fd(), &flow_hash_v6(shards))
    } else {
        sockopt::attach_reuseport_program(socket.as_fd(), &flow_hash_v4(shards))
    }
}

fn flow_hash_v4(shards: u32) -> [sock_filter; 10] {
    let [mul, shift, modulo, answer] = mix(shards);
    [
        // M[0] = source address
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NET.wrapping_add(IPV4_SOURCE)),
        op(libc::BPF_ST, 0),
        // X = header length: options move the port, and a fixed offset of 20 was seen to split
        // the flows that carry some.
        op(libc::BPF_LDX | libc::BPF_B | libc::BPF_MSH, NET),
        // A = source port, the first half word after the header
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_IND, NET),
        // A ^= M[0]
        op(libc::BPF_LDX | libc::BPF_W | libc::BPF_MEM, 0),
        op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
        mul,
        shift,
        modulo,
        answer,
    ]
}

fn flow_hash_v6(shards: u32) -> [sock_filter; 8] {
    let [mul, shift, modulo, answer] = mix(shards);
    [
        // X = last word of the source address
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, NET.wrapping_add(IPV6_SOURCE_LAST_WORD)),
        op(libc::BPF_MISC | libc::BPF_TAX, 0),
        // A = source port ^ X
        op(libc::BPF_LD | libc::BPF_H | libc::BPF_ABS, NET.wrapping_add(IPV6_HEADER)),
        op(libc::BPF_ALU | libc::BPF_XOR | libc::BPF_X, 0),
        mul,
        shift,
        modulo,
        answer,
    ]
}

/// From the mixed-in word in A to the listener's index.
fn mix(shards: u32) -> [sock_filter; 4] {
    [
        op(libc::BPF_ALU | libc::BPF_MUL | libc::BPF_K, MULTIPLIER),
        op(libc::BPF_ALU | libc::BPF_RSH | libc::BPF_K, SHIFT),
        op(libc::BPF_ALU | libc::BPF_MOD | libc::BPF_K, shards),
        op(libc::BPF_RET | libc::BPF_A, 0),
    ]
}

/// One instruction without jumps. Opcodes are 8 bits wide in use.
const fn op(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}
