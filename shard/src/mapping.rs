//! Zeroed, page-aligned memory of one's own: what is shared with the kernel lives in it.

use std::io;
use std::ptr::NonNull;

const PRIVATE: libc::c_int = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
/// Miri knows no reservation of swap space, and has none.
const FLAGS: libc::c_int = if cfg!(miri) { PRIVATE } else { PRIVATE | libc::MAP_NORESERVE };

/// An anonymous private mapping. Pages cost memory once they are touched (mmap(2)).
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

impl Mapping {
    pub(crate) fn new(len: usize) -> io::Result<Self> {
        let len = len.max(1);
        // SAFETY: an anonymous mapping at an address of the kernel's choice touches no existing memory.
        let base = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, FLAGS, -1, 0)
        };
        if base == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(base.cast()).ok_or_else(|| io::Error::from_raw_os_error(libc::ENOMEM))?;
        Ok(Self { base, len })
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: base and len are those of the mapping made in `new`, unmapped only here; whoever shares
        // it with the kernel drops the ring first.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
