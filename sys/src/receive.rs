//! Receiving several datagrams or trains by one system call, with room for all that a socket may report of them.

use std::io::{self, IoSliceMut};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd};

use crate::addr::{self, RECV_NAME_SPACE};
use crate::cmsg::{Control, RECV_CONTROL_SLACK, RECV_CONTROL_SPACE};

/// Datagrams or trains received by one call, at most.
pub const RECEIVE_BATCH: usize = 32;

/// The longest datagram or train, and how many are thrown away by one call.
const LONGEST: usize = 1 << 16;
const DISCARDED_AT_ONCE: usize = 4;

const CONTROL: usize = RECV_CONTROL_SPACE + RECV_CONTROL_SLACK;

/// A datagram or a train that was received.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incoming {
    /// Its bytes, as far as the buffer went.
    pub len: usize,
    /// Its source; `None` if it is of no family that is known.
    pub remote: Option<SocketAddr>,
    /// What the control data said.
    pub control: Control,
    /// Whether there was more of it than there is room for: see [`Control::may_lack`].
    pub control_cut: bool,
}

/// Where the kernel writes sources and control data to.
///
/// ```
/// use std::io::IoSliceMut;
/// use std::net::UdpSocket;
/// use shardgram_sys::Receiver;
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// for text in [b"abc", b"xyz"] {
///     there.send_to(text, here.local_addr()?)?;
/// }
/// let (mut receiver, mut bytes) = (Receiver::default(), [[0; 8]; 4]);
/// let mut buffers = bytes.each_mut().map(|bytes| IoSliceMut::new(bytes));
/// let mut lengths = Vec::new();
/// receiver.receive(&here, &mut buffers, |at, incoming| {
///     assert_eq!(incoming.remote, there.local_addr().ok());
///     lengths.push((at, incoming.len));
/// })?;
/// assert_eq!(lengths, [(0, 3), (1, 3)]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Receiver {
    rooms: Box<[Room; RECEIVE_BATCH]>,
}

/// What the kernel writes beside the payload. Control messages begin at multiples of a native word.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
struct Room {
    control: [u8; CONTROL],
    name: [u8; RECV_NAME_SPACE],
}

impl Default for Receiver {
    fn default() -> Self {
        let room = Room { control: [0; CONTROL], name: [0; RECV_NAME_SPACE] };
        Self { rooms: Box::new([room; RECEIVE_BATCH]) }
    }
}

impl Receiver {
    /// Receives what has come, a datagram or a train into each of the first [`RECEIVE_BATCH`] of `buffers`, and says of
    /// each what came with it. Does not wait, whatever the socket is set to (MSG_DONTWAIT, recvmmsg(2), Linux 2.6.33).
    /// Gives their number.
    ///
    /// # Errors
    /// Those of recvmmsg(2): EAGAIN if there is nothing, and what earlier sends came to.
    pub fn receive(
        &mut self,
        socket: &impl AsFd,
        buffers: &mut [IoSliceMut<'_>],
        mut each: impl FnMut(usize, Incoming),
    ) -> io::Result<usize> {
        let count = buffers.len().min(RECEIVE_BATCH);
        // SAFETY: integers and pointers, for which all-zero bytes are valid.
        let mut headers: [libc::mmsghdr; RECEIVE_BATCH] = unsafe { std::mem::zeroed() };
        for ((header, buffer), room) in headers.iter_mut().zip(&mut *buffers).zip(&mut *self.rooms) {
            let header = &mut header.msg_hdr;
            header.msg_name = room.name.as_mut_ptr().cast();
            header.msg_namelen = RECV_NAME_SPACE as libc::socklen_t;
            header.msg_iov = (&raw mut *buffer).cast();
            header.msg_iovlen = 1;
            header.msg_control = room.control.as_mut_ptr().cast();
            header.msg_controllen = CONTROL as _;
        }
        let came = loop {
            // SAFETY: `count` headers point to buffers and rooms that are borrowed here, of the lengths that stand there;
            // `IoSliceMut` has the layout of `iovec` (std::io::IoSliceMut). Nothing else refers to them before the call
            // returns.
            let came = unsafe {
                libc::recvmmsg(
                    socket.as_fd().as_raw_fd(),
                    headers.as_mut_ptr(),
                    count as u32,
                    libc::MSG_DONTWAIT as _,
                    std::ptr::null_mut(),
                )
            };
            if let Ok(came) = usize::try_from(came) {
                break came;
            }
            let error = io::Error::last_os_error();
            if error.kind() != io::ErrorKind::Interrupted {
                return Err(error);
            }
        };
        for (at, (header, room)) in headers.iter().zip(&*self.rooms).take(came).enumerate() {
            let (len, header) = (header.msg_len as usize, &header.msg_hdr);
            let name = room.name.get(..header.msg_namelen as usize);
            #[allow(clippy::unnecessary_cast, reason = "a length is a u32 with musl")]
            let control = room.control.get(..header.msg_controllen as usize).unwrap_or_default();
            each(
                at,
                Incoming {
                    len,
                    remote: name.and_then(addr::decode),
                    control: Control::parse(control),
                    control_cut: header.msg_flags & libc::MSG_CTRUNC != 0,
                },
            );
        }
        Ok(came)
    }
}

/// What was thrown away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Discarded {
    /// So many datagrams, those of trains by themselves.
    pub datagrams: u32,
    /// Whether nothing is left.
    pub all: bool,
}

/// Throws away what a socket holds that is to be closed, up to `most` datagrams and trains, so that they can be counted:
/// what the kernel throws away with a socket it does not count. Does not wait.
///
/// ```
/// use std::net::UdpSocket;
/// use shardgram_sys::{Discarded, discard};
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
/// (0..3).try_for_each(|_| there.send_to(b"abc", here.local_addr()?).map(|_| ()))?;
/// assert_eq!(discard(&here, 2), Discarded { datagrams: 2, all: false });
/// assert_eq!(discard(&here, 2), Discarded { datagrams: 1, all: true });
/// # Ok(())
/// # }
/// ```
#[must_use]
pub fn discard(socket: &impl AsFd, most: usize) -> Discarded {
    let mut bytes = vec![0; LONGEST * DISCARDED_AT_ONCE];
    let mut receiver = Receiver::default();
    let (mut datagrams, mut left) = (0, most);
    while left > 0 {
        let mut buffers: Vec<_> = bytes.chunks_mut(LONGEST).take(left).map(IoSliceMut::new).collect();
        let came = receiver.receive(socket, &mut buffers, |_, incoming| {
            let each = incoming.control.segment_size.map_or(0, usize::from);
            datagrams += if each == 0 { 1 } else { incoming.len.div_ceil(each).max(1) as u32 };
        });
        match came {
            Ok(came) => left -= came.min(left),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Discarded { datagrams, all: true };
            }
            // What an earlier send came to, which is told once.
            Err(_) => left -= 1,
        }
    }
    // Where receives fail for ever nothing is gained by more of them.
    Discarded { datagrams, all: datagrams == 0 }
}
