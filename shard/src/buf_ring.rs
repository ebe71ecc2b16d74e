//! The receive buffers and the ring by which the kernel is given them: memory, and nothing else.
//!
//! Whose a buffer is, [`Ownership`] knows. A buffer becomes ours with a completion that names it and the
//! kernel's again when it is published; only while it is ours are there references to its bytes. The ring is
//! first-in first-out, so all buffers are touched in turn: few of them are kinder to the cache.

use std::io;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU16, Ordering};

use shardgram_core::datagram::RxSlice;

use crate::mapping::Mapping;
use crate::ownership::{Ownership, Refused, State};
use crate::poison::{POISON, Seen};
use crate::ring::Ring;

/// The one buffer group of a shard. Below 64 Linux 6.1 goes on where the group's last ring ended when it is given another
/// (`BGID_ARRAY` in io_uring/kbuf.c), and would hand out buffers twice.
pub(crate) const GROUP: u16 = 64;

/// `struct io_uring_buf` (5.19). Where the first one has two reserved bytes, the ring has its tail
/// (`struct io_uring_buf_ring`).
#[repr(C)]
struct Entry {
    addr: u64,
    len: u32,
    bid: u16,
    tail: AtomicU16,
}

const _: () = assert!(size_of::<Entry>() == size_of::<io_uring::types::BufRingEntry>());

#[derive(Debug)]
pub(crate) struct BufRing {
    ring: Mapping,
    buffers: Mapping,
    owners: Ownership,
    seen: Seen,
    stride: usize,
    size: u32,
    tail: u16,
    /// How many of the buffers go round through the kernel. Those after them are never given to it: they are for what
    /// is received without the ring.
    entries: u16,
    /// Those that are free, the last one used on top.
    spare: Vec<u16>,
}

impl BufRing {
    /// Makes `entries` (a power of two) buffers of at least `size` bytes, all the kernel's, and `spare` that stay
    /// ours.
    pub(crate) fn register(ring: &Ring, entries: u16, spare: u16, size: usize) -> io::Result<Self> {
        let mut made = Self::new(entries, spare, size)?;
        // SAFETY: the memory is page-aligned, zeroed, holds `entries` entries, and outlives the ring: the
        // driver declares the ring before this, so it is dropped first.
        unsafe { ring.register_buf_ring(made.ring.base() as u64, entries, GROUP)? };
        made.give_back_all();
        Ok(made)
    }

    /// Where the first buffer begins.
    #[cfg(test)]
    pub(crate) fn address(&self) -> usize {
        self.buffers.base() as usize
    }

    /// The memory outlives this.
    #[cold]
    pub(crate) fn leak(&mut self) {
        self.ring.leak();
        self.buffers.leak();
    }

    /// The memory, of which no kernel knows; all buffers are ours.
    ///
    /// The stride is no multiple of the page size, so that the beginnings of buffers, which every datagram
    /// touches, spread over the cache's sets.
    fn new(entries: u16, spare: u16, size: usize) -> io::Result<Self> {
        let stride = match size.next_multiple_of(64) {
            page if page.is_multiple_of(4096) => page + 64,
            other => other,
        };
        Ok(Self {
            ring: Mapping::shared(usize::from(entries) * size_of::<Entry>())?,
            buffers: Mapping::private(usize::from(entries + spare) * stride)?,
            owners: Ownership::new(entries + spare),
            seen: Seen::new(entries + spare),
            stride,
            size: size as u32,
            tail: 0,
            entries,
            spare: (entries..entries + spare).rev().collect(),
        })
    }

    /// Gives the kernel its buffers anew, but those that it has filled already. No receive may be outstanding.
    pub(crate) fn renew(&mut self, ring: &Ring, is_filled: impl Fn(u16) -> bool) -> io::Result<()> {
        match ring.unregister_buf_ring(GROUP) {
            Ok(()) => {}
            // There is no such group: it was taken back before, and could not be given again.
            Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::EINVAL)) => {}
            Err(error) => return Err(error),
        }
        self.tail = 0;
        let first: *mut Entry = self.ring.base().cast();
        // SAFETY: the kernel does not know this memory at the moment; the entry exists, and the tail is an atomic.
        unsafe { (*first).tail.store(0, Ordering::Relaxed) };
        // SAFETY: as in `register`.
        unsafe { ring.register_buf_ring(self.ring.base() as u64, self.entries, GROUP)? };
        for id in 0..self.entries {
            if self.owners.state(id) == Some(State::Kernel) && !is_filled(id) {
                self.publish(id);
            }
        }
        Ok(())
    }

    fn give_back_all(&mut self) {
        for id in 0..self.entries {
            self.give_back(id);
        }
    }

    /// Takes a buffer that is never the kernel's; it comes back as the others do.
    #[inline]
    pub(crate) fn take_spare(&mut self) -> Option<u16> {
        self.spare.pop()
    }

    /// How many of those that go round through the kernel each of so many sockets can have at a time; at least one.
    pub(crate) fn shared_by(&self, sockets: usize) -> usize {
        (usize::from(self.entries) / sockets.max(1)).max(1)
    }

    /// How many buffers the kernel has.
    pub(crate) fn in_kernel(&self) -> usize {
        self.owners.in_kernel()
    }

    /// Whether the kernel has less than a quarter of the buffers.
    pub(crate) fn is_low(&self) -> bool {
        self.owners.in_kernel() < usize::from(self.entries) / 4
    }

    /// Whether the kernel has less than half of the buffers, beside those in so many completions that are ours already.
    pub(crate) fn are_scarce_beside(&self, completions: usize) -> bool {
        self.owners.in_kernel() < usize::from(self.entries) / 2 + completions
    }

    /// Takes over a buffer that a completion named. False if it is ours already, or does not exist:
    /// then the completion is not to be believed.
    #[inline]
    pub(crate) fn take(&mut self, id: u16) -> bool {
        match self.owners.take(id) {
            Ok(()) => true,
            Err(refused) => {
                tracing::error!(%refused, "a completion is not to be believed");
                false
            }
        }
    }

    /// The first `len` bytes of a buffer that is ours alone; none of one that is the kernel's or that queued
    /// sends refer to.
    #[inline]
    pub(crate) fn bytes(&mut self, id: u16, len: usize) -> &mut [u8] {
        let bytes = self.room(id, len);
        let len = bytes.len();
        self.seen.note(id, len);
        self.room(id, len)
    }

    /// The same to be written to, of which it does not matter what is in it.
    #[inline]
    pub(crate) fn room(&mut self, id: u16, len: usize) -> &mut [u8] {
        let ours = self.owners.state(id) == Some(State::Ours);
        let len = if ours { len.min(self.size as usize) } else { 0 };
        let offset = if ours { self.offset(id) } else { 0 };
        // SAFETY: the buffer exists and is ours, so the kernel does not write to it, and no queued send
        // refers to it; `&mut self` keeps any other reference to it from existing; offset and length lie
        // within the mapping.
        unsafe { std::slice::from_raw_parts_mut(self.buffers.base().add(offset), len) }
    }

    /// The bytes of a buffer that a queued send refers to. Slices of one buffer may overlap.
    #[inline]
    pub(crate) fn kept(&self, slice: RxSlice) -> &[u8] {
        let (start, len) = (slice.start as usize, slice.len as usize);
        let Ok(id) = u16::try_from(slice.buffer) else { return &[] };
        if !self.owners.is_ours(id) || start.saturating_add(len) > self.size as usize {
            return &[];
        }
        // SAFETY: the buffer exists and is ours, so the kernel does not write to it, and `&self` keeps an
        // exclusive reference to it from existing; start and length lie within the buffer.
        unsafe { std::slice::from_raw_parts(self.buffers.base().add(self.offset(id) + start), len) }
    }

    /// Where in the memory a buffer begins that exists.
    #[inline]
    fn offset(&self, id: u16) -> usize {
        let offset = usize::from(id) * self.stride;
        debug_assert!(
            offset + self.size as usize <= self.buffers.len(),
            "buffer {id} ends behind the memory"
        );
        offset
    }

    /// Says how many queued sends refer to a buffer that is ours; with none it goes back at once.
    #[inline]
    pub(crate) fn keep(&mut self, id: u16, sends: u32) {
        match NonZeroU32::new(sends) {
            None => self.give_back(id),
            Some(sends) => {
                if let Err(refused) = self.owners.keep(id, sends) {
                    mistake(refused);
                }
            }
        }
    }

    /// One send that referred to a buffer is done.
    #[inline]
    pub(crate) fn release(&mut self, id: u16) {
        match self.owners.release(id) {
            Ok(0) => self.give_back(id),
            Ok(_) => {}
            Err(refused) => mistake(refused),
        }
    }

    #[inline]
    fn give_back(&mut self, id: u16) {
        if cfg!(debug_assertions) {
            let seen = self.seen.take(id);
            self.bytes(id, seen).fill(POISON);
            self.seen.take(id);
        }
        if id >= self.entries && self.owners.state(id) == Some(State::Ours) {
            return self.spare.push(id);
        }
        match self.owners.give_back(id) {
            Ok(()) => self.publish(id),
            Err(refused) => mistake(refused),
        }
    }

    /// Tells the kernel of a buffer that was given back.
    #[inline]
    fn publish(&mut self, id: u16) {
        let slot = usize::from(self.tail & (self.entries - 1));
        let address = self.buffers.base() as u64 + self.offset(id) as u64;
        let first: *mut Entry = self.ring.base().cast();
        // SAFETY: `slot` is below the number of entries the memory was made for. No more buffers exist
        // than entries, so the kernel is done with what stood in this one. The fields are written through
        // pointers, for the kernel may read the tail, which lies in the first entry, at any time: no
        // exclusive reference may cover that. The release store makes the entry visible before the tail.
        unsafe {
            let entry = first.add(slot);
            (&raw mut (*entry).addr).write(address);
            (&raw mut (*entry).len).write(self.size);
            (&raw mut (*entry).bid).write(id);
            self.tail = self.tail.wrapping_add(1);
            (*first).tail.store(self.tail, Ordering::Release);
        }
    }
}

/// The driver asked for what the buffer's state does not allow. Nothing has changed, so a release build goes on:
/// at worst it has one buffer fewer.
#[cold]
fn mistake(refused: Refused) {
    debug_assert!(false, "{refused}");
    tracing::error!(%refused, "a mistake of the driver");
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    const SIZE: usize = 200;

    /// A kernel of four buffers that fills them in the order in which it was given them, as the real one does:
    /// it reads tail and entries, and writes to the addresses that stand there (io_uring_register_buf_ring(3)).
    struct Kernel {
        ring: usize,
        head: u16,
    }

    impl Kernel {
        /// Fills the next buffer and names it as a completion would; `None` if there is none.
        fn fill(&mut self, bytes: &[u8]) -> Option<u16> {
            let first: *const Entry = std::ptr::with_exposed_provenance(self.ring);
            // SAFETY: the test keeps the memory until this kernel is done with it, and has published every
            // entry between head and tail.
            unsafe {
                if self.head == (*first).tail.load(Ordering::Acquire) {
                    return None;
                }
                let entry = first.add(usize::from(self.head) & 3);
                self.head = self.head.wrapping_add(1);
                assert!(bytes.len() <= (*entry).len as usize);
                let to: *mut u8 = std::ptr::with_exposed_provenance_mut((*entry).addr as usize);
                to.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                Some((*entry).bid)
            }
        }
    }

    fn given_to_a_kernel() -> (BufRing, Kernel) {
        let mut buffers = BufRing::new(4, 0, SIZE).expect("memory");
        buffers.give_back_all();
        let kernel = Kernel { ring: buffers.ring.base().expose_provenance(), head: 0 };
        (buffers, kernel)
    }

    fn slice(id: u16, start: u32, len: u32) -> RxSlice {
        RxSlice { buffer: u32::from(id), start, len }
    }

    #[test]
    fn buffers_go_round() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        // More than the sixteen bits of the tail would show the same; Miri has less patience.
        for round in 0..if cfg!(miri) { 20 } else { 70_000_u32 } {
            let sent = round.to_ne_bytes();
            let id = kernel.fill(&sent).expect("a buffer");
            assert!(buffers.take(id));
            assert_eq!(buffers.bytes(id, 4), sent);
            assert_eq!(buffers.in_kernel(), 3);
            let sends = round % 3;
            buffers.keep(id, sends);
            for _ in 0..sends {
                assert_eq!(buffers.kept(slice(id, 1, 2)), &sent[1..3]);
                buffers.release(id);
            }
            assert_eq!(buffers.in_kernel(), 4);
        }
    }

    #[test]
    fn another_thread_may_fill_what_is_not_ours() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        let ours = kernel.fill(b"first").expect("a buffer");
        assert!(buffers.take(ours));
        thread::scope(|scope| {
            // What a kernel thread would do at any time, while this thread works with what is its own.
            let filled = scope.spawn(move || (0..10).map_while(|_| kernel.fill(b"theirs")).count());
            buffers.bytes(ours, 5).copy_from_slice(b"FIRST");
            assert_eq!(buffers.kept(slice(ours, 0, 5)), b"FIRST");
            buffers.keep(ours, 0);
            let filled = filled.join().expect("no panic");
            assert!((3..=4).contains(&filled), "{filled}");
        });
    }

    #[test]
    fn what_is_not_ours_has_no_bytes() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        let id = kernel.fill(b"abc").expect("a buffer");
        assert_eq!(buffers.bytes(id, 3), b"", "the kernel's");
        assert_eq!(buffers.bytes(4, 3), b"", "none such");
        assert_eq!(buffers.kept(RxSlice { buffer: 1 << 16, start: 0, len: 3 }), b"", "none such");
        assert!(buffers.take(id));
        assert_eq!(buffers.bytes(id, 3), b"abc");
        assert_eq!(buffers.bytes(id, usize::MAX).len(), SIZE, "its own bytes and no others");
        assert_eq!(buffers.kept(slice(id, u32::MAX, u32::MAX)), b"");
        assert_eq!(buffers.kept(slice(id, 1, SIZE as u32)), b"", "a byte too many");
        assert_eq!(buffers.kept(slice(id, 1, SIZE as u32 - 1)).len(), SIZE - 1);
        buffers.keep(id, 1);
        assert_eq!(buffers.bytes(id, 3), b"", "a queued send refers to it: not ours alone");
        assert_eq!(buffers.kept(slice(id, 0, 3)), b"abc");
    }

    /// The kernel reads through the addresses that queued sends noted, when all of them are queued.
    #[test]
    fn sends_of_one_buffer_do_not_disturb_each_other() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        let (first, other) =
            (kernel.fill(b"abcdef").expect("a buffer"), kernel.fill(b"xyz").expect("a buffer"));
        assert!(buffers.take(first));
        buffers.bytes(first, 6)[1] = b'B';
        buffers.keep(first, 2);
        let queued = [(1, 3), (0, 6)].map(|(start, len)| {
            let bytes = buffers.kept(slice(first, start, len));
            (bytes.as_ptr(), bytes.len())
        });
        assert!(buffers.take(other));
        buffers.bytes(other, 3).fill(0);
        // SAFETY: pointers and lengths are those of slices of a buffer that is still kept.
        let sent = queued.map(|(from, len)| unsafe { std::slice::from_raw_parts(from, len) }.to_vec());
        assert_eq!(sent, [b"Bcd".to_vec(), b"aBcdef".to_vec()]);
        buffers.release(first);
        buffers.release(first);
        buffers.keep(other, 0);
        assert_eq!(buffers.in_kernel(), 4);
    }

    #[test]
    fn spare_buffers_are_never_the_kernels() {
        let mut buffers = BufRing::new(4, 2, SIZE).expect("memory");
        buffers.give_back_all();
        let ids = [buffers.take_spare(), buffers.take_spare(), buffers.take_spare()];
        assert_eq!(ids, [Some(4), Some(5), None]);
        buffers.room(4, 3).copy_from_slice(b"abc");
        assert_eq!(buffers.bytes(4, 3), b"abc");
        buffers.keep(4, 1);
        buffers.keep(5, 0);
        assert_eq!(buffers.kept(slice(4, 0, 3)), b"abc");
        assert_eq!(
            (buffers.take_spare(), buffers.take_spare()),
            (Some(5), None),
            "a send refers to the other"
        );
        buffers.release(4);
        assert_eq!((buffers.take_spare(), buffers.tail, buffers.in_kernel()), (Some(4), 4, 4));
    }

    #[test]
    fn a_wrong_buffer_is_not_taken() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        let id = kernel.fill(b"abc").expect("a buffer");
        assert!(buffers.take(id));
        assert!(!buffers.take(id), "taken already");
        assert!(!buffers.take(4), "none such");
        assert!(!buffers.take(u16::MAX), "none such");
        assert_eq!((buffers.in_kernel(), buffers.owners.refused()), (3, 3));
    }

    #[test]
    #[cfg(debug_assertions)]
    fn bytes_that_were_given_back_are_poison() {
        let (mut buffers, mut kernel) = given_to_a_kernel();
        let id = kernel.fill(b"a secret of theirs").expect("a buffer");
        assert!(buffers.take(id));
        assert_eq!(buffers.bytes(id, 8), b"a secret");
        let illegally_kept = buffers.buffers.base().wrapping_add(buffers.offset(id));
        buffers.keep(id, 2);
        buffers.release(id);
        // SAFETY: the mapping is there, and no thread writes to it.
        let read = |at| unsafe { illegally_kept.add(at).read() };
        assert_eq!(read(0), b'a', "one send still refers to it");
        buffers.release(id);
        assert!((0..8).all(|at| read(at) == POISON), "what was looked at");
        assert_eq!(read(8), b' ', "what was not stays");
        assert!(buffers.take(id));
        assert_eq!(buffers.bytes(id, 8), [POISON; 8], "a completion that brought nothing shows nothing old");
    }

    /// What a debug build says of a mistake; a release build goes on.
    fn told(mistake: impl FnOnce(&mut BufRing)) -> String {
        let (mut buffers, _) = given_to_a_kernel();
        let before = buffers.in_kernel();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| mistake(&mut buffers)));
        assert_eq!((buffers.in_kernel(), buffers.tail), (before, 4), "nothing was published");
        assert_eq!(buffers.owners.refused(), 1);
        match outcome {
            Ok(()) => String::new(),
            Err(panic) => panic.downcast_ref::<String>().expect("a message").clone(),
        }
    }

    #[test]
    fn mistakes_are_told_in_debug_builds_and_do_nothing() {
        type Mistake = fn(&mut BufRing);
        let mistakes: [(Mistake, &str); 5] = [
            (|buffers| buffers.keep(2, 0), "buffer 2 cannot be given back: it is the kernel's"),
            (|buffers| buffers.keep(2, 1), "buffer 2 cannot be kept: it is the kernel's"),
            (|buffers| buffers.release(2), "buffer 2 cannot be released: it is the kernel's"),
            (|buffers| buffers.keep(4, 0), "buffer 4 cannot be given back: there is no such buffer"),
            (|buffers| buffers.release(9), "buffer 9 cannot be released: there is no such buffer"),
        ];
        for (mistake, message) in mistakes {
            assert_eq!(told(mistake), if cfg!(debug_assertions) { message } else { "" });
        }
    }
}
