//! What a multishot `recvmsg` writes into a buffer, read as bytes and nothing but bytes.
//!
//! The kernel writes `struct io_uring_recvmsg_out` (four 32-bit words: name length, control length,
//! payload length, flags), then room for the name and for the control data as long as was asked for, then
//! the payload (io_uring_prep_recvmsg_multishot(3)). Every length is checked: a wrong one makes the
//! datagram malformed, never a read out of place.

use std::net::SocketAddr;
use std::ops::Range;

use shardgram_sys::addr;
use shardgram_sys::cmsg::{Control, RECV_CONTROL_SLACK, Reports};

/// Bytes of `struct io_uring_recvmsg_out`.
pub(crate) const HEADER: usize = 16;
/// Room asked for the source address: `sockaddr_in6` is 28 bytes, rounded up so that payloads are aligned.
pub const NAME_SPACE: usize = 32;
const MSG_TRUNC: u32 = libc::MSG_TRUNC as u32;
const MSG_CTRUNC: u32 = libc::MSG_CTRUNC as u32;
/// Payloads begin at multiples of this: a line of the cache, so that looking at one costs the same wherever it begins.
const ALIGN: usize = 64;

/// Where things are in a buffer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layout {
    /// Room asked for control data, in bytes.
    pub control: usize,
}

impl Layout {
    /// Offset of the payload.
    pub const fn payload(self) -> usize {
        HEADER + NAME_SPACE + self.control
    }
}

/// The layouts of a shard's buffers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Layouts {
    /// What is received by sockets of one local address.
    pub specific: Layout,
    /// What is received by sockets that take every address, and say which.
    pub wildcard: Layout,
}

impl Layouts {
    /// Where sockets report this, and those that take every address packet info beside; with room for what a socket hook
    /// may have turned on.
    #[must_use]
    pub fn new(reports: Reports) -> Self {
        let of = |packet_info| {
            let control = Reports { packet_info, ..reports }.control_space() + RECV_CONTROL_SLACK;
            let payload = Layout { control }.payload().next_multiple_of(ALIGN);
            Layout { control: payload - HEADER - NAME_SPACE }
        };
        Self { specific: of(false), wildcard: of(true) }
    }
}

/// One received datagram or train.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Received {
    /// Its source.
    pub remote: SocketAddr,
    /// What the control data said.
    pub control: Control,
    /// Whether there was more of it than there is room for.
    pub control_cut: bool,
    /// Where in the buffer its bytes are.
    pub payload: Range<usize>,
    /// Its true length if only its beginning is here.
    pub truncated_from: Option<usize>,
}

/// Reads what the kernel wrote: `written` is the buffer as far as the completion says it was filled.
/// `None` if it makes no sense.
///
/// ```
/// use shardgram_shard::recv::{Layout, parse};
/// assert_eq!(parse(&[0; 15], Layout { control: 0 }), None);
/// ```
#[inline]
pub fn parse(written: &[u8], layout: Layout) -> Option<Received> {
    let word = |at: usize| -> Option<usize> {
        let bytes = written.get(at..at + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?) as usize)
    };
    let (name_len, control_len, payload_len) = (word(0)?, word(4)?, word(8)?);
    let flags = word(12)? as u32;
    let payload = layout.payload()..written.len();
    if payload.start > payload.end || name_len > NAME_SPACE || control_len > layout.control {
        return None;
    }
    let remote = addr::decode(&written[HEADER..HEADER + name_len])?;
    let control_at = HEADER + NAME_SPACE;
    let control = if control_len == 0 {
        Control::default()
    } else {
        Control::parse(&written[control_at..control_at + control_len])
    };
    // MSG_TRUNC in the request makes the payload length the datagram's true one (recvmsg(2)).
    let cut = flags & MSG_TRUNC != 0 || payload_len > payload.len();
    if payload_len < payload.len() {
        return None;
    }
    // put_cmsg in net/core/scm.c sets it; the ring passes it on with the others (io_recvmsg_multishot in io_uring/net.c).
    let control_cut = flags & MSG_CTRUNC != 0;
    Some(Received { remote, control, control_cut, payload, truncated_from: cut.then_some(payload_len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(name_len: u32, control_len: u32, payload_len: u32, flags: u32, payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for word in [name_len, control_len, payload_len, flags] {
            bytes.extend(word.to_ne_bytes());
        }
        let mut name = [0_u8; NAME_SPACE];
        name[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        name[2..4].copy_from_slice(&9_u16.to_be_bytes());
        name[4..8].copy_from_slice(&[127, 0, 0, 1]);
        bytes.extend(name);
        bytes.extend(payload);
        bytes
    }

    const LAYOUT: Layout = Layout { control: 0 };

    #[test]
    fn a_datagram_is_read() {
        let bytes = written(16, 0, 3, 0, b"abc");
        let got = parse(&bytes, LAYOUT).expect("well formed");
        assert_eq!(got.remote, ([127, 0, 0, 1], 9).into());
        assert_eq!(&bytes[got.payload], b"abc");
        assert_eq!(got.truncated_from, None);
    }

    #[test]
    fn a_cut_one_says_so() {
        let got = parse(&written(16, 0, 2000, MSG_TRUNC, b"abc"), LAYOUT).expect("well formed");
        assert_eq!(got.truncated_from, Some(2000));
        assert_eq!(got.payload.len(), 3);
    }

    #[test]
    fn control_data_that_was_cut_is_told_of() {
        for (flags, cut) in
            [(0, false), (MSG_CTRUNC, true), (MSG_TRUNC, false), (MSG_CTRUNC | MSG_TRUNC, true)]
        {
            let got = parse(&written(16, 0, 3, flags, b"abc"), LAYOUT).expect("well formed");
            assert_eq!(got.control_cut, cut, "flags {flags}");
        }
    }

    #[test]
    fn there_is_room_for_what_hooks_turn_on() {
        let layouts = Layouts::new(Reports::default());
        for layout in [layouts.specific, layouts.wildcard] {
            assert!(layout.control >= RECV_CONTROL_SLACK);
            assert_eq!(layout.payload() % ALIGN, 0);
        }
    }

    #[test]
    fn lengths_that_cannot_be_are_refused() {
        assert_eq!(parse(&written(200, 0, 3, 0, b"abc"), LAYOUT), None, "name");
        assert_eq!(parse(&written(16, 8, 3, 0, b"abc"), LAYOUT), None, "control");
        assert_eq!(parse(&written(16, 0, 2, 0, b"abc"), LAYOUT), None, "payload");
        assert_eq!(parse(&written(4, 0, 3, 0, b"abc"), LAYOUT), None, "address too short");
        assert_eq!(parse(&written(16, 0, 3, 0, b"")[..40], LAYOUT), None, "cut in the name");
    }

    #[test]
    fn random_bytes_never_panic() {
        let seed = 7_u64;
        let mut x = seed;
        let mut next = || {
            x = x.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (x >> 33) as usize
        };
        for _ in 0..if cfg!(miri) { 100 } else { 20_000 } {
            let bytes: Vec<u8> = (0..next() % 300).map(|_| (next() % 40) as u8).collect();
            for control in [0, 24, 120] {
                let _ = parse(&bytes, Layout { control });
            }
        }
    }
}
