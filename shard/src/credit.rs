//! How much may be sent by a socket before its buffer may be full.
//!
//! A full socket refuses one send and may take the next, so of several datagrams to one peer a later one could
//! leave first. Asking the kernel before each send would cost; so it is asked once for as many bytes as
//! certainly fit, and nothing is sent that might not. It is asked when nothing is queued that it does not know
//! of yet.

use std::net::UdpSocket;

use shardgram_sys::accept::{send_queue_bytes, send_queue_limit};

/// What the kernel counts for a datagram beside its bytes, at most: `struct sk_buff`, shared info, headers, and
/// rounding up to the allocator's sizes.
const OVERHEAD: u64 = 1_536;
/// What it counts for each byte, at most. A datagram longer than the path's MTU is a chain of fragments of which
/// each is counted with what it is rounded up to. Seen on Linux 6.18 for datagrams of 1 to 65,507 bytes: up to
/// 1.9 for each byte where the MTU is 1,152 or more, which all of IPv6 is, and up to 3.5 for IPv4 at 672 to
/// 1,152. It is more below 552, the least the kernel believes a router (`net.ipv4.route.min_pmtu`); there a send
/// may meet a full socket, as one does that is full for another reason.
const PER_BYTE: u64 = 4;

/// Bytes, as the kernel counts them.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    left: u64,
    limit: u64,
    /// The buffer is full, and the ring watches for room.
    pub(crate) blocked: bool,
}

/// What a send of so many bytes in so many datagrams is counted as, at most. The datagrams of a train are
/// counted one by one where a queue cuts it apart.
pub(crate) fn cost(bytes: usize, datagrams: u32) -> u64 {
    PER_BYTE * bytes as u64 + OVERHEAD * u64::from(datagrams)
}

impl Credit {
    /// Whether so much may be sent now, as far as is known.
    #[inline]
    pub(crate) fn take(&mut self, cost: u64) -> bool {
        let enough = self.left >= cost;
        if enough {
            self.left -= cost;
        }
        enough
    }

    /// Asks the kernel, which has been given all that was taken. It takes a datagram of any length as long as less
    /// than the limit waits; half of it is what makes a socket writable (udp_poll), so beyond that writability
    /// is waited for.
    #[cold]
    pub(crate) fn ask(&mut self, socket: &UdpSocket, cost: u64) -> bool {
        if self.blocked {
            return false;
        }
        if self.limit == 0 {
            self.limit = send_queue_limit(socket).map_or(u64::MAX, |limit| limit as u64);
        }
        let waiting = send_queue_bytes(socket).map_or(0, |bytes| bytes as u64);
        if waiting > self.limit / 2 {
            self.left = 0;
            return false;
        }
        self.left = (self.limit - waiting).saturating_sub(cost);
        true
    }

    /// The socket is full: nothing is sent until the ring says that there is room.
    pub(crate) fn block(&mut self) {
        self.left = 0;
        self.blocked = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_with_nothing_waiting_takes_any_length() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let mut credit = Credit::default();
        for len in [0, 64, 65_507] {
            let cost = cost(len, 1);
            assert!(credit.take(cost) || credit.ask(&socket, cost), "{len}");
        }
        assert!(credit.ask(&socket, u64::MAX), "even beyond the limit");
        assert!(!credit.take(1), "but nothing after it, unless the kernel is asked");
        credit.block();
        assert!(!credit.take(0) || !credit.ask(&socket, 0), "until the ring says that there is room");
        assert!(!credit.ask(&socket, 0));
        credit.blocked = false;
        assert!(credit.ask(&socket, 0));
    }
}
