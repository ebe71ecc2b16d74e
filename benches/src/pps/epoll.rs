//! epoll(7), level-triggered, with a number for each socket.

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

const EVENTS: usize = 256;

/// A set of sockets, and which of them are readable.
#[derive(Debug)]
pub struct Epoll {
    fd: OwnedFd,
    events: Vec<libc::epoll_event>,
}

impl Epoll {
    /// An empty one.
    ///
    /// # Errors
    /// What epoll_create1(2) says.
    pub fn new() -> io::Result<Self> {
        // SAFETY: integers only.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Self { fd, events: Vec::with_capacity(EVENTS) })
    }

    /// Adds a socket, which has to live as long as this.
    ///
    /// # Errors
    /// What epoll_ctl(2) says.
    pub fn add(&self, socket: impl AsFd, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: number };
        let (set, socket) = (self.fd.as_raw_fd(), socket.as_fd().as_raw_fd());
        // SAFETY: the kernel reads one live event.
        let result = unsafe { libc::epoll_ctl(set, libc::EPOLL_CTL_ADD, socket, &raw mut event) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for at most so long; [`Epoll::ready`] then says who is readable.
    ///
    /// # Errors
    /// What epoll_wait(2) says, except that it was interrupted.
    pub fn wait(&mut self, at_most: Duration) -> io::Result<usize> {
        let milliseconds = libc::c_int::try_from(at_most.as_millis()).unwrap_or(libc::c_int::MAX);
        self.events.clear();
        // SAFETY: the kernel writes at most EVENTS events to memory for as many.
        let found = unsafe {
            let room = self.events.as_mut_ptr();
            libc::epoll_wait(self.fd.as_raw_fd(), room, EVENTS as libc::c_int, milliseconds)
        };
        match usize::try_from(found) {
            Ok(found) => {
                // SAFETY: so many were written.
                unsafe { self.events.set_len(found) };
                Ok(found)
            }
            Err(_) => match io::Error::last_os_error() {
                error if error.kind() == io::ErrorKind::Interrupted => Ok(0),
                error => Err(error),
            },
        }
    }

    /// The number of the socket of the last wait's event of that index.
    #[must_use]
    pub fn ready(&self, index: usize) -> u64 {
        self.events[index].u64
    }
}
