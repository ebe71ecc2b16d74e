//! Waking a sleeping shard: from another shard through its ring, from any thread through a descriptor.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};

use shardgram_sys::grace::GracePeriods;

use crate::marker::SharedMarkers;

/// An eventfd(2): counts wake-ups until they are read.
#[derive(Debug)]
pub(crate) struct Event(OwnedFd);

impl Event {
    fn new() -> io::Result<Self> {
        // SAFETY: a plain system call; a result that is not negative is a new descriptor owned by nobody.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: as above: new, valid and owned by nobody else.
        Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }))
    }

    /// Wakes whoever reads. A full counter means that a wake-up is outstanding anyway.
    pub(crate) fn ring(&self) {
        let one = 1_u64;
        // SAFETY: writes eight bytes of a local variable to a descriptor that is open as long as `self`.
        unsafe { libc::write(self.0.as_raw_fd(), (&raw const one).cast(), size_of::<u64>()) };
    }

    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

const NO_RING: RawFd = -1;

#[derive(Debug)]
struct Member {
    ring: AtomicI32,
    event: Arc<Event>,
}

/// The shards of a server, as far as they wake each other and know each other's markers.
#[derive(Debug)]
pub struct Fleet {
    members: Box<[Member]>,
    markers: Arc<SharedMarkers>,
    /// Where peers may have sockets of their own.
    grace_periods: Option<GracePeriods>,
}

impl Fleet {
    /// For so many shards. Where peers may have sockets of their own, it has a thread that waits until one that is
    /// to be closed is given nothing any more; make it on a thread that is not pinned to a core.
    ///
    /// # Errors
    /// EMFILE where the limit of descriptors (`ulimit -n`) is reached, EAGAIN where that of threads is.
    pub fn new(shards: u16, connected: bool) -> io::Result<Arc<Self>> {
        let member = |_| Ok::<_, io::Error>(Member { ring: NO_RING.into(), event: Arc::new(Event::new()?) });
        let members = (0..shards).map(member).collect::<io::Result<_>>()?;
        let markers = Arc::new(SharedMarkers::new(shards));
        let grace_periods = connected.then(GracePeriods::start).transpose()?;
        Ok(Arc::new(Self { members, markers, grace_periods }))
    }

    pub(crate) fn grace_periods(&self) -> Option<&GracePeriods> {
        self.grace_periods.as_ref()
    }

    pub(crate) fn markers(&self) -> &Arc<SharedMarkers> {
        &self.markers
    }

    pub(crate) fn event(&self, shard: u16) -> Option<&Arc<Event>> {
        Some(&self.members.get(usize::from(shard))?.event)
    }

    /// The ring of a shard that runs. Between this and its use the shard may end and its descriptor may
    /// come to name another file: the message then fails, or wakes a ring of this process that ignores it.
    pub(crate) fn ring(&self, shard: u16) -> Option<RawFd> {
        let fd = self.members.get(usize::from(shard))?.ring.load(Ordering::Acquire);
        (fd != NO_RING).then_some(fd)
    }

    pub(crate) fn joined(&self, shard: u16, ring: RawFd) {
        if let Some(member) = self.members.get(usize::from(shard)) {
            member.ring.store(ring, Ordering::Release);
        }
    }

    pub(crate) fn left(&self, shard: u16) {
        self.joined(shard, NO_RING);
    }
}
