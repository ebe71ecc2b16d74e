//! Control messages: what `recvmsg(2)` and `sendmsg(2)` carry beside a payload.
//!
//! [`Control::parse`] reads the received ones, [`NetworkError::parse`] those of an error queue, and
//! [`ControlBuilder`] writes the sent ones. All work on bytes at computed offsets instead of the
//! `CMSG_*` macros of `cmsg(3)`, so this file needs no unsafe code and no length that a buffer
//! claims is believed.

use std::mem::{offset_of, size_of};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use shardgram_core::Settings;

/// `struct cmsghdr` of the kernel: a native `size_t` length, then level and type as `int`.
const HEADER: usize = size_of::<usize>() + 2 * size_of::<libc::c_int>();

/// Messages start at multiples of a native word (`CMSG_ALIGN`).
const ALIGN: usize = size_of::<usize>();

/// Bytes that a message with `data` bytes takes, padding included (`CMSG_SPACE`).
const fn space(data: usize) -> usize {
    HEADER + data.next_multiple_of(ALIGN)
}

const INT: usize = size_of::<libc::c_int>();
const PKTINFO_V4: usize = size_of::<libc::in_pktinfo>();
const PKTINFO_V6: usize = size_of::<libc::in6_pktinfo>();

/// Control length to ask for in `recvmsg`, in bytes: room for every message that
/// [`Control::parse`] knows at once. A shorter one makes the kernel drop messages and set
/// `MSG_CTRUNC`. It is a multiple of the native word, 120 bytes on 64-bit.
pub const RECV_CONTROL_SPACE: usize =
    space(PKTINFO_V6) + space(INT) + space(INT) + space(size_of::<libc::timespec>());

/// Room in bytes to ask for beside that of one's own reports, for whatever of fixed size a socket hook may have turned on
/// too, all at once. The kernel writes several of these before the segment size of a train and before packet info
/// (`udp_recvmsg` in net/ipv4/udp.c: `sock_recv_cmsgs`, then UDP_GRO, then `ip_cmsg_recv`), so without room for them those
/// two are what is missing.
///
/// Not in it is what may be of any length, such as extension headers of IPv6 (`IPV6_RECVHOPOPTS` and the like) and
/// security contexts (`IP_PASSSEC`).
pub const RECV_CONTROL_SLACK: usize = {
    const TIMESPEC: usize = size_of::<libc::timespec>();
    // SO_TIMESTAMP or SO_TIMESTAMPNS; SO_TIMESTAMPING (three times) with SOF_TIMESTAMPING_OPT_PKTINFO (four words).
    let times = space(TIMESPEC) + space(3 * TIMESPEC) + space(4 * INT);
    // SO_RXQ_OVFL, SO_RCVMARK, SO_RCVPRIORITY, SO_WIFI_STATUS.
    let of_sockets = times + 4 * space(INT);
    // IP_RECVTTL, IP_RECVTOS, IP_CHECKSUM, IP_RECVFRAGSIZE, IP_RECVOPTS and IP_RETOPTS (40 bytes of options at most,
    // RFC 791 section 3.1), IP_RECVORIGDSTADDR, IP_PKTINFO.
    let v4 = 4 * space(INT) + 2 * space(40) + space(size_of::<libc::sockaddr_in>()) + space(PKTINFO_V4);
    // IPV6_RECVHOPLIMIT, IPV6_RECVTCLASS, IPV6_FLOWINFO, IPV6_RECVFRAGSIZE, IPV6_2292HOPLIMIT, IPV6_RECVORIGDSTADDR,
    // IPV6_RECVPKTINFO and IPV6_2292PKTINFO.
    let v6 = 5 * space(INT) + space(size_of::<libc::sockaddr_in6>()) + 2 * space(PKTINFO_V6);
    of_sockets + if v4 > v6 { v4 } else { v6 }
};

/// What a socket reports with each receive, and nothing else.
///
/// ```
/// use shardgram_sys::{RECV_CONTROL_SPACE, cmsg::Reports};
/// assert_eq!(Reports::default().control_space(), 0);
/// let all = Reports { packet_info: true, trains: true, ecn: true, times: true };
/// assert_eq!(all.control_space(), RECV_CONTROL_SPACE);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reports {
    /// The address a datagram was sent to.
    pub packet_info: bool,
    /// How long the datagrams of a train are.
    pub trains: bool,
    /// Congestion bits.
    pub ecn: bool,
    /// When the kernel received it.
    pub times: bool,
}

impl Reports {
    /// What a configuration has every socket report. Packet info is for those that are bound to a wildcard address.
    ///
    /// ```
    /// use shardgram_core::Config;
    /// use shardgram_sys::cmsg::Reports;
    /// let reports = Reports::of(Config::new().ecn(true).settings());
    /// assert!(reports.ecn && !reports.times && !reports.packet_info);
    /// ```
    #[must_use]
    pub fn of(settings: &Settings) -> Self {
        Self {
            packet_info: false,
            trains: settings.trains,
            ecn: settings.ecn,
            times: settings.receive_timestamps,
        }
    }

    /// Control length to ask for in `recvmsg`, in bytes.
    #[must_use]
    pub const fn control_space(self) -> usize {
        const fn if_on(on: bool, bytes: usize) -> usize {
            if on { space(bytes) } else { 0 }
        }
        if_on(self.packet_info, PKTINFO_V6)
            + if_on(self.trains, INT)
            + if_on(self.ecn, INT)
            + if_on(self.times, size_of::<libc::timespec>())
    }
}

/// Bytes of a [`ControlSpace`]: room for every message that [`ControlBuilder`] writes at once.
pub const SEND_CONTROL_SPACE: usize = 88;

// The builder indexes its space by this arithmetic, so it holds at compile time or not at all.
const _: () = assert!(space(PKTINFO_V6) + space(size_of::<u16>()) + space(INT) <= SEND_CONTROL_SPACE);
const _: () = assert!(PKTINFO_V4 <= PKTINFO_V6);
const _: () = assert!(SEND_CONTROL_SPACE.is_multiple_of(ALIGN));
const _: () = assert!(align_of::<ControlSpace>() >= ALIGN);
const _: () = assert!(RECV_CONTROL_SPACE.is_multiple_of(ALIGN));
const _: () = assert!(RECV_CONTROL_SLACK.is_multiple_of(ALIGN));

/// What the control messages of one received datagram or train said.
///
/// Every field is empty unless its option is on: packet info
/// ([`set_packet_info`](crate::socket::set_packet_info)), trains
/// ([`receive_trains`](crate::SocketOptions::receive_trains)), marks ([`ecn`](crate::SocketOptions::ecn)), times
/// ([`receive_timestamps`](crate::SocketOptions::receive_timestamps)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Control {
    /// The destination in the datagram's header. It may be a multicast group or a broadcast
    /// address, which no reply may leave from.
    pub destination: Option<IpAddr>,
    /// The address of this host that a reply leaves from (RFC 1122 section 4.1.3.5).
    ///
    /// On IPv4 the kernel computes it (`ipi_spec_dst`). On IPv6 it is the destination, or
    /// `None` where that is a multicast group: then routing chooses.
    pub local: Option<IpAddr>,
    /// Index of the interface the datagram arrived on, 0 if unknown.
    pub interface: u32,
    /// Set on a train: bytes of each datagram in it, the last may be shorter (`UDP_GRO`).
    pub segment_size: Option<u16>,
    /// The two congestion bits of the header (RFC 3168): 0 none, 1 ECT(1), 2 ECT(0), 3 CE.
    pub ecn: Option<u8>,
    /// When the kernel received it, since the Unix epoch by the real-time clock.
    pub time: Option<Duration>,
}

impl Control {
    /// Reads the control bytes of one `recvmsg`.
    ///
    /// `bytes` may have any alignment and any content. Reading ends at the first message whose
    /// length does not fit; messages of other kinds, and known ones with too little data, are
    /// skipped.
    #[inline]
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Self {
        let mut control = Self::default();
        let mut rest = bytes;
        while let Some((level, kind, data, next)) = split_first(rest) {
            control.apply(level, kind, data);
            rest = next;
        }
        control
    }

    /// Of a receive whose control data was cut (`MSG_CTRUNC`, recvmsg(2)): whether what is missing may be the segment size
    /// of a train, or packet info where that is needed. Then nobody can say what was received, or where it was sent to.
    ///
    /// The kernel writes packet info after the segment size, and nothing after a message that did not fit. So with packet
    /// info nothing is missing that matters.
    ///
    /// ```
    /// use shardgram_sys::Control;
    /// let nothing = Control::default();
    /// assert!(nothing.may_lack(false)); // it may have been a train
    /// let train = Control { segment_size: Some(100), ..nothing };
    /// assert!(!train.may_lack(false) && train.may_lack(true));
    /// let told = Control { destination: Some([127, 0, 0, 1].into()), ..nothing };
    /// assert!(!told.may_lack(true)); // it was no train
    /// ```
    #[cold]
    #[must_use]
    pub fn may_lack(&self, needs_packet_info: bool) -> bool {
        self.destination.is_none() && (needs_packet_info || self.segment_size.is_none())
    }

    #[inline]
    fn apply(&mut self, level: libc::c_int, kind: libc::c_int, data: &[u8]) {
        match (level, kind) {
            (libc::SOL_IP, libc::IP_PKTINFO) => self.apply_packet_info_v4(data),
            (libc::SOL_IPV6, libc::IPV6_PKTINFO) => self.apply_packet_info_v6(data),
            // udp(7), UDP_GRO, Linux 5.0: an int.
            (libc::SOL_UDP, libc::UDP_GRO) => {
                let size = field(data, 0).map(libc::c_int::from_ne_bytes);
                self.segment_size = size.and_then(|size| u16::try_from(size).ok()).filter(|size| *size != 0);
            }
            // ip(7) has IP_TOS as one byte, ipv6(7) IPV6_TCLASS as an int.
            (libc::SOL_IP, libc::IP_TOS) => self.ecn = data.first().map(|tos| tos & 3),
            (libc::SOL_IPV6, libc::IPV6_TCLASS) => {
                self.ecn = field(data, 0).map(|class| (libc::c_int::from_ne_bytes(class) & 3) as u8);
            }
            (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) => self.time = timestamp(data),
            _ => {}
        }
    }

    fn apply_packet_info_v4(&mut self, data: &[u8]) {
        let interface = field(data, offset_of!(libc::in_pktinfo, ipi_ifindex));
        let local = field::<4>(data, offset_of!(libc::in_pktinfo, ipi_spec_dst));
        let destination = field::<4>(data, offset_of!(libc::in_pktinfo, ipi_addr));
        let (Some(interface), Some(local), Some(destination)) = (interface, local, destination) else {
            return;
        };
        let (local, destination) = (Ipv4Addr::from(local), Ipv4Addr::from(destination));
        self.interface = u32::from_ne_bytes(interface);
        self.local = (!local.is_unspecified()).then_some(IpAddr::V4(local));
        self.destination = Some(IpAddr::V4(destination));
    }

    fn apply_packet_info_v6(&mut self, data: &[u8]) {
        let destination = field::<16>(data, offset_of!(libc::in6_pktinfo, ipi6_addr));
        let interface = field(data, offset_of!(libc::in6_pktinfo, ipi6_ifindex));
        let (Some(destination), Some(interface)) = (destination, interface) else { return };
        let destination = Ipv6Addr::from(destination);
        self.interface = u32::from_ne_bytes(interface);
        self.local =
            (!destination.is_multicast() && !destination.is_unspecified()).then_some(IpAddr::V6(destination));
        self.destination = Some(IpAddr::V6(destination));
    }
}

/// Where an error of the network comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorOrigin {
    /// This host: a send of its own.
    Local,
    /// An ICMP message (RFC 792).
    Icmp,
    /// An ICMPv6 message (RFC 4443).
    Icmpv6,
}

/// One entry of a socket's error queue (`IP_RECVERR` in `ip(7)`, `struct sock_extended_err`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NetworkError {
    /// Who says so.
    pub origin: ErrorOrigin,
    /// The error number the kernel made of it.
    pub errno: i32,
    /// Type of the ICMP message.
    pub kind: u8,
    /// Code of the ICMP message.
    pub code: u8,
    /// The MTU in bytes, where it says that a datagram was too long. It is the sender's word, and may be
    /// anything.
    pub info: u32,
}

impl NetworkError {
    /// Reads the control bytes of one entry of an error queue. `None` if it is no error of the network: the queue
    /// brings other things as well (time stamps of sent datagrams), if a socket is asked for them.
    ///
    /// `bytes` may have any alignment and any content.
    #[must_use]
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let mut rest = bytes;
        while let Some((level, kind, data, next)) = split_first(rest) {
            if matches!(
                (level, kind),
                (libc::SOL_IP, libc::IP_RECVERR) | (libc::SOL_IPV6, libc::IPV6_RECVERR)
            ) {
                return Self::read(data);
            }
            rest = next;
        }
        None
    }

    fn read(data: &[u8]) -> Option<Self> {
        use libc::sock_extended_err as Layout;
        let byte = |at: usize| data.get(at).copied();
        let origin = match byte(offset_of!(Layout, ee_origin))? {
            libc::SO_EE_ORIGIN_LOCAL => ErrorOrigin::Local,
            libc::SO_EE_ORIGIN_ICMP => ErrorOrigin::Icmp,
            libc::SO_EE_ORIGIN_ICMP6 => ErrorOrigin::Icmpv6,
            _ => return None,
        };
        let errno = u32::from_ne_bytes(field(data, offset_of!(Layout, ee_errno))?);
        Some(Self {
            origin,
            errno: i32::try_from(errno).ok()?,
            kind: byte(offset_of!(Layout, ee_type))?,
            code: byte(offset_of!(Layout, ee_code))?,
            info: u32::from_ne_bytes(field(data, offset_of!(Layout, ee_info))?),
        })
    }
}

/// Level, type, data of the first message, and the bytes after it.
#[inline]
fn split_first(bytes: &[u8]) -> Option<(libc::c_int, libc::c_int, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(field(bytes, 0)?);
    let level = libc::c_int::from_ne_bytes(field(bytes, size_of::<usize>())?);
    let kind = libc::c_int::from_ne_bytes(field(bytes, size_of::<usize>() + INT)?);
    // A length below the header fails here too, so each message takes at least HEADER bytes and
    // the caller's loop ends.
    let data = bytes.get(HEADER..len)?;
    // The last message may come without its padding.
    let next = len.checked_next_multiple_of(ALIGN).and_then(|next| bytes.get(next..)).unwrap_or_default();
    Some((level, kind, data, next))
}

/// A `struct timespec` in the width of this platform's `time_t`.
fn timestamp(data: &[u8]) -> Option<Duration> {
    let seconds = libc::time_t::from_ne_bytes(field(data, 0)?);
    let nanos = libc::c_long::from_ne_bytes(field(data, size_of::<libc::time_t>())?);
    let nanos = u32::try_from(nanos).ok().filter(|nanos| *nanos < 1_000_000_000)?;
    Some(Duration::new(u64::try_from(seconds).ok()?, nanos))
}

/// The `N` bytes at `offset`, or `None` where `bytes` ends before them.
#[inline]
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// Aligned memory for the control messages of one send, 88 bytes.
///
/// It must stay where it is until the kernel has read it, which for a ring is when the
/// submission was consumed.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(8))]
pub struct ControlSpace([u8; SEND_CONTROL_SPACE]);

impl ControlSpace {
    /// An empty space.
    #[inline]
    #[must_use]
    pub const fn new() -> Self {
        Self([0; SEND_CONTROL_SPACE])
    }

    /// Where `msg_control` points.
    #[inline]
    pub fn as_mut_ptr(&mut self) -> *mut libc::c_void {
        self.0.as_mut_ptr().cast()
    }

    /// The bytes, of which [`ControlBuilder::finish`] said how many count.
    #[inline]
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Default for ControlSpace {
    fn default() -> Self {
        Self::new()
    }
}

/// Writes the control messages of one send.
///
/// Each kind is written at most once, so the messages always fit. On a connected socket send
/// none but [`segment_size`](Self::segment_size): a source address or a traffic class costs it its cached route
/// (`connected = 0` in `udp_sendmsg`, net/ipv4/udp.c, and `udpv6_sendmsg`).
///
/// ```
/// use shardgram_sys::{Control, ControlBuilder, ControlSpace};
///
/// let local = "127.0.0.2".parse().unwrap();
/// let mut space = ControlSpace::new();
/// let len = ControlBuilder::new(&mut space).packet_info(local, 0).finish();
/// assert_eq!(Control::parse(&space.bytes()[..len]).local, Some(local));
/// ```
#[derive(Debug)]
#[must_use = "nothing is written before `finish`"]
pub struct ControlBuilder<'a> {
    space: &'a mut ControlSpace,
    packet_info: Option<(IpAddr, u32)>,
    segment_size: Option<u16>,
    class: Option<(u8, bool)>,
}

impl<'a> ControlBuilder<'a> {
    /// Starts with no message; what `space` held is overwritten by `finish`.
    #[inline]
    pub fn new(space: &'a mut ControlSpace) -> Self {
        Self { space, packet_info: None, segment_size: None, class: None }
    }

    /// The datagram leaves from `local` (`IP_PKTINFO` in `ip(7)`, `IPV6_PKTINFO` in `ipv6(7)`
    /// and RFC 3542 section 6.2).
    ///
    /// `interface` is used only where `local` is an IPv6 link-local address, which means nothing
    /// without one. For all others the interface is left to routing: naming it would force the
    /// datagram out there, which is wrong on a host whose replies take another way.
    #[inline]
    pub fn packet_info(mut self, local: IpAddr, interface: u32) -> Self {
        self.packet_info = Some((local, interface));
        self
    }

    /// The payload is a train of datagrams of `bytes` bytes each (`UDP_SEGMENT` in `udp(7)`,
    /// Linux 4.18). With 0 it is one datagram; more than 64 segments (128 on newer
    /// kernels) are refused with `EINVAL`.
    #[inline]
    pub fn segment_size(mut self, bytes: u16) -> Self {
        self.segment_size = Some(bytes);
        self
    }

    /// Sets the byte of DSCP and congestion bits (RFC 2474, RFC 3168), in place of the one that the socket has. The
    /// socket's family decides the message: `IP_TOS` (as a message Linux 3.13, `ip(7)`), or `IPV6_TCLASS`
    /// (`ipv6(7)`) if `ipv6`.
    #[inline]
    pub fn traffic_class(mut self, class: u8, ipv6: bool) -> Self {
        self.class = Some((class, ipv6));
        self
    }

    /// Writes the messages and returns the control length in bytes; 0 means there is none, and
    /// `msg_control` may be null.
    #[inline]
    #[must_use = "this is the control length"]
    pub fn finish(self) -> usize {
        let Self { space, packet_info, segment_size, class } = self;
        let bytes = &mut space.0;
        let mut at = 0;
        match packet_info {
            Some((IpAddr::V4(local), _)) => {
                let mut data = [0; PKTINFO_V4];
                put(&mut data, offset_of!(libc::in_pktinfo, ipi_spec_dst), &local.octets());
                at = put_message(bytes, at, libc::SOL_IP, libc::IP_PKTINFO, &data);
            }
            Some((IpAddr::V6(local), interface)) => {
                let interface = if local.is_unicast_link_local() { interface } else { 0 };
                let mut data = [0; PKTINFO_V6];
                put(&mut data, offset_of!(libc::in6_pktinfo, ipi6_addr), &local.octets());
                put(&mut data, offset_of!(libc::in6_pktinfo, ipi6_ifindex), &interface.to_ne_bytes());
                at = put_message(bytes, at, libc::SOL_IPV6, libc::IPV6_PKTINFO, &data);
            }
            None => {}
        }
        if let Some(size) = segment_size {
            at = put_message(bytes, at, libc::SOL_UDP, libc::UDP_SEGMENT, &size.to_ne_bytes());
        }
        if let Some((class, ipv6)) = class {
            let (level, kind) =
                if ipv6 { (libc::SOL_IPV6, libc::IPV6_TCLASS) } else { (libc::SOL_IP, libc::IP_TOS) };
            at = put_message(bytes, at, level, kind, &libc::c_int::from(class).to_ne_bytes());
        }
        at
    }
}

/// Writes one message at `at` and returns where the next one starts.
#[inline]
fn put_message(
    bytes: &mut [u8; SEND_CONTROL_SPACE],
    at: usize,
    level: libc::c_int,
    kind: libc::c_int,
    data: &[u8],
) -> usize {
    put(bytes, at, &(HEADER + data.len()).to_ne_bytes());
    put(bytes, at + size_of::<usize>(), &level.to_ne_bytes());
    put(bytes, at + size_of::<usize>() + INT, &kind.to_ne_bytes());
    put(bytes, at + HEADER, data);
    at + space(data.len())
}

/// Copies `value` to `offset`. The capacity assertions above are what makes the slice exist.
#[inline]
fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}
