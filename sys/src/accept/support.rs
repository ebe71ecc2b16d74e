//! Which way of accepting works on this kernel, found by doing it.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::{AcceptMode, Bound};
use crate::{ListenerGroup, SocketOptions};

/// How long a datagram over loopback is waited for. It usually has arrived when the send returns.
const PATIENCE: Duration = Duration::from_millis(500);

/// What [`accept_support`] found.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AcceptSupport {
    /// The way that works, for both families.
    pub mode: AcceptMode,
    /// Why it is not the side group; `None` if it is.
    pub reason: Option<String>,
}

/// Finds out which way of accepting works here by accepting a peer over loopback, in each family.
///
/// A host without IPv6 addresses is no obstacle, a kernel without IPv6 is one. Takes about a
/// millisecond, a handful of descriptors and free ports, which are given back.
#[must_use]
pub fn accept_support() -> AcceptSupport {
    let families = [(IpAddr::V4(Ipv4Addr::LOCALHOST), "IPv4"), (IpAddr::V6(Ipv6Addr::LOCALHOST), "IPv6")];
    for (loopback, family) in families {
        if loopback.is_ipv6() && !has_ipv6() {
            continue;
        }
        if let Err(obstacle) = try_out(loopback) {
            let reason = Some(format!("{family}: {obstacle}"));
            return AcceptSupport { mode: AcceptMode::SameGroup, reason };
        }
    }
    AcceptSupport { mode: AcceptMode::SideGroup, reason: None }
}

/// Whether there is an IPv6 address that peers could be accepted on.
fn has_ipv6() -> bool {
    UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok()
}

fn try_out(loopback: IpAddr) -> Result<(), String> {
    let options = SocketOptions::default();
    let asked = SocketAddr::new(loopback, 0);
    let mut group = ListenerGroup::bind(asked, 1, &options).map_err(|error| error.to_string())?;
    let listener = group.take_sockets().remove(0);
    let (local, said) = (group.local_addr(), |error: io::Error| format!("the self-test failed: {error}"));
    let client = |ip| UdpSocket::bind((ip, 0)).map_err(said);
    let (peer, neighbour, stranger) = (client(loopback)?, client(loopback)?, client(elsewhere(loopback))?);

    let bound = Bound::open(AcceptMode::SideGroup, local, &options).map_err(|error| error.to_string())?;
    let early = UdpSocket::from(bound.socket.try_clone().map_err(said)?);
    reaches(&peer, local, &listener, &early)
        .map_err(|error| format!("a listener does not get what comes before the connect: {error}"))?;
    let accepted = bound.connect(peer.local_addr().map_err(said)?).map_err(|error| error.to_string())?;
    reaches(&peer, local, &accepted, &listener)
        .map_err(|error| format!("a connected socket does not get its peer's datagrams: {error}"))?;
    for other in [&neighbour, &stranger] {
        reaches(other, local, &listener, &accepted)
            .map_err(|error| format!("a listener does not get what strangers send: {error}"))?;
    }
    Ok(())
}

/// A loopback address other than the peer's where there is one.
fn elsewhere(loopback: IpAddr) -> IpAddr {
    if loopback.is_ipv4() { IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)) } else { loopback }
}

/// Sends from `from` to `local`, and looks at which of two sockets it comes out.
fn reaches(from: &UdpSocket, local: SocketAddr, right: &UdpSocket, wrong: &UdpSocket) -> io::Result<()> {
    let source = from.local_addr()?;
    from.send_to(b"shardgram", local)?;
    let start = Instant::now();
    loop {
        // Anybody may write to the port meanwhile.
        if source_of_next(right)? == Some(source) {
            return Ok(());
        }
        if source_of_next(wrong)? == Some(source) {
            return Err(io::Error::other("another socket got it"));
        }
        if start.elapsed() > PATIENCE {
            return Err(io::ErrorKind::TimedOut.into());
        }
        sleep(Duration::from_micros(50));
    }
}

fn source_of_next(socket: &UdpSocket) -> io::Result<Option<SocketAddr>> {
    socket.set_nonblocking(true)?;
    match socket.recv_from(&mut [0; 16]) {
        // A socket that is not turned into an IPv4 socket yet shows mapped addresses.
        Ok((_, source)) => Ok(Some(SocketAddr::new(source.ip().to_canonical(), source.port()))),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}
