//! Asking the system whether anybody listens. Flows' sockets are not connected, so they do not hear of it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::payload::{self, HEADER_BYTES, Header};

/// How long a refusal may take to come back. Silence is no refusal.
const PATIENCE: Duration = Duration::from_millis(100);
/// How long nothing is heard until the first look; then twice as long each time, so that there are few.
const QUIET: Duration = Duration::from_secs(1);

/// Whether the host at `target` says that nothing listens at that port (ICMP port unreachable; udp(7),
/// ECONNREFUSED). It is sent one datagram, of no run, which a server that fans out does not pass on.
pub(crate) fn is_refused(target: SocketAddr, source: Option<SocketAddr>) -> bool {
    let any: IpAddr = if target.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let answer = || {
        let socket = UdpSocket::bind(source.unwrap_or(SocketAddr::new(any, 0)))?;
        socket.connect(target)?;
        socket.set_read_timeout(Some(PATIENCE))?;
        let mut bytes = [0; HEADER_BYTES];
        let none =
            Header { run: 0, flow: 0, sequence: 0, slot: 0, intended_ns: 0, sent_ns: 0, subscription: true };
        payload::write(&mut bytes, &none);
        socket.send(&bytes)?;
        socket.recv(&mut bytes)
    };
    // Windows calls it a reset (WSAECONNRESET).
    let refusals = [ErrorKind::ConnectionRefused, ErrorKind::ConnectionReset];
    answer().is_err_and(|error: std::io::Error| refusals.contains(&error.kind()))
}

/// Says when it is time to ask.
#[derive(Debug)]
pub(crate) struct Doubt {
    heard: u64,
    since: Instant,
    patience: Duration,
}

impl Doubt {
    pub(crate) fn new() -> Self {
        Self { heard: 0, since: Instant::now(), patience: QUIET }
    }

    /// Whether to ask now, when so many datagrams were sent and heard in all.
    pub(crate) fn grows(&mut self, sent: u64, heard: u64) -> bool {
        if sent == heard || heard != self.heard {
            (self.heard, self.since) = (heard, Instant::now());
        }
        let due = self.since.elapsed() >= self.patience;
        if due {
            self.patience *= 2;
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_port_without_a_socket_refuses() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let target = socket.local_addr().expect("its address");
        assert!(!is_refused(target, None));
        drop(socket);
        assert!(is_refused(target, None) && is_refused(target, Some(([127, 0, 0, 1], 0).into())));
    }

    #[test]
    fn doubt_grows_while_nothing_is_heard() {
        let mut doubt = Doubt::new();
        doubt.patience = Duration::ZERO;
        assert!(doubt.grows(1, 0));
        doubt.patience = Duration::from_secs(60);
        assert!(!doubt.grows(2, 0) && !doubt.grows(2, 1));
    }
}
