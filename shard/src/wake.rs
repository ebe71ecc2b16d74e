//! Waking a sleeping shard: from another shard through its ring, from any thread through a descriptor.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use shardgram_sys::grace::GracePeriods;
use shardgram_sys::interfaces::AddressLister;

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

#[derive(Debug)]
struct Member {
    /// A duplicate of its ring's descriptor. Whoever wakes a shard may have read the number before the shard ends and
    /// use it afterwards, so it stays the ring's until all shards are gone: the number of a closed one may be somebody
    /// else's ring by then, of this process, which would get a completion it knows nothing of.
    ring: OnceLock<OwnedFd>,
    runs: AtomicBool,
    event: Arc<Event>,
}

impl Member {
    fn new() -> io::Result<Self> {
        Ok(Self { ring: OnceLock::new(), runs: AtomicBool::new(false), event: Arc::new(Event::new()?) })
    }
}

/// The shards of a server, as far as they wake each other and know each other's markers.
#[derive(Debug)]
pub struct Fleet {
    members: Box<[Member]>,
    markers: Arc<SharedMarkers>,
    /// Where peers may have sockets of their own.
    grace_periods: Option<GracePeriods>,
    lister: AddressLister,
}

impl Fleet {
    /// For so many shards. It has a thread that lists this host's addresses, and where peers may have sockets of their own
    /// one that waits until such a socket that is to be closed is given nothing any more; make it on a thread that is not
    /// pinned to a core.
    ///
    /// # Errors
    /// EMFILE where the limit of descriptors (`ulimit -n`) is reached, EAGAIN where that of threads is.
    pub fn new(shards: u16, connected: bool) -> io::Result<Arc<Self>> {
        let members = (0..shards).map(|_| Member::new()).collect::<io::Result<_>>()?;
        let markers = Arc::new(SharedMarkers::new(shards));
        let grace_periods = connected.then(GracePeriods::start).transpose()?;
        Ok(Arc::new(Self { members, markers, grace_periods, lister: AddressLister::start()? }))
    }

    pub(crate) fn grace_periods(&self) -> Option<&GracePeriods> {
        self.grace_periods.as_ref()
    }

    /// Who lists this host's addresses.
    pub(crate) fn lister(&self) -> &AddressLister {
        &self.lister
    }

    pub(crate) fn markers(&self) -> &Arc<SharedMarkers> {
        &self.markers
    }

    pub(crate) fn event(&self, shard: u16) -> Option<&Arc<Event>> {
        Some(&self.members.get(usize::from(shard))?.event)
    }

    /// The ring of a shard that runs. The number names it as long as this lives, also if the shard ends meanwhile; a
    /// message to it then wakes nobody.
    pub(crate) fn ring(&self, shard: u16) -> Option<RawFd> {
        let member =
            self.members.get(usize::from(shard)).filter(|member| member.runs.load(Ordering::Acquire))?;
        member.ring.get().map(AsRawFd::as_raw_fd)
    }

    /// A shard runs, with this ring. Once for each.
    ///
    /// # Errors
    /// EMFILE where there is no descriptor for the duplicate.
    pub(crate) fn joined(&self, shard: u16, ring: BorrowedFd<'_>) -> io::Result<()> {
        let Some(member) = self.members.get(usize::from(shard)) else { return Ok(()) };
        let _ = member.ring.set(ring.try_clone_to_owned()?);
        member.runs.store(true, Ordering::Release);
        Ok(())
    }

    pub(crate) fn left(&self, shard: u16) {
        if let Some(member) = self.members.get(usize::from(shard)) {
            member.runs.store(false, Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use shardgram_core::Config;

    use super::*;

    #[test]
    fn the_number_of_a_ring_names_no_other_file_once_its_shard_has_ended() {
        let Ok((mut rings, _)) = crate::prepare(&Config::new()) else { return };
        let engine = rings.remove(0).enable().expect("enabled");
        let fleet = Fleet::new(1, false).expect("events");
        fleet.joined(0, engine.ring.as_fd()).expect("a duplicate");
        // Read by a shard that is about to wake this one.
        let number = fleet.ring(0).expect("it runs");
        fleet.left(0);
        drop(engine);
        let others: Vec<_> = (0..64).map(|_| Event::new().expect("an event")).collect();
        let file = std::fs::read_link(format!("/proc/self/fd/{number}")).expect("it is open");
        assert_eq!(file.to_str(), Some("anon_inode:[io_uring]"));
        assert_eq!(fleet.ring(0), None, "nobody else wakes it");
        drop(others);
    }
}
