//! How the congestion bits of what leaves are set.
//!
//! They are two bits of a byte whose others are the DSCP, and both the socket's option and the control data of a send
//! replace the whole byte. So the one that the socket hook left is asked for, once, when the first mark is to be
//! set, and marks are put into it.

use std::net::UdpSocket;

use shardgram_core::Ecn;
use shardgram_sys::socket::{set_traffic_class, traffic_class};

/// What is known of a socket's byte.
#[derive(Debug, Default)]
pub(crate) struct Marking {
    /// The byte as the socket hook left it.
    own: Option<u8>,
    /// The mark that the socket's option has.
    set: Ecn,
    /// The turn in which something was sent by it last.
    turn: u32,
}

impl Marking {
    /// The byte that a send with this mark has to name; `None` if it is that of the socket.
    ///
    /// A listener sends to many, so each marked send says so itself. A peer's own socket gets the mark as its option:
    /// control data would cost each send the cached route. The option holds for what the kernel has not sent yet, so
    /// it is changed before the first send of a turn only, when nothing is queued, and later changes wait
    /// for the next turn. That bounds what a peer costs that has its mark changed with every datagram.
    #[inline]
    pub(crate) fn of_send(&mut self, socket: &UdpSocket, by: By, ecn: Ecn) -> Option<u8> {
        let first = std::mem::replace(&mut self.turn, by.turn) != by.turn;
        if ecn == self.set { None } else { self.other(socket, by, ecn, first) }
    }

    #[cold]
    fn other(&mut self, socket: &UdpSocket, by: By, ecn: Ecn, first: bool) -> Option<u8> {
        let own = *self.own.get_or_insert_with(|| traffic_class(socket, by.ipv6).unwrap_or(0));
        if by.own_socket && first && set_traffic_class(socket, by.ipv6, ecn.on(own)).is_ok() {
            self.set = ecn;
            return None;
        }
        Some(ecn.on(own))
    }
}

/// By what is sent, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct By {
    pub(crate) ipv6: bool,
    /// It is a peer's own socket.
    pub(crate) own_socket: bool,
    /// The driver's turn; what was queued in earlier ones was submitted in them.
    pub(crate) turn: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn by(own_socket: bool, turn: u32) -> By {
        By { ipv6: false, own_socket, turn }
    }

    #[test]
    fn a_peers_own_socket_changes_its_option_once_a_turn() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        set_traffic_class(&socket, false, 0xb8 | 1).expect("the hook's");
        let mut marking = Marking::default();
        let mut send = |turn, ecn| {
            let named = marking.of_send(&socket, by(true, turn), ecn);
            (named, traffic_class(&socket, false).expect("read"))
        };
        assert_eq!(send(1, Ecn::NotEct), (None, 0xb8 | 1));
        assert_eq!(send(1, Ecn::Ect0), (Some(0xb8 | 2), 0xb8 | 1), "something was queued before");
        assert_eq!(send(2, Ecn::Ect0), (None, 0xb8 | 2));
        assert_eq!(send(2, Ecn::NotEct), (Some(0xb8 | 1), 0xb8 | 2));
        assert_eq!(send(2, Ecn::Ect0), (None, 0xb8 | 2));
        assert_eq!(send(3, Ecn::NotEct), (None, 0xb8 | 1), "as the hook left it");
    }

    #[test]
    fn a_priority_of_the_hooks_stays() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        let options = socket2::SockRef::from(&socket);
        options.set_priority(5).expect("the hook's");
        let mut marking = Marking::default();
        for (turn, ecn) in [(1, Ecn::Ect0), (2, Ecn::NotEct), (3, Ecn::Ce)] {
            assert_eq!(marking.of_send(&socket, by(true, turn), ecn), None);
            assert_eq!(options.priority().expect("read"), 5, "{ecn:?}");
        }
    }

    #[test]
    fn a_listener_keeps_its_option() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
        set_traffic_class(&socket, false, 0x20).expect("the hook's");
        let mut marking = Marking::default();
        for turn in 1..3 {
            assert_eq!(marking.of_send(&socket, by(false, turn), Ecn::NotEct), None);
            assert_eq!(marking.of_send(&socket, by(false, turn), Ecn::Ce), Some(0x23));
        }
        assert_eq!(traffic_class(&socket, false).expect("read"), 0x20);
    }
}
