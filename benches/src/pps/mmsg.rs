//! Many datagrams in one system call: recvmmsg(2) (Linux 2.6.33), sendmmsg(2) (3.0), and trains, UDP_SEGMENT (4.18)
//! and UDP_GRO (5.0) of udp(7).
//!
//! Headers, iovecs, names and payloads are vectors that are never resized, so that the pointers between them, made
//! once, stay good as long as the whole.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

/// Most datagrams of a train, which every kernel since 4.18 takes.
pub const TRAIN_DATAGRAMS: usize = 64;
/// Most bytes of a train. One of 65,494 and more is split in software, which costs nine times as much.
pub const TRAIN_BYTES: usize = 65_000;
/// Room for a received train, and no multiple of the page size, so that the starts of many share no cache set.
pub const TRAIN_STRIDE: usize = 65_536 + 192;
/// Room for one control message of an integer.
const CONTROL: usize = 32;

/// How many datagrams of this size leave as one train.
#[must_use]
pub fn train_of(size: usize) -> usize {
    (TRAIN_BYTES / size.max(1)).clamp(1, TRAIN_DATAGRAMS)
}

#[derive(Clone, Copy)]
#[repr(align(8))]
struct Control([u8; CONTROL]);

#[derive(Debug)]
struct Headers(Vec<libc::mmsghdr>);

impl Headers {
    fn zeroed(count: usize) -> Self {
        // SAFETY: integers and pointers, for which all-zero bytes are valid.
        Self((0..count).map(|_| unsafe { std::mem::zeroed() }).collect())
    }
}

fn result_of(count: libc::c_int) -> io::Result<usize> {
    usize::try_from(count).map_err(|_| io::Error::last_os_error())
}

/// Calls sendmmsg(2) until all are on their way, or one is refused; says how many are.
fn send_all(socket: BorrowedFd<'_>, headers: &mut [libc::mmsghdr]) -> io::Result<usize> {
    let mut sent = 0;
    while sent < headers.len() {
        let rest = &mut headers[sent..];
        // SAFETY: whoever calls has made each header point to live memory of the lengths that stand there.
        let result = unsafe { libc::sendmmsg(socket.as_raw_fd(), rest.as_mut_ptr(), rest.len() as u32, 0) };
        match result_of(result) {
            Ok(count) => sent += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            // What an earlier datagram met on its way; this one was not sent, so it is sent again.
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
            Err(_) if sent > 0 => break,
            Err(error) => return Err(error),
        }
    }
    Ok(sent)
}

/// Room for many datagrams, and who sent them.
pub struct Incoming {
    headers: Headers,
    iovecs: Vec<libc::iovec>,
    names: Vec<libc::sockaddr_in>,
    controls: Vec<Control>,
    memory: Vec<u8>,
    stride: usize,
}

impl std::fmt::Debug for Incoming {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Incoming").field("messages", &self.names.len()).finish_non_exhaustive()
    }
}

impl Incoming {
    /// Room for so many messages of so many bytes each. With `names`, who sent them is kept; with `trains`, the
    /// size of their segments.
    #[must_use]
    pub fn new(messages: usize, stride: usize, names: bool, trains: bool) -> Self {
        // SAFETY: integers, for which all-zero bytes are valid.
        let name: libc::sockaddr_in = unsafe { std::mem::zeroed() };
        let mut this = Self {
            headers: Headers::zeroed(messages),
            iovecs: Vec::with_capacity(messages),
            names: vec![name; messages],
            controls: vec![Control([0; CONTROL]); messages],
            memory: vec![0; messages * stride],
            stride,
        };
        let memory = this.memory.as_mut_ptr();
        this.iovecs.extend((0..messages).map(|at| {
            // SAFETY: the memory is as many strides long.
            libc::iovec { iov_base: unsafe { memory.add(at * stride) }.cast(), iov_len: stride }
        }));
        let (iovecs, all_names) = (this.iovecs.as_mut_ptr(), this.names.as_mut_ptr());
        let controls = this.controls.as_mut_ptr();
        for (at, header) in this.headers.0.iter_mut().enumerate() {
            let header = &mut header.msg_hdr;
            // SAFETY: each vector has as many elements as there are headers.
            unsafe {
                header.msg_iov = iovecs.add(at);
                header.msg_name = if names { all_names.add(at).cast() } else { std::ptr::null_mut() };
                header.msg_control = if trains { controls.add(at).cast() } else { std::ptr::null_mut() };
            }
            header.msg_iovlen = 1;
        }
        this
    }

    /// Receives up to `most` messages; says how many came.
    ///
    /// # Errors
    /// What recvmmsg(2) says: `WouldBlock` if there is nothing and `flags` say not to wait.
    pub fn receive(&mut self, socket: impl AsFd, most: usize, flags: libc::c_int) -> io::Result<usize> {
        let most = most.min(self.headers.0.len());
        for (header, iovec) in self.headers.0[..most].iter_mut().zip(&mut self.iovecs) {
            iovec.iov_len = self.stride;
            let header = &mut header.msg_hdr;
            header.msg_namelen =
                if header.msg_name.is_null() { 0 } else { size_of::<libc::sockaddr_in>() as u32 };
            header.msg_controllen = if header.msg_control.is_null() { 0 } else { CONTROL as _ };
        }
        let headers = self.headers.0.as_mut_ptr();
        // SAFETY: the headers point to memory of this object, of the lengths that stand in them.
        result_of(unsafe {
            let fd = socket.as_fd().as_raw_fd();
            libc::recvmmsg(fd, headers, most as u32, flags as _, std::ptr::null_mut())
        })
    }

    /// The bytes of a message that came.
    #[must_use]
    pub fn bytes(&self, at: usize) -> &[u8] {
        &self.memory[at * self.stride..][..self.headers.0[at].msg_len as usize]
    }

    /// The size of its datagrams, the last of which may be smaller.
    #[must_use]
    pub fn segment(&self, at: usize) -> usize {
        let header = &self.headers.0[at];
        let control = &self.controls[at].0;
        let len = header.msg_hdr.msg_controllen;
        // One control message fits, and UDP_GRO is the only one asked for: cmsg(3), a header of 16 bytes.
        let train = !header.msg_hdr.msg_control.is_null() && len >= 20;
        match control[16..].first_chunk::<4>() {
            Some(size) if train => usize::try_from(i32::from_ne_bytes(*size)).unwrap_or(0).max(1),
            _ => header.msg_len as usize,
        }
    }

    /// Who sent it.
    #[must_use]
    pub fn name(&self, at: usize) -> libc::sockaddr_in {
        self.names[at]
    }

    /// Sends the first `count` messages back whence they came, waiting for room.
    ///
    /// # Errors
    /// What sendmmsg(2) says.
    pub fn send_back(&mut self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        for (header, iovec) in self.headers.0[..count].iter_mut().zip(&mut self.iovecs) {
            iovec.iov_len = header.msg_len as usize;
            header.msg_hdr.msg_controllen = 0;
        }
        send_all(socket.as_fd(), &mut self.headers.0[..count])
    }
}

/// Datagrams of one size that lie side by side, to be sent over a connected socket.
pub struct Outgoing {
    headers: Headers,
    iovecs: Vec<libc::iovec>,
    control: Box<Control>,
    memory: Vec<u8>,
    size: usize,
}

impl std::fmt::Debug for Outgoing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outgoing").field("size", &self.size).finish_non_exhaustive()
    }
}

impl Outgoing {
    /// Room for so many datagrams of this size; `fill` is told the place of each byte in its datagram.
    #[must_use]
    pub fn new(datagrams: usize, size: usize, fill: impl Fn(usize) -> u8) -> Self {
        let mut this = Self {
            headers: Headers::zeroed(datagrams),
            iovecs: Vec::with_capacity(datagrams),
            control: Box::new(Control([0; CONTROL])),
            memory: (0..datagrams * size).map(|at| fill(at % size)).collect(),
            size,
        };
        let memory = this.memory.as_mut_ptr();
        this.iovecs.extend((0..datagrams).map(|at| {
            // SAFETY: the memory is as many datagrams long.
            libc::iovec { iov_base: unsafe { memory.add(at * size) }.cast(), iov_len: size }
        }));
        let iovecs = this.iovecs.as_mut_ptr();
        for (at, header) in this.headers.0.iter_mut().enumerate() {
            // SAFETY: there are as many iovecs as headers.
            header.msg_hdr.msg_iov = unsafe { iovecs.add(at) };
            header.msg_hdr.msg_iovlen = 1;
        }
        this
    }

    /// Room for how many.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.iovecs.len()
    }

    /// One of them, to be written.
    pub fn datagram(&mut self, at: usize) -> &mut [u8] {
        &mut self.memory[at * self.size..][..self.size]
    }

    /// Sends the first `count`; says how many left.
    ///
    /// # Errors
    /// What sendmmsg(2) says.
    pub fn send(&mut self, socket: impl AsFd, count: usize) -> io::Result<usize> {
        send_all(socket.as_fd(), &mut self.headers.0[..count])
    }

    /// Sends the first `count` as one train.
    ///
    /// # Errors
    /// What sendmsg(2) says.
    pub fn send_train(&mut self, socket: impl AsFd, count: usize) -> io::Result<()> {
        if count == 1 {
            return self.send(socket, 1).map(drop);
        }
        let mut iovec = self.iovecs[0];
        iovec.iov_len = count * self.size;
        write_segment(&mut self.control, self.size);
        // SAFETY: integers and pointers, for which all-zero bytes are valid.
        let mut header: libc::mmsghdr = unsafe { std::mem::zeroed() };
        header.msg_hdr.msg_iov = &raw mut iovec;
        header.msg_hdr.msg_iovlen = 1;
        header.msg_hdr.msg_control = (&raw mut *self.control).cast();
        header.msg_hdr.msg_controllen = SEGMENT_CONTROL as _;
        send_all(socket.as_fd(), std::slice::from_mut(&mut header)).map(drop)
    }
}

/// Bytes of the control message that says the size of segments, cmsg(3): a header, two bytes, and filling.
pub const SEGMENT_CONTROL: usize = 24;

/// That control message: UDP_SEGMENT of udp(7).
#[must_use]
pub fn segment_control(size: usize) -> [u8; SEGMENT_CONTROL] {
    let mut bytes = [0; SEGMENT_CONTROL];
    bytes[..8].copy_from_slice(&18_usize.to_ne_bytes()); // the header's 16 bytes and the two of the size
    bytes[8..12].copy_from_slice(&libc::SOL_UDP.to_ne_bytes());
    bytes[12..16].copy_from_slice(&libc::UDP_SEGMENT.to_ne_bytes());
    bytes[16..18].copy_from_slice(&(size as u16).to_ne_bytes());
    bytes
}

fn write_segment(control: &mut Control, size: usize) {
    control.0[..SEGMENT_CONTROL].copy_from_slice(&segment_control(size));
}

/// One payload for many.
pub struct Spread {
    headers: Headers,
    names: Vec<libc::sockaddr_in>,
    iovec: Box<libc::iovec>,
}

impl std::fmt::Debug for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Spread").field("peers", &self.names.len()).finish_non_exhaustive()
    }
}

impl Spread {
    /// For nobody yet.
    #[must_use]
    pub fn new() -> Self {
        let iovec = Box::new(libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 });
        Self { headers: Headers(Vec::new()), names: Vec::new(), iovec }
    }

    /// One more, unless it is there already.
    pub fn add(&mut self, name: libc::sockaddr_in) {
        let key = |name: &libc::sockaddr_in| (name.sin_addr.s_addr, name.sin_port);
        if self.names.iter().any(|known| key(known) == key(&name)) {
            return;
        }
        self.names.push(name);
        // The vectors may have moved, so all pointers are made anew.
        self.headers = Headers::zeroed(self.names.len());
        for (header, name) in self.headers.0.iter_mut().zip(&mut self.names) {
            header.msg_hdr.msg_name = (&raw mut *name).cast();
            header.msg_hdr.msg_namelen = size_of::<libc::sockaddr_in>() as u32;
            header.msg_hdr.msg_iov = &raw mut *self.iovec;
            header.msg_hdr.msg_iovlen = 1;
        }
    }

    /// Those it goes to.
    #[must_use]
    pub fn names(&self) -> &[libc::sockaddr_in] {
        &self.names
    }

    /// Sends this to all, waiting for room.
    ///
    /// # Errors
    /// What sendmmsg(2) says.
    pub fn send(&mut self, socket: impl AsFd, bytes: &[u8]) -> io::Result<usize> {
        *self.iovec = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        send_all(socket.as_fd(), &mut self.headers.0)
    }
}

impl Default for Spread {
    fn default() -> Self {
        Self::new()
    }
}
