//! Waiting for a change of this host's addresses.
//!
//! The kernel announces changes on a netlink socket (`rtnetlink(7)`). Its messages are not read here:
//! they may be lost in an overrun anyway, so each one only says that something has changed, and what
//! changed is found by comparing lists of addresses.

use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, Socket, Type};

use crate::sockopt;

/// Announcements thrown away in one go; what is left ends the next wait.
const DRAIN_BUDGET: usize = 4096;

/// Where addresses of both families are announced, and where interfaces are.
const ADDRESSES: u32 = (libc::RTMGRP_IPV4_IFADDR | libc::RTMGRP_IPV6_IFADDR).cast_unsigned();
const INTERFACES: u32 = libc::RTMGRP_LINK.cast_unsigned();

/// Sees addresses of this network namespace come and go. Linux only.
///
/// ```
/// use shardgram_sys::interfaces::{AddressWatch, local_addresses};
/// use std::time::Duration;
///
/// let mut watch = AddressWatch::new()?;
/// let mut known = local_addresses()?; // listed after the watch began, so nothing is missed
/// if watch.wait(Some(Duration::from_millis(1)))? {
///     let now = local_addresses()?;
///     println!("{} addresses became {}", known.len(), now.len());
///     known = now;
/// }
/// # drop(known);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct AddressWatch {
    announcements: Socket,
    woken: UnixStream,
    wake: UnixStream,
}

impl AddressWatch {
    /// Begins to watch the network namespace of the calling thread. Needs no privilege; takes three
    /// descriptors.
    ///
    /// # Errors
    ///
    /// Those of `socket(2)` and `socketpair(2)`, such as `EMFILE`, and `EAFNOSUPPORT` or `EPERM` in
    /// sandboxes without netlink.
    pub fn new() -> io::Result<Self> {
        Self::of(ADDRESSES)
    }

    /// As [`new`](Self::new), of interfaces: they come, go and change.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn of_interfaces() -> io::Result<Self> {
        Self::of(INTERFACES)
    }

    /// As [`new`](Self::new), of both.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn of_both() -> io::Result<Self> {
        Self::of(ADDRESSES | INTERFACES)
    }

    fn of(groups: u32) -> io::Result<Self> {
        let family = Domain::from(libc::AF_NETLINK);
        let announcements = Socket::new(family, Type::RAW, Some(Protocol::from(libc::NETLINK_ROUTE)))?;
        sockopt::bind_netlink(announcements.as_fd(), groups)?;
        announcements.set_nonblocking(true)?;
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        Ok(Self { announcements, woken, wake })
    }

    /// Waits until an address has come, gone or changed, a [`Waker`] wakes, or `timeout` is over
    /// (`None`: for ever). Says whether something changed.
    ///
    /// Changes since the last wait count, so none is missed between two waits. One that comes while
    /// announcements are thrown away may be told by the next wait as well. A wake-up before the wait
    /// ends it too; several count as one.
    ///
    /// # Errors
    ///
    /// `ENOMEM`, of `poll(2)`.
    pub fn wait(&mut self, timeout: Option<Duration>) -> io::Result<bool> {
        let end = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let left = end.map(|end| end.saturating_duration_since(Instant::now()));
            let both = [self.announcements.as_fd(), self.woken.as_fd()];
            let [changed, woken] = match sockopt::wait_readable(both, left) {
                Ok(events) => events.map(|events| events != 0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            if woken {
                // No wake-up is lost: whoever wakes has done before that what is to be seen after this.
                while self.woken.read(&mut [0; 64]).is_ok_and(|bytes| bytes > 0) {}
            }
            if changed {
                self.throw_away();
            }
            if changed || woken || left == Some(Duration::ZERO) {
                return Ok(changed);
            }
        }
    }

    fn throw_away(&self) {
        // An announcement that does not fit is cut, which is all right.
        let mut cut = [MaybeUninit::uninit(); 16];
        for _ in 0..DRAIN_BUDGET {
            match self.announcements.recv(&mut cut) {
                Ok(_) => {}
                // ENOBUFS: announcements were lost, and more may be waiting.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                // EAGAIN: no more. Anything else would come again.
                Err(_) => return,
            }
        }
    }

    /// What ends a wait from another thread.
    ///
    /// # Errors
    ///
    /// `EMFILE`, since it takes a descriptor.
    pub fn waker(&self) -> io::Result<Waker> {
        Ok(Waker { wake: self.wake.try_clone()? })
    }
}

/// Ends a wait of its [`AddressWatch`].
#[derive(Debug)]
pub struct Waker {
    wake: UnixStream,
}

impl Waker {
    /// Ends the wait that is under way, or the next one. Does not block, and does no harm when the
    /// watch has gone.
    pub fn wake(&self) {
        // EAGAIN: so many wake-ups wait that one more makes no difference. EPIPE: nobody waits.
        let _ = (&self.wake).write(&[1]);
    }
}
