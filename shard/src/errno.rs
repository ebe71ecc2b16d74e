//! What a send came to, and what the network said of a peer, by the table in [`shardgram_sys::errors`].

use std::io;
use std::mem::discriminant;
use std::net::UdpSocket;

use shardgram_core::PeerError;
use shardgram_core::driver::Outcome;
use shardgram_sys::accept::{path_mtu, take_errors};
use shardgram_sys::errors::{self, told_by_network};
use shardgram_sys::{ErrorOrigin, NetworkError};

use crate::socket::Socket;

/// Errors taken out of a socket's queue at once, at most. What is left says so with the next receive or send.
const HEARD_AT_ONCE: usize = 256;
/// The least MTU the kernel believes a router (`net.ipv4.route.min_pmtu`; RFC 8200 section 5).
const LEAST_MTU: usize = 552;
const LEAST_MTU_V6: usize = 1_280;

/// In place of an error number: the kernel took nothing, whatever the socket, so the send was not made.
pub(crate) const NOT_TAKEN: i32 = 0;

/// What came of a send by this socket that failed; `as_train` if it was of several datagrams.
pub(crate) fn outcome(errno: i32, socket: Option<&Socket>, as_train: bool) -> Outcome {
    if errno == NOT_TAKEN {
        return Outcome::NotNow;
    }
    // Everything about a send by the ring is known to be right, but for its source address.
    let mut outcome = errors::outcome(&io::Error::from_raw_os_error(errno), true, as_train);
    if let Outcome::Refused(refusal) = &mut outcome {
        refusal.told = socket.is_some() && told_by_network(errno).is_some();
        if let PeerError::TooLong { mtu } = &mut refusal.error {
            *mtu = socket.and_then(|socket| path_mtu(&socket.socket).ok());
        }
    }
    outcome
}

/// What an entry of a connected socket's error queue means. `None` for one about a send that this host refused,
/// which said so itself.
fn meaning(said: &NetworkError, socket: &UdpSocket) -> Option<PeerError> {
    let least = match said.origin {
        ErrorOrigin::Local => return None,
        ErrorOrigin::Icmp => LEAST_MTU,
        ErrorOrigin::Icmpv6 => LEAST_MTU_V6,
    };
    Some(match (said.origin, said.kind, said.code) {
        // RFC 1812 section 5.2.7.1: net, host, and communication administratively prohibited. The kernel has
        // the same number for them as for a host that is unreachable.
        (ErrorOrigin::Icmp, 3, 9 | 10 | 13) => PeerError::Forbidden,
        _ => match told_by_network(said.errno) {
            Some(PeerError::TooLong { .. }) => {
                // Only a connected socket has a path whose MTU is known.
                let mtu = path_mtu(socket).ok();
                let said = (said.info as usize).max(least);
                PeerError::TooLong { mtu: Some(mtu.map_or(said, |mtu| mtu.min(said))) }
            }
            Some(error) => error,
            None => PeerError::Other { errno: said.errno },
        },
    })
}

/// Takes out what the network said of a connected socket's peer: each thing once, and the least of the MTUs.
pub(crate) fn hear(socket: &UdpSocket) -> Vec<PeerError> {
    let mut heard = Vec::new();
    for error in take_errors(socket, HEARD_AT_ONCE).iter().filter_map(|said| meaning(said, socket)) {
        let same = |other: &&mut PeerError| discriminant(*other) == discriminant(&error);
        match (heard.iter_mut().find(same), error) {
            (Some(PeerError::TooLong { mtu }), PeerError::TooLong { mtu: other }) => *mtu = (*mtu).min(other),
            (Some(_), _) => {}
            (None, error) => heard.push(error),
        }
    }
    heard
}
