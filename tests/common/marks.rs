//! Sockets that send with marks, and see how what they receive is marked.
#![allow(unsafe_code, reason = "control messages are read by recvmsg(2)")]

use std::io::{self, IoSlice};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;

use shardgram_sys::addr::{self, RECV_NAME_SPACE};
use shardgram_sys::socket::{set_receive_ecn, set_traffic_class};
use shardgram_sys::{Heading, send_message};

use super::{PATIENCE, receiving_trains};

/// A datagram, or a train as it came: the byte of DSCP and congestion bits, the size of its datagrams, its bytes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Marked {
    pub class: u8,
    pub segment: Option<usize>,
    pub bytes: Vec<u8>,
}

/// A peer with a socket that is told all this.
pub struct Marker {
    pub socket: UdpSocket,
}

impl Marker {
    /// On a free port of this address.
    pub fn new(ip: IpAddr) -> Self {
        Self::of(receiving_trains(ip))
    }

    pub fn of(socket: UdpSocket) -> Self {
        set_receive_ecn(&socket, socket.local_addr().unwrap().is_ipv6(), true).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket }
    }

    pub fn address(&self) -> SocketAddr {
        self.socket.local_addr().unwrap()
    }

    /// A datagram with this byte in its header, or a train of datagrams of that length.
    pub fn send(&self, to: SocketAddr, class: u8, segment: Option<u16>, bytes: &[u8]) {
        let heading = Heading { to, from: None, segment, traffic_class: Some(class) };
        send_message(&self.socket, &heading, &[IoSlice::new(bytes)]).expect("sent");
    }

    /// What comes next.
    pub fn receive(&self) -> Marked {
        self.try_receive().expect("a datagram comes")
    }

    pub fn try_receive(&self) -> io::Result<Marked> {
        let Message { class, segment, bytes, .. } = receive_message(&self.socket)?;
        Ok(Marked { class: class.expect("it was asked for"), segment, bytes })
    }
}

/// What recvmsg(2) tells of a datagram or a train.
pub struct Message {
    pub from: SocketAddr,
    /// Where the socket was told to say so.
    pub class: Option<u8>,
    pub segment: Option<usize>,
    pub bytes: Vec<u8>,
}

/// The next one, within the socket's read timeout.
pub fn receive_message(socket: &UdpSocket) -> io::Result<Message> {
    let mut bytes = vec![0; 70_000];
    let (mut name, mut control) = ([0_u8; RECV_NAME_SPACE], [0_u64; 32]);
    let mut piece = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is a C struct of integers and pointers; all zeroes is a value of it.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_name = name.as_mut_ptr().cast();
    header.msg_namelen = RECV_NAME_SPACE as libc::socklen_t;
    header.msg_iov = &raw mut piece;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(&control) as _;
    // SAFETY: the socket is open; the kernel writes into name, bytes and control, which are as long as it is told.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, 0) };
    if len < 0 {
        return Err(io::Error::last_os_error());
    }
    bytes.truncate(len as usize);
    let (mut class, mut segment) = (None, None);
    // SAFETY: the header is as the kernel left it, so the control messages in it are well formed, and the buffer
    // is aligned for them.
    unsafe {
        let mut at = libc::CMSG_FIRSTHDR(&raw const header);
        while let Some(message) = at.as_ref() {
            let data = libc::CMSG_DATA(at);
            match (message.cmsg_level, message.cmsg_type) {
                (libc::SOL_IP, libc::IP_TOS) => class = Some(*data),
                (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                    class = Some(data.cast::<libc::c_int>().read_unaligned() as u8);
                }
                (libc::SOL_UDP, libc::UDP_GRO) => {
                    segment = Some(data.cast::<libc::c_int>().read_unaligned() as usize);
                }
                _ => {}
            }
            at = libc::CMSG_NXTHDR(&raw const header, at);
        }
    }
    let from = addr::decode(&name).expect("an address");
    Ok(Message { from, class, segment, bytes })
}

/// The DSCP of expedited forwarding (RFC 3246), as a byte without congestion bits.
pub const DSCP: u8 = 0xb8;

/// The byte of what is marked so and leaves by a socket that has `own`: all of that where there is no mark.
pub fn marked(own: u8, mark: u8) -> u8 {
    if mark == 0 { own } else { (own >> 2 << 2) + mark }
}

/// A socket hook that has all sockets send with it, and with these congestion bits.
pub fn hook_with(class: u8) -> shardgram::SocketHook {
    std::sync::Arc::new(move |socket, address| {
        // By the family of the address: the socket of a peer's own may be turned into one of the other family.
        match address {
            SocketAddr::V4(_) => set_traffic_class(socket, false, class),
            SocketAddr::V6(_) => set_traffic_class(socket, true, class),
        }
    })
}
