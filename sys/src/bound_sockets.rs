//! UDP sockets that are bound and connected to nobody, as the kernel lists them (`sock_diag(7)`).
//!
//! Not read from `/proc/net/udp`: the kernel gives that in pages and finds the place of each one by counting from the
//! beginning, so with n sockets it takes n² steps. Here it looks at each socket once and tells of the few that were asked for.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::port_holder::{PortHolder, process_of, socket_inode};

/// `SOCK_DIAG_BY_FAMILY` (`linux/sock_diag.h`).
const BY_FAMILY: u16 = 20;
/// The state of a UDP socket that is connected to nobody, as a mask: `TCP_CLOSE` (`net/tcp_states.h`).
const UNCONNECTED: u32 = 1 << 7;
/// Lengths of `struct nlmsghdr`, `struct inet_diag_req_v2` and `struct inet_diag_msg` (`linux/netlink.h`,
/// `linux/inet_diag.h`).
const HEADER: usize = 16;
const REQUEST: usize = 56;
const ANSWER: usize = 72;
/// What the kernel puts into one answer at most (`netlink_dump` in `net/netlink/af_netlink.c`).
const LONGEST: usize = 32 * 1024;
/// The kernel answers at once, within the call that asks.
const PATIENCE: Duration = Duration::from_secs(1);

/// A UDP socket that is connected to nobody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BoundSocket {
    /// The address it is bound to. What an IPv6 socket has of IPv4 (`::ffff:192.0.2.1`) is told as IPv4.
    pub ip: IpAddr,
    /// Its port.
    pub port: u16,
    /// The index of the interface it is bound to; 0 if it is bound to none.
    pub interface: u32,
    /// The user it belongs to.
    pub uid: u32,
    /// The number of its inode, by which it can be told from others that are open.
    pub inode: u64,
}

impl BoundSocket {
    /// Whose it is. Looks at the descriptors of all processes it may look at.
    ///
    /// ```
    /// fn whose(socket: &shardgram_sys::bound_sockets::BoundSocket) -> String { socket.holder().to_string() }
    /// ```
    #[must_use]
    pub fn holder(&self) -> PortHolder {
        PortHolder { uid: self.uid, inode: self.inode, process: process_of(self.inode) }
    }

    /// Whether it may be given what is sent to `other`: it is bound to the same address and port, or to one under a
    /// wildcard, of which the kernel prefers the specific one. What is sent to a group comes to each socket, and nobody takes
    /// it from another.
    ///
    /// ```
    /// use shardgram_sys::bound_sockets::BoundSocket;
    /// let wildcard = BoundSocket { ip: [0; 4].into(), port: 53, interface: 0, uid: 0, inode: 7 };
    /// let specific = BoundSocket { ip: [192, 0, 2, 1].into(), inode: 8, ..wildcard };
    /// assert!(specific.takes_from(&wildcard) && !wildcard.takes_from(&specific));
    /// ```
    #[must_use]
    pub fn takes_from(&self, other: &Self) -> bool {
        let covers = other.ip.is_unspecified() && other.ip.is_ipv4() == self.ip.is_ipv4();
        let same_interface =
            [self.interface, other.interface].contains(&0) || self.interface == other.interface;
        self.port == other.port
            && same_interface
            && !self.ip.is_multicast()
            && (self.ip == other.ip || covers)
    }
}

/// Tells `each` of the sockets of a family that are connected to nobody, in the network namespace of the calling thread;
/// of those at `port`, or at any if that is 0. Needs no privilege.
///
/// It takes 0.05 to 0.4 us for each UDP socket of the namespace, whatever it is connected to. As long as the kernel looks at
/// those of one port, nobody else binds or closes one of that port.
///
/// # Errors
///
/// `ENOENT` where the kernel lacks `CONFIG_INET_UDP_DIAG`, `EAFNOSUPPORT` or `EPERM` in sandboxes without netlink, and a
/// shortage such as `EMFILE`.
///
/// ```no_run
/// use shardgram_sys::bound_sockets;
/// bound_sockets::list(false, 53, |socket| println!("{}: {}", socket.ip, socket.holder()))?;
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn list(ipv6: bool, port: u16, mut each: impl FnMut(BoundSocket)) -> io::Result<()> {
    let protocol = Protocol::from(libc::NETLINK_SOCK_DIAG);
    let socket = Socket::new(Domain::from(libc::AF_NETLINK), Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    socket.send(&request(ipv6, port))?;
    let mut buffer = vec![0; LONGEST];
    loop {
        let len = (&socket).read(&mut buffer)?;
        if len == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        for message in Messages(&buffer[..len]) {
            match message {
                Message::Socket(socket) => each(socket),
                Message::Other => {}
                Message::End(0) => return Ok(()),
                Message::End(errno) => return Err(io::Error::from_raw_os_error(errno)),
            }
        }
    }
}

/// Takes from `sockets`, which are named by their inodes, those that this process has open, and returns them. It takes a
/// microsecond or two for each descriptor of the process.
///
/// # Errors
///
/// `ENOENT` without `/proc`, and a shortage such as `EMFILE`. Nothing is known then of those that are left.
///
/// ```no_run
/// use std::collections::BTreeMap;
/// use shardgram_sys::bound_sockets;
/// let mut sockets = BTreeMap::new();
/// bound_sockets::list(false, 53, |socket| sockets.extend([(socket.inode, socket)]))?;
/// let own = bound_sockets::take_own(&mut sockets)?;
/// println!("{} of this process, {} of others", own.len(), sockets.len());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn take_own(sockets: &mut BTreeMap<u64, BoundSocket>) -> io::Result<Vec<BoundSocket>> {
    let mut own = Vec::new();
    for descriptor in fs::read_dir("/proc/self/fd")? {
        own.extend(socket_inode(&descriptor?.path()).and_then(|inode| sockets.remove(&inode)));
    }
    Ok(own)
}

fn request(ipv6: bool, port: u16) -> Vec<u8> {
    let family = if ipv6 { libc::AF_INET6 } else { libc::AF_INET };
    let flags = (libc::NLM_F_REQUEST | libc::NLM_F_DUMP) as u16;
    let mut bytes = Vec::with_capacity(HEADER + REQUEST);
    // nlmsg_len, nlmsg_type, nlmsg_flags, nlmsg_seq, nlmsg_pid.
    bytes.extend(((HEADER + REQUEST) as u32).to_ne_bytes());
    bytes.extend(BY_FAMILY.to_ne_bytes());
    bytes.extend(flags.to_ne_bytes());
    bytes.extend([0; 8]);
    // sdiag_family, sdiag_protocol, idiag_ext, pad, idiag_states.
    bytes.extend([family as u8, libc::IPPROTO_UDP as u8, 0, 0]);
    bytes.extend(UNCONNECTED.to_ne_bytes());
    // id: idiag_sport in network byte order, and nothing else of it is compared.
    bytes.extend(port.to_be_bytes());
    bytes.resize(HEADER + REQUEST, 0);
    bytes
}

/// What the kernel says.
#[derive(Debug, PartialEq, Eq)]
enum Message {
    Socket(BoundSocket),
    /// There is no more: why, or 0.
    End(i32),
    Other,
}

/// The messages of one answer. One whose length makes no sense is the last.
struct Messages<'a>(&'a [u8]);

impl Iterator for Messages<'_> {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let len = u32::from_ne_bytes(array(self.0, 0)?) as usize;
        let kind = u16::from_ne_bytes(array(self.0, 4)?);
        let body = self.0.get(HEADER..len)?;
        // The next begins at a multiple of NLMSG_ALIGNTO.
        self.0 = self.0.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some(match i32::from(kind) {
            libc::NLMSG_DONE | libc::NLMSG_ERROR => {
                // A negative errno. Kernels before 4.12 leave it out where there is none.
                Message::End(array(body, 0).map_or(0, i32::from_ne_bytes).saturating_neg())
            }
            kind if kind == i32::from(BY_FAMILY) => {
                bound_socket(body).map_or(Message::Other, Message::Socket)
            }
            _ => Message::Other,
        })
    }
}

/// Reads a `struct inet_diag_msg`.
fn bound_socket(body: &[u8]) -> Option<BoundSocket> {
    let body: [u8; ANSWER] = array(body, 0)?;
    let word = |at| array(&body, at).map(u32::from_ne_bytes);
    let ip: IpAddr = match i32::from(body[0]) {
        libc::AF_INET => Ipv4Addr::from(array::<4>(&body, 8)?).into(),
        libc::AF_INET6 => Ipv6Addr::from(array::<16>(&body, 8)?).into(),
        _ => return None,
    };
    Some(BoundSocket {
        ip: ip.to_canonical(),
        port: u16::from_be_bytes(array(&body, 4)?),
        interface: word(40)?,
        uid: word(64)?,
        inode: word(68)?.into(),
    })
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(ip: &str, port: u16, interface: u32) -> BoundSocket {
        BoundSocket { ip: ip.parse().expect(ip), port, interface, uid: 998, inode: 4_711 }
    }

    /// As the kernel writes one, of `family`.
    fn told(family: i32, socket: &BoundSocket) -> Vec<u8> {
        let mut body = vec![0; ANSWER];
        body[0] = family as u8;
        body[4..6].copy_from_slice(&socket.port.to_be_bytes());
        match socket.ip {
            IpAddr::V4(ip) if family == libc::AF_INET => body[8..12].copy_from_slice(&ip.octets()),
            IpAddr::V4(ip) => body[8..24].copy_from_slice(&ip.to_ipv6_mapped().octets()),
            IpAddr::V6(ip) => body[8..24].copy_from_slice(&ip.octets()),
        }
        body[40..44].copy_from_slice(&socket.interface.to_ne_bytes());
        body[64..68].copy_from_slice(&socket.uid.to_ne_bytes());
        body[68..72].copy_from_slice(&(socket.inode as u32).to_ne_bytes());
        body
    }

    fn message(kind: i32, body: &[u8]) -> Vec<u8> {
        let mut bytes = ((HEADER + body.len()) as u32).to_ne_bytes().to_vec();
        bytes.extend((kind as u16).to_ne_bytes());
        bytes.resize(HEADER, 0);
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    #[test]
    fn what_the_kernel_says_is_read_and_nothing_else() {
        let (v4, v6) = (socket("192.0.2.1", 9_000, 3), socket("2001:db8::1", 9_000, 0));
        let kind = i32::from(BY_FAMILY);
        let answer: Vec<u8> = [
            message(kind, &told(libc::AF_INET, &v4)),
            message(kind, &told(libc::AF_INET6, &v6)),
            message(kind, &told(libc::AF_INET6, &v4)),
            message(kind, &told(libc::AF_UNIX, &v4)),
            message(kind, &[2; ANSWER - 1]),
            message(libc::NLMSG_NOOP, &[]),
            message(libc::NLMSG_ERROR, &(-libc::ENOENT).to_ne_bytes()),
            message(libc::NLMSG_DONE, &0_i32.to_ne_bytes()),
            message(libc::NLMSG_DONE, &[]),
        ]
        .concat();
        let read: Vec<_> = Messages(&answer).collect();
        let sockets = [v4, v6, v4].map(Message::Socket);
        let ends = [libc::ENOENT, 0, 0].map(Message::End);
        assert_eq!(read[..3], sockets);
        assert_eq!(read[3..6], [Message::Other, Message::Other, Message::Other]);
        assert_eq!(read[6..], ends);
        for end in 0..answer.len() {
            let cut: Vec<_> = Messages(&answer[..end]).collect();
            assert!(cut.len() <= read.len() && cut[..] == read[..cut.len()], "cut at {end}");
        }
        for len in [0, 1, HEADER as u32 - 1, u32::MAX] {
            let mut bad = answer.clone();
            bad[..4].copy_from_slice(&len.to_ne_bytes());
            assert_eq!(Messages(&bad).next(), None, "a length of {len}");
        }
    }

    #[test]
    fn a_socket_takes_from_those_of_its_address_and_from_wildcards_over_it() {
        for (one, other, takes) in [
            ("192.0.2.1", "192.0.2.1", true),
            ("192.0.2.1", "192.0.2.2", false),
            ("192.0.2.1", "0.0.0.0", true),
            ("0.0.0.0", "192.0.2.1", false),
            ("0.0.0.0", "0.0.0.0", true),
            ("192.0.2.1", "::", false),
            ("::", "0.0.0.0", false),
            ("2001:db8::1", "::", true),
            ("224.0.0.251", "0.0.0.0", false),
            ("ff02::fb", "::", false),
        ] {
            assert_eq!(socket(one, 9, 0).takes_from(&socket(other, 9, 0)), takes, "{one} and {other}");
            assert!(!socket(one, 9, 0).takes_from(&socket(other, 8, 0)), "{one} and {other}, other ports");
        }
        for (one, other, takes) in [(0, 3, true), (3, 0, true), (3, 3, true), (3, 4, false)] {
            let [one, other] = [one, other].map(|interface| socket("fe80::1", 9, interface));
            assert_eq!(one.takes_from(&other), takes);
        }
    }
}
