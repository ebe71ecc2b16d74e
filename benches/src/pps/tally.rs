//! A number that the server counts up and the client reads while it runs.
//!
//! It lies in a file without a name (memfd_create(2)) that both processes map. The server has to write it often
//! enough for the client to see how far it is; a relaxed store is all that costs.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

const LEN: usize = 4096;

/// The shared page.
#[derive(Debug)]
struct Page(*mut libc::c_void);

// SAFETY: the page is only used as atomic integers, by any thread.
unsafe impl Send for Page {}
// SAFETY: as above.
unsafe impl Sync for Page {}

impl Page {
    fn map(file: &File) -> io::Result<Self> {
        // SAFETY: a new mapping of a file of LEN bytes, at an address of the kernel's choice.
        let at = unsafe {
            let access = libc::PROT_READ | libc::PROT_WRITE;
            libc::mmap(std::ptr::null_mut(), LEN, access, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if at == libc::MAP_FAILED { Err(io::Error::last_os_error()) } else { Ok(Self(at)) }
    }

    fn count(&self) -> &AtomicU64 {
        // SAFETY: the page is mapped until this is dropped, is aligned, and nobody uses it but as atomics.
        unsafe { AtomicU64::from_ptr(self.0.cast()) }
    }
}

impl Drop for Page {
    fn drop(&mut self) {
        // SAFETY: mapped by `map` with this length; references to it are bound to `self`.
        unsafe { libc::munmap(self.0, LEN) };
    }
}

/// The client's side.
#[derive(Debug)]
pub struct Counted {
    file: File,
    page: Page,
}

impl Counted {
    /// A new one, at 0.
    ///
    /// # Errors
    /// What memfd_create(2), ftruncate(2) or mmap(2) say.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the name is a string that ends in a zero.
        let fd = unsafe { libc::memfd_create(c"pps-tally".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a new descriptor that nobody else owns.
        let file = unsafe { File::from_raw_fd(fd) };
        file.set_len(LEN as u64)?;
        let page = Page::map(&file)?;
        Ok(Self { file, page })
    }

    /// Where another process finds it, while this one lives.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", std::process::id(), self.file.as_raw_fd()).into()
    }

    /// How many datagrams the server has received.
    #[must_use]
    pub fn get(&self) -> u64 {
        self.page.count().load(Ordering::Relaxed)
    }
}

/// The server's side: what it does with every datagram before it sends it back.
#[derive(Debug)]
pub struct Tally {
    page: Page,
    received: u64,
    sum: u8,
}

impl Tally {
    /// That of the client who made it; without a path one that nobody reads.
    ///
    /// # Errors
    /// If it cannot be opened or mapped.
    pub fn open(path: Option<&Path>) -> io::Result<Self> {
        let page = match path {
            Some(path) => Page::map(&OpenOptions::new().read(true).write(true).open(path)?)?,
            None => Counted::new()?.page,
        };
        Ok(Self { page, received: 0, sum: 0 })
    }

    /// A datagram came. Each of its bytes is looked at once, as a server would that does something with them.
    #[inline]
    pub fn saw(&mut self, datagram: &[u8]) {
        self.sum = datagram.iter().fold(self.sum, |sum, byte| sum.wrapping_add(*byte));
        self.received += 1;
        self.page.count().store(self.received, Ordering::Relaxed);
    }

    /// A train came: datagrams of `segment` bytes each, the last one perhaps of fewer. Says how many.
    #[inline]
    pub fn saw_train(&mut self, bytes: &[u8], segment: usize) -> usize {
        let before = self.received;
        bytes.chunks(segment.max(1)).for_each(|datagram| self.saw(datagram));
        (self.received - before) as usize
    }

    /// How many came, and the sum of their bytes.
    #[must_use]
    pub fn totals(&self) -> (u64, u8) {
        (self.received, self.sum)
    }
}
