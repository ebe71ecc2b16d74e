//! Datagrams that say they come from somebody else.

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, Socket, Type};

use super::system::Batch;
use super::wire;

/// Datagrams that leave with one call, at most.
pub const MOST: usize = 64;
const IP_HEADER: usize = 20;
const HEADERS: usize = IP_HEADER + 8;
/// Distinct addresses of forged sources: from 11.0.0.0 on, so none of them is a client's.
const ADDRESSES: u32 = 1 << 30;
const FIRST_ADDRESS: u32 = 0x0b00_0000;
/// Odd, so that multiplication by it modulo a power of two gives every number once: sources that follow each other
/// are of different prefixes.
const SPREAD: u32 = 0x9e37_79b1;

/// From whom a flood seems to come.
#[derive(Clone, Copy, Debug)]
pub enum Sources {
    /// From so many addresses of all prefixes, one after the other and then again. With two datagrams a source the second
    /// one follows so many datagrams after the first, when the server has begun other turns.
    Many {
        /// Addresses.
        sources: u64,
        /// One datagram each time, or two.
        twice: bool,
    },
    /// From all ports of one address, one after the other: 65,535 of them, since 0 is none.
    Ports(Ipv4Addr),
}

/// How many datagrams after the first the second one of a source comes: 10 ms at 150,000 a second.
const SECOND: u64 = 1_500;

impl Sources {
    /// Who sends the datagram of that number, counted from 0.
    ///
    /// ```
    /// use shardgram_benches::floods::forge::Sources;
    /// let once = Sources::Many { sources: 1_000, twice: false };
    /// assert_ne!(once.of(0), once.of(1));
    /// assert_eq!(once.of(0), once.of(1_000));
    /// let twice = Sources::Many { sources: 1_000_000, twice: true };
    /// assert_eq!(twice.of(0), twice.of(3_001));
    /// assert_eq!(Sources::Ports([10, 0, 0, 1].into()).of(65_535).port(), 1);
    /// ```
    #[must_use]
    pub fn of(self, number: u64) -> SocketAddrV4 {
        match self {
            Self::Many { sources, twice } => {
                let source = match number {
                    _ if !twice => number,
                    _ if number.is_multiple_of(2) => number / 2,
                    // The first ones have nobody before them.
                    _ => (number / 2).saturating_sub(SECOND),
                };
                let source = (source % sources) as u32;
                let address = FIRST_ADDRESS + source.wrapping_mul(SPREAD) % ADDRESSES;
                let port = 1_024 + (source.wrapping_mul(SPREAD) >> 17) as u16;
                SocketAddrV4::new(address.into(), port)
            }
            Self::Ports(address) => SocketAddrV4::new(address, 1 + (number % 65_535) as u16),
        }
    }
}

/// Where the datagrams of a flood leave.
#[derive(Debug)]
enum Way {
    /// By a raw socket, each with a source of its own.
    Forged(Socket, Sources),
    /// By the socket of one client.
    Own(UdpSocket),
}

/// A stream of datagrams to one address.
#[derive(Debug)]
pub struct Stream {
    way: Way,
    batch: Batch,
    sent: u64,
}

impl Stream {
    /// Datagrams of that kind from those sources, by a raw socket: raw(7), IP_HDRINCL.
    ///
    /// # Errors
    /// If this process may not open one.
    pub fn forged(sources: Sources, kind: u8, to: SocketAddrV4) -> io::Result<Self> {
        let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)))?;
        socket.connect(&SocketAddrV4::new(*to.ip(), 0).into())?;
        let mut packet = [0; HEADERS + wire::LENGTH];
        // RFC 791: version 4, 5 words; time to live 64, protocol 17. The kernel writes length, id and checksum.
        packet[0] = 0x45;
        packet[8..10].copy_from_slice(&[64, 17]);
        packet[16..20].copy_from_slice(&to.ip().octets());
        // RFC 768: a checksum of 0 says that there is none.
        packet[22..24].copy_from_slice(&to.port().to_be_bytes());
        packet[24..26].copy_from_slice(&(8 + wire::LENGTH as u16).to_be_bytes());
        packet[HEADERS..].copy_from_slice(&wire::request(kind, u32::MAX, 0));
        Ok(Self { way: Way::Forged(socket, sources), batch: Batch::new(MOST, &packet), sent: 0 })
    }

    /// Datagrams of that kind from a connected socket.
    #[must_use]
    pub fn own(socket: UdpSocket, kind: u8, flow: u32) -> Self {
        Self { way: Way::Own(socket), batch: Batch::new(MOST, &wire::request(kind, flow, 0)), sent: 0 }
    }

    /// Datagrams that were sent.
    #[must_use]
    pub fn sent(&self) -> u64 {
        self.sent
    }

    /// Sends the next `count`, at most [`MOST`]; says how many left.
    ///
    /// # Errors
    /// What sendmmsg(2) says, except that there is no room or that somebody refused an earlier one.
    pub fn send(&mut self, count: usize) -> io::Result<usize> {
        let count = count.min(MOST);
        if let Way::Forged(_, sources) = self.way {
            for at in 0..count {
                let source = sources.of(self.sent + at as u64);
                let packet = self.batch.datagram(at);
                packet[12..16].copy_from_slice(&source.ip().octets());
                packet[20..22].copy_from_slice(&source.port().to_be_bytes());
            }
        }
        let socket = match &self.way {
            Way::Forged(socket, _) => socket.as_fd(),
            Way::Own(socket) => socket.as_fd(),
        };
        let sent = match self.batch.send(socket, count) {
            Ok(sent) => sent,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::ENOBUFS | libc::EINTR | libc::ECONNREFUSED) => 0,
                _ => return Err(error),
            },
        };
        self.sent += sent as u64;
        Ok(sent)
    }
}
