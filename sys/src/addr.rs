//! Socket addresses as the kernel lays them out.
//!
//! [`RawAddr`] and [`write_to`] turn a [`SocketAddr`] into a `sockaddr_in` or `sockaddr_in6`
//! (`ip(7)`, `ipv6(7)`), [`decode`] goes the other way over plain bytes. They sit on the data
//! path, one call per datagram that a listener sends or receives, so nothing here allocates.

use std::mem::{offset_of, size_of, zeroed};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::ptr;

/// The most bytes an address takes in a receive buffer: a `sockaddr_in6`, 28 bytes.
///
/// Ask for this name length in `recvmsg`; an IPv4 address uses 16 bytes of it.
pub const RECV_NAME_SPACE: usize = size_of::<libc::sockaddr_in6>();

const _: () = assert!(size_of::<libc::sockaddr_in>() <= RECV_NAME_SPACE);
const _: () = assert!(RECV_NAME_SPACE <= size_of::<libc::sockaddr_storage>());

/// A socket address in the kernel's layout, owned, ready for `msg_name`.
///
/// ```
/// use shardgram_sys::RawAddr;
///
/// let raw = RawAddr::new("192.0.2.7:53".parse().unwrap());
/// assert_eq!(raw.len(), 16);
/// assert!(!raw.as_ptr().is_null());
/// ```
#[derive(Clone, Copy)]
pub struct RawAddr {
    storage: libc::sockaddr_storage,
    len: libc::socklen_t,
}

impl RawAddr {
    /// Encodes `address`.
    #[inline]
    #[must_use]
    pub fn new(address: SocketAddr) -> Self {
        // SAFETY: sockaddr_storage is a C struct of integers and padding; all zeroes is a value of it.
        let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
        let len = write_to(&address, &mut storage);
        Self { storage, len }
    }

    /// Where the encoded address starts. It is valid for [`len`](Self::len) bytes and for as
    /// long as this value is neither moved nor dropped.
    #[inline]
    #[must_use]
    pub fn as_ptr(&self) -> *const libc::sockaddr {
        ptr::from_ref(&self.storage).cast()
    }

    /// Length in bytes: 16 for IPv4, 28 for IPv6.
    #[inline]
    #[must_use]
    #[allow(clippy::len_without_is_empty, reason = "an encoded address is never empty")]
    pub fn len(&self) -> libc::socklen_t {
        self.len
    }
}

impl std::fmt::Debug for RawAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RawAddr")
            .field("family", &self.storage.ss_family)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Encodes `address` into `storage` and returns the length in bytes, 16 or 28.
///
/// Bytes past that length are left as they were, so a storage that is reused per send is not
/// cleared each time.
#[inline]
pub fn write_to(address: &SocketAddr, storage: &mut libc::sockaddr_storage) -> libc::socklen_t {
    let start = ptr::from_mut(storage);
    match address {
        SocketAddr::V4(v4) => {
            let name = libc::sockaddr_in {
                sin_family: libc::AF_INET as libc::sa_family_t,
                sin_port: v4.port().to_be(),
                sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                sin_zero: [0; 8],
            };
            // SAFETY: sockaddr_storage is at least as large and as aligned as every sockaddr of
            // the system (RFC 3493 section 3.10), and the pointer comes from a unique reference.
            unsafe { start.cast::<libc::sockaddr_in>().write(name) };
            size_of::<libc::sockaddr_in>() as libc::socklen_t
        }
        SocketAddr::V6(v6) => {
            let name = libc::sockaddr_in6 {
                sin6_family: libc::AF_INET6 as libc::sa_family_t,
                sin6_port: v6.port().to_be(),
                sin6_flowinfo: v6.flowinfo(),
                sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                sin6_scope_id: v6.scope_id(),
            };
            // SAFETY: as above, for the larger sockaddr_in6.
            unsafe { start.cast::<libc::sockaddr_in6>().write(name) };
            size_of::<libc::sockaddr_in6>() as libc::socklen_t
        }
    }
}

/// Reads the address that `recvmsg` wrote into `bytes`.
///
/// Any bytes are accepted, aligned or not: what is too short or of another family is `None`.
/// The flow label comes out as 0, since it may change within one peer's flow and two
/// [`SocketAddr`] that differ only there would count as two peers. The scope of an IPv6
/// address is kept: it tells two link-local peers with the same address apart.
///
/// ```
/// let mut bytes = [0u8; 16];
/// bytes[..2].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
/// bytes[2..4].copy_from_slice(&53u16.to_be_bytes());
/// bytes[4..8].copy_from_slice(&[192, 0, 2, 7]);
/// assert_eq!(shardgram_sys::addr::decode(&bytes), Some("192.0.2.7:53".parse().unwrap()));
/// assert_eq!(shardgram_sys::addr::decode(&bytes[..7]), None);
/// ```
#[inline]
#[must_use]
pub fn decode(bytes: &[u8]) -> Option<SocketAddr> {
    let family = u16::from_ne_bytes(field(bytes, 0)?);
    match i32::from(family) {
        libc::AF_INET => {
            let port = u16::from_be_bytes(field(bytes, offset_of!(libc::sockaddr_in, sin_port))?);
            let ip: [u8; 4] = field(bytes, offset_of!(libc::sockaddr_in, sin_addr))?;
            Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::from(ip)), port))
        }
        libc::AF_INET6 => {
            let port = u16::from_be_bytes(field(bytes, offset_of!(libc::sockaddr_in6, sin6_port))?);
            let ip: [u8; 16] = field(bytes, offset_of!(libc::sockaddr_in6, sin6_addr))?;
            let scope = u32::from_ne_bytes(field(bytes, offset_of!(libc::sockaddr_in6, sin6_scope_id))?);
            Some(SocketAddr::V6(SocketAddrV6::new(Ipv6Addr::from(ip), port, 0, scope)))
        }
        _ => None,
    }
}

/// The `N` bytes at `offset`, or `None` where `bytes` ends before them.
#[inline]
fn field<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}
