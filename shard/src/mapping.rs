//! Zeroed, page-aligned memory of one's own: what is shared with the kernel lives in it.

use std::io;
use std::os::fd::RawFd;
use std::ptr::NonNull;

/// Miri knows no reservation of swap space, and has none.
const NO_RESERVE: libc::c_int = if cfg!(miri) { 0 } else { libc::MAP_NORESERVE };

/// An anonymous mapping, or one of a ring's file. Pages cost memory once they are touched (mmap(2)).
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
    leaked: bool,
}

// SAFETY: memory of one's own belongs to no thread; whoever reads or writes it through the address answers for
// that there.
unsafe impl Send for Mapping {}
// SAFETY: as above; by itself it gives out only its address and length.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Memory of this process: a fork gets a copy.
    pub(crate) fn private(len: usize) -> io::Result<Self> {
        Self::new(len, libc::MAP_PRIVATE)
    }

    /// Memory that a fork shares. The kernel holds on to the pages of a ring of buffers, so a copy would be
    /// one that it does not look at.
    pub(crate) fn shared(len: usize) -> io::Result<Self> {
        // Miri knows nothing of shared mappings, and does not fork.
        Self::new(len, if cfg!(miri) { libc::MAP_PRIVATE } else { libc::MAP_SHARED })
    }

    /// What a ring shares at this offset of its file. It keeps the ring as long as it lives.
    pub(crate) fn of_ring(ring: RawFd, offset: libc::off_t, len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, ring, offset)
    }

    fn new(len: usize, kind: libc::c_int) -> io::Result<Self> {
        Self::map(len.max(1), kind | libc::MAP_ANONYMOUS | NO_RESERVE, -1, 0)
    }

    fn map(len: usize, flags: libc::c_int, fd: RawFd, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { base, len, leaked: false })
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// It is never unmapped: the kernel may write to it as long as the process lives.
    #[cold]
    pub(crate) fn leak(&mut self) {
        self.leaked = true;
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.leaked {
            return;
        }
        // SAFETY: base and len are those of the mapping made in `map`, unmapped only here; whoever shares
        // it with the kernel drops the ring first.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
