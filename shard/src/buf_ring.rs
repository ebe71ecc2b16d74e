//! The receive buffers and the ring by which the kernel is given them.
//!
//! A buffer is the kernel's, or ours. It becomes ours with a completion that names it and the kernel's
//! again when it is published; only while it is ours are there references to its bytes. The ring is
//! first-in first-out, so all buffers are touched in turn: few of them are kinder to the cache.

use std::io;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use shardgram_core::datagram::RxSlice;

use crate::mapping::Mapping;
use crate::ring::Ring;

/// The one buffer group of a shard.
pub(crate) const GROUP: u16 = 0;
/// Mark of a buffer that is the kernel's.
const KERNELS: u32 = u32::MAX;

#[derive(Debug)]
pub(crate) struct BufRing {
    ring: Mapping,
    buffers: Mapping,
    /// `KERNELS`, or how many queued sends refer to the buffer.
    refs: Box<[u32]>,
    stride: usize,
    size: u32,
    tail: u16,
    published: usize,
}

impl BufRing {
    /// Makes `entries` (a power of two) buffers of at least `size` bytes, all the kernel's.
    ///
    /// The stride is no multiple of the page size, so that the beginnings of buffers, which every datagram
    /// touches, spread over the cache's sets.
    pub(crate) fn register(ring: &Ring, entries: u16, size: usize) -> io::Result<Self> {
        let stride = match size.next_multiple_of(64) {
            page if page.is_multiple_of(4096) => page + 64,
            other => other,
        };
        let memory = Mapping::shared(usize::from(entries) * size_of::<BufRingEntry>())?;
        let buffers = Mapping::private(usize::from(entries) * stride)?;
        // SAFETY: the memory is page-aligned, zeroed, holds `entries` entries, and outlives the ring: the
        // driver declares the ring before this, so it is dropped first.
        unsafe { ring.register_buf_ring(memory.base() as u64, entries, GROUP)? };
        let refs = vec![0; usize::from(entries)].into_boxed_slice();
        let mut made = Self { ring: memory, buffers, refs, stride, size: size as u32, tail: 0, published: 0 };
        for id in 0..entries {
            made.publish(id);
        }
        Ok(made)
    }

    /// How many buffers the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        self.published
    }

    /// Whether the kernel has less than a quarter of the buffers.
    pub(crate) fn is_low(&self) -> bool {
        self.published < self.refs.len() / 4
    }

    /// Takes over a buffer that a completion named. False if it is ours already, or does not exist:
    /// then the completion is not to be believed.
    #[inline]
    pub(crate) fn take(&mut self, id: u16) -> bool {
        match self.refs.get_mut(usize::from(id)) {
            Some(refs) if *refs == KERNELS => {
                *refs = 0;
                self.published -= 1;
                true
            }
            _ => false,
        }
    }

    /// The first `len` bytes of a buffer that is ours; none of one that is not.
    #[inline]
    pub(crate) fn bytes(&mut self, id: u16, len: usize) -> &mut [u8] {
        let ours = self.refs.get(usize::from(id)).is_some_and(|refs| *refs != KERNELS);
        let len = if ours { len.min(self.size as usize) } else { 0 };
        debug_assert!(usize::from(id) * self.stride + len <= self.buffers.len() || len == 0);
        let offset = if ours { usize::from(id) * self.stride } else { 0 };
        // SAFETY: the buffer exists and is ours, so the kernel does not write to it, and `&mut self` keeps
        // any other reference to it from existing; offset and length lie within the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.buffers.base().add(offset), len) }
    }

    /// The bytes of a buffer that a queued send refers to.
    #[inline]
    pub(crate) fn kept(&mut self, slice: RxSlice) -> &[u8] {
        let end = slice.start as usize + slice.len as usize;
        self.bytes(slice.buffer as u16, end).get(slice.start as usize..).unwrap_or_default()
    }

    /// Says how many queued sends refer to a buffer that is ours; with none it goes back at once.
    #[inline]
    pub(crate) fn keep(&mut self, id: u16, sends: u32) {
        if sends == 0 {
            self.give_back(id);
        } else if let Some(refs) = self.refs.get_mut(usize::from(id)) {
            *refs = sends;
        }
    }

    /// One send that referred to a buffer is done.
    #[inline]
    pub(crate) fn release(&mut self, id: u16) {
        let Some(refs) = self.refs.get_mut(usize::from(id)) else { return };
        match *refs {
            KERNELS | 0 => debug_assert!(false, "buffer {id} was released more often than it was kept"),
            1 => self.give_back(id),
            _ => *refs -= 1,
        }
    }

    #[inline]
    fn give_back(&mut self, id: u16) {
        if self.refs.get(usize::from(id)).is_some_and(|refs| *refs != KERNELS) {
            self.publish(id);
        }
    }

    /// Hands a buffer that is ours to the kernel.
    #[inline]
    fn publish(&mut self, id: u16) {
        self.refs[usize::from(id)] = KERNELS;
        self.published += 1;
        let slot = usize::from(self.tail) & (self.refs.len() - 1);
        let address = self.buffers.base() as u64 + (usize::from(id) * self.stride) as u64;
        let base: *mut BufRingEntry = self.ring.base().cast();
        // SAFETY: `slot` is below the number of entries the memory was made for. No more buffers exist
        // than entries, so this entry is not one the kernel may still read. The tail lies in the first
        // entry's reserved field; the kernel only reads it, and the release store makes the entry visible
        // before it.
        unsafe {
            let entry = &mut *base.add(slot);
            entry.set_addr(address);
            entry.set_len(self.size);
            entry.set_bid(id);
            self.tail = self.tail.wrapping_add(1);
            let tail = BufRingEntry::tail(base).cast::<AtomicU16>();
            (*tail).store(self.tail, Ordering::Release);
        }
    }
}
