//! Datagrams and trains by one system call: several datagrams of equal size to one address.

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd};

use shardgram_core::outbox::TrainLimits;

use crate::addr;
use crate::cmsg::{ControlBuilder, ControlSpace};

/// What a send says beside its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heading {
    /// Where to.
    pub to: SocketAddr,
    /// Where from, if that is named, as on a socket that is bound to every address.
    pub from: Option<IpAddr>,
    /// Bytes of each datagram but the last, which may be shorter, if it is several (UDP_SEGMENT, Linux 4.18,
    /// udp(7)).
    pub segment: Option<u16>,
    /// The byte of DSCP and congestion bits, if it is another than the socket's.
    pub traffic_class: Option<u8>,
}

impl Heading {
    /// Writes the control messages and returns their length in bytes.
    #[inline]
    #[must_use = "this is the control length"]
    pub fn write_control(&self, space: &mut ControlSpace) -> usize {
        let mut control = ControlBuilder::new(space);
        if let Some(from) = self.from {
            control = control.packet_info(from, 0);
        }
        if let Some(segment) = self.segment {
            control = control.segment_size(segment);
        }
        if let Some(class) = self.traffic_class {
            control = control.traffic_class(class, self.to.is_ipv6());
        }
        control.finish()
    }
}

/// What the kernel takes as one: 64 segments (UDP_SEGMENT, udp(7); 128 on newer kernels), and no more bytes than it
/// cuts apart in one go, which for IPv6 is 65,473 (seen on Linux 6.18; longer ones cost ten times as much).
pub const TRAIN_LIMITS: TrainLimits = TrainLimits { datagrams: 64, bytes: 65_473 };

/// Sends the bytes in `pieces`, one after another, as a datagram or as a train.
///
/// It does not block, whatever the socket is set to (MSG_DONTWAIT, send(2)): all datagrams leave, or none.
///
/// # Errors
/// Those of sendmsg(2). With a segment size those of [`is_about_trains`](crate::errors::is_about_trains) too: then the datagrams have to be sent one
/// by one.
pub fn send_message(socket: &impl AsFd, heading: &Heading, pieces: &[IoSlice<'_>]) -> io::Result<()> {
    let mut control = ControlSpace::new();
    let control_len = heading.write_control(&mut control);
    // SAFETY: `sockaddr_storage` and `msghdr` are made of integers and pointers, for which all-zero bytes are valid.
    let (mut name, mut header): (libc::sockaddr_storage, libc::msghdr) = unsafe { std::mem::zeroed() };
    header.msg_namelen = addr::write_to(&heading.to, &mut name);
    header.msg_name = (&raw mut name).cast();
    header.msg_iov = pieces.as_ptr().cast_mut().cast();
    header.msg_iovlen = pieces.len() as _;
    header.msg_control = control.as_mut_ptr();
    header.msg_controllen = control_len as _;
    // SAFETY: name, control and pieces are borrowed or owned here and outlive the call, which only reads them;
    // `IoSlice` has the layout of `iovec` (std::io::IoSlice).
    let sent = unsafe { libc::sendmsg(socket.as_fd().as_raw_fd(), &raw const header, libc::MSG_DONTWAIT) };
    if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Sends the bytes in `pieces` as datagrams of `segment` bytes each, as [`send_message`] does.
///
/// # Errors
/// Those of [`send_message`].
///
/// ```
/// use std::io::IoSlice;
/// use std::net::UdpSocket;
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// shardgram_sys::send_train(&here, there.local_addr()?, None, 2, &[IoSlice::new(b"aab"), IoSlice::new(b"bc")])?;
/// let mut bytes = [0; 8];
/// assert_eq!([there.recv(&mut bytes)?, there.recv(&mut bytes)?, there.recv(&mut bytes)?], [2, 2, 1]);
/// # Ok(())
/// # }
/// ```
pub fn send_train(
    socket: &impl AsFd,
    to: SocketAddr,
    from: Option<IpAddr>,
    segment: u16,
    pieces: &[IoSlice<'_>],
) -> io::Result<()> {
    send_message(socket, &Heading { to, from, segment: Some(segment), traffic_class: None }, pieces)
}
