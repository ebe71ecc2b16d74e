//! How much may be sent by a socket before its buffer may be full.
//!
//! A full socket refuses one send and may take the next, so of several datagrams to one peer a later one could
//! leave first. Asking the kernel before each send would cost; so it is asked once for as many bytes as
//! certainly fit, and nothing is sent that might not.

use shardgram_sys::accept::{send_queue_bytes, send_queue_limit};

use std::net::UdpSocket;

/// What the kernel counts for a datagram beside its bytes, at most: `struct sk_buff`, shared info, headers, and
/// rounding up to the allocator's sizes.
const OVERHEAD: u64 = 1_536;

/// Bytes, as the kernel counts them.
#[derive(Debug, Default)]
pub(crate) struct Credit {
    left: u64,
    limit: u64,
    /// The buffer is full, and the ring watches for room.
    pub(crate) blocked: bool,
}

/// What a send of so many bytes is counted as, at most: a long datagram is a chain of fragments, each rounded
/// up.
fn cost(len: usize) -> u64 {
    2 * len as u64 + OVERHEAD
}

impl Credit {
    /// Whether so many bytes may be sent now.
    #[inline]
    pub(crate) fn take(&mut self, socket: &UdpSocket, len: usize) -> bool {
        let cost = cost(len);
        if self.left < cost {
            return self.refresh(socket, cost);
        }
        self.left -= cost;
        true
    }

    /// Asks the kernel. It takes a datagram of any length as long as less than the limit waits; half of it is
    /// what makes a socket writable (udp_poll), so beyond that writability is waited for.
    #[cold]
    fn refresh(&mut self, socket: &UdpSocket, cost: u64) -> bool {
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

    /// The socket refused a send: it is asked anew before the next.
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
        for len in [0, 64, 65_507, usize::MAX / 4] {
            assert!(credit.take(&socket, len), "{len}");
        }
        credit.block();
        assert!(!credit.take(&socket, 0), "until the ring says that there is room");
        credit.blocked = false;
        assert!(credit.take(&socket, 0));
    }
}
