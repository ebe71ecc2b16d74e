//! The ring itself: the ladder of set-up flags, submission, and what `io_uring_enter(2)` may answer.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use io_uring::squeue::Flags;
use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, Submitter, cqueue, opcode, squeue};

use crate::faults::{self, Fault};
use crate::mapping::Mapping;
use crate::user_data::{Kind, UserData};

/// Entries into the kernel to make room in the submission queue for one more, at most. One does it, unless a signal
/// comes, or the kernel is short of something.
const PUSH_TRIES: u32 = 16;
/// Entries into the kernel to have it do what it deferred, at most. Each does about 20 things.
const WORK_OFF_TRIES: u32 = 10_000;
/// `IORING_ENTER_GETEVENTS`: work off what has been deferred.
const GETEVENTS: u32 = 1;
/// `IORING_OFF_SQES`: where in the ring's file the submission entries are (io_uring_setup(2)).
const ENTRIES_AT: libc::off_t = 0x1000_0000;

/// Tries to cancel something while signals come, at most.
const CANCEL_TRIES: u32 = 16;
/// How long the end of outstanding operations is waited for.
const SHUT_DOWN: Timespec = Timespec::new().sec(1);

/// What flags a rung of the ladder asks for, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rung {
    /// 6.6: no array of indices between application and submission entries.
    NoArray,
    /// 6.1: completions are worked off when this thread asks for them, and at no other time.
    Deferred,
    /// 6.0: one thread submits; completions interrupt no system call.
    Cooperative,
}

const LADDER: [Rung; 3] = [Rung::NoArray, Rung::Deferred, Rung::Cooperative];

/// There is no room for one more entry, and the kernel takes none at the moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoRoom;

/// What an entry into the kernel came to, if not to the end of the ring.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entered {
    /// It did what there was to do, or the time was up, or a signal came.
    Well,
    /// The kernel is short of something for a while. It may have taken no entry, and not have waited.
    Short(i32),
    /// The kernel had to drop completions.
    Lost,
}

pub(crate) struct Ring {
    /// The submission entries once more, to take back what the kernel has not taken. Dropped first, since it holds on
    /// to the ring.
    entries: Mapping,
    io: IoUring,
    /// How many entries were ever queued: the position behind the last one.
    tail: u32,
    /// The kernel said that it dropped completions, and that was not made good yet.
    pub(crate) lost: bool,
}

impl From<NoRoom> for io::Error {
    fn from(_: NoRoom) -> Self {
        Self::other("the submission queue is full, and the kernel takes nothing")
    }
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.io.as_raw_fd()).finish_non_exhaustive()
    }
}

impl AsFd for Ring {
    fn as_fd(&self) -> BorrowedFd<'_> {
        // SAFETY: the descriptor is open as long as the ring, which is borrowed.
        unsafe { BorrowedFd::borrow_raw(self.io.as_raw_fd()) }
    }
}

impl Ring {
    /// Makes a ring with the best flags the kernel knows. It has to be enabled by the thread that uses it.
    pub(crate) fn new(entries: u32, completions: u32) -> io::Result<Self> {
        let mut refused = io::Error::from_raw_os_error(libc::EINVAL);
        for rung in LADDER {
            let mut builder = IoUring::builder();
            builder.setup_clamp().setup_cqsize(completions).setup_submit_all();
            builder.setup_single_issuer().setup_r_disabled();
            match rung {
                Rung::NoArray => {
                    builder.setup_defer_taskrun().setup_taskrun_flag().setup_no_sqarray();
                }
                Rung::Deferred => {
                    builder.setup_defer_taskrun().setup_taskrun_flag();
                }
                Rung::Cooperative => {
                    builder.setup_coop_taskrun().setup_taskrun_flag();
                }
            }
            match builder.build(entries) {
                Ok(io) => {
                    let (entries, completions) = (io.params().sq_entries(), io.params().cq_entries());
                    tracing::debug!(?rung, entries, completions, "a ring was made");
                    let bytes = entries as usize * size_of::<squeue::Entry>();
                    let entries = Mapping::of_ring(io.as_raw_fd(), ENTRIES_AT, bytes)?;
                    return Ok(Self { entries, io, tail: 0, lost: false });
                }
                Err(e) if e.raw_os_error() == Some(libc::EINVAL) => refused = e,
                Err(e) => return Err(e),
            }
        }
        Err(refused)
    }

    /// Has the calling thread own the ring: with `IORING_SETUP_SINGLE_ISSUER` no other may use it from now on
    /// (io_uring_register(2), IORING_REGISTER_ENABLE_RINGS).
    pub(crate) fn enable(&self) -> io::Result<()> {
        self.io.submitter().register_enable_rings()
    }

    /// Makes an empty table of fixed files.
    pub(crate) fn register_files(&self, slots: u32) -> io::Result<()> {
        self.io.submitter().register_files_sparse(slots)
    }

    /// Puts a descriptor into a slot; -1 empties it.
    pub(crate) fn set_file(&self, slot: u32, fd: RawFd) -> io::Result<()> {
        self.io.submitter().register_files_update(slot, &[fd]).map(drop)
    }

    /// Gives the kernel a ring of provided buffers.
    ///
    /// # Safety
    /// `address` is that of page-aligned memory for `entries` entries that outlives this ring.
    pub(crate) unsafe fn register_buf_ring(&self, address: u64, entries: u16, group: u16) -> io::Result<()> {
        // SAFETY: passed on to the caller.
        unsafe { self.io.submitter().register_buf_ring_with_flags(address, entries, group, 0) }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.io.params().sq_entries() as usize
    }

    /// Takes the ring of provided buffers from the kernel. Nothing that draws from it may be outstanding.
    pub(crate) fn unregister_buf_ring(&self, group: u16) -> io::Result<()> {
        self.io.submitter().unregister_buf_ring(group)
    }

    /// Queues an entry, submitting what is queued if there is no room.
    ///
    /// # Safety
    /// What the entry points to stays valid and in place until the kernel is done with it: for sends until
    /// the submission returns or the entry is taken back ([`Ring::take_back`]), for receives as long as the ring lives.
    #[inline]
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> Result<(), NoRoom> {
        if faults::refuses(entry.get_user_data()) {
            return Ok(());
        }
        // SAFETY: passed on to the caller.
        if unsafe { self.io.submission().push(entry) }.is_err() {
            self.make_room()?;
            // SAFETY: passed on to the caller.
            unsafe { self.io.submission().push(entry) }.map_err(|_| NoRoom)?;
        }
        self.tail = self.tail.wrapping_add(1);
        Ok(())
    }

    /// Submits until the queue has room for one more.
    #[cold]
    fn make_room(&mut self) -> Result<(), NoRoom> {
        for _ in 0..PUSH_TRIES {
            // What ends the ring ends the next submission too, and there it is told.
            let Ok(_) = self.submit() else { return Err(NoRoom) };
            if !self.io.submission().is_full() {
                return Ok(());
            }
        }
        Err(NoRoom)
    }

    /// Entries that are queued and that the kernel has not taken.
    pub(crate) fn queued(&mut self) -> usize {
        self.io.submission().len()
    }

    /// Takes back those queued entries of which `which`, asked in their order, says so by their user data: the kernel
    /// will read nothing that they point to.
    #[cold]
    pub(crate) fn take_back(&mut self, mut which: impl FnMut(u64) -> bool) {
        let nothing = opcode::Nop::new().build().flags(Flags::SKIP_SUCCESS);
        let nothing = nothing.user_data(UserData::new(Kind::Cancel, 0).bits());
        let (queued, mask) = (self.queued() as u32, self.io.params().sq_entries() - 1);
        let first: *mut squeue::Entry = self.entries.base().cast();
        for at in 0..queued {
            let index = self.tail.wrapping_sub(queued).wrapping_add(at) & mask;
            // SAFETY: the mapping has as many entries as the ring, a power of two, and every one of them was zeroed by
            // the kernel or written by `push`. No reference to them exists. The kernel reads entries only while this
            // thread, the only one that submits, is in io_uring_enter; no thread of the kernel polls this ring. What
            // `push` wrote through the library's mapping of the same pages is seen, since that call lies in between;
            // where it does not, and always for what it writes after this, the accesses are volatile.
            unsafe {
                let entry = first.add(index as usize);
                if which(entry.read_volatile().get_user_data()) {
                    entry.write_volatile(nothing.clone());
                }
            }
        }
    }

    /// Enters the kernel. What ends the ring is an error, and ends the shard.
    fn enter(&mut self, enter: impl FnOnce(&Submitter<'_>) -> io::Result<usize>) -> io::Result<Entered> {
        let submitter = self.io.submitter();
        let result = match faults::entry() {
            None => enter(&submitter),
            Some(Fault::Fails(errno)) => Err(io::Error::from_raw_os_error(errno)),
            // SAFETY: submits what is queued, waits for nothing, and passes no argument.
            Some(Fault::Takes(few)) => unsafe { submitter.enter::<libc::sigset_t>(few, 0, GETEVENTS, None) },
        };
        let Err(error) = result else { return Ok(Entered::Well) };
        let entered = judged(error)?;
        self.lost |= entered == Entered::Lost;
        Ok(entered)
    }

    /// Submits what is queued and lets the kernel work off what has arrived, without waiting. Entries may
    /// be left ([`Ring::is_submitted`]) when the completion queue overflows or memory is short.
    pub(crate) fn submit(&mut self) -> io::Result<Entered> {
        self.enter(|submitter| submitter.submit())
    }

    /// Submits what is queued and waits for many completions, after `patience` for one, and at most for `timeout`.
    /// Before Linux 6.12 it waits for one.
    pub(crate) fn submit_and_gather(
        &mut self,
        timeout: Option<Duration>,
        patience: Duration,
    ) -> io::Result<Entered> {
        let short = timeout.is_some_and(|timeout| timeout <= patience);
        if short || !self.io.params().is_feature_min_timeout() {
            return self.submit_and_wait(timeout);
        }
        let timespec = timeout.map(Timespec::from);
        let mut wait = SubmitArgs::new().min_wait_usec(patience.as_micros() as u32);
        if let Some(timespec) = &timespec {
            wait = wait.timespec(timespec);
        }
        self.enter(|submitter| submitter.submit_with_args(MANY, &wait))
    }

    /// Submits what is queued and waits for a completion, at most for `timeout`.
    pub(crate) fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<Entered> {
        self.enter(|submitter| match timeout {
            None => submitter.submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                submitter.submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
        })
    }

    /// Whether the kernel has taken every entry that was queued, and keeps no completion back for want of room:
    /// those that were there were taken out before this is asked.
    pub(crate) fn is_submitted(&mut self) -> bool {
        let submission = self.io.submission();
        submission.is_empty() && !submission.cq_overflow()
    }

    /// Whether the kernel has deferred something, and does it when it is entered.
    pub(crate) fn has_deferred(&mut self) -> bool {
        self.io.submission().taskrun()
    }

    /// Cancels everything that is outstanding and empties the table of fixed files, so that the sockets are
    /// closed, and their ports free, when the ring is dropped and not some time after.
    ///
    /// # Errors
    /// Something may be outstanding still, until the last descriptor of the ring is closed, and write to the memory that it
    /// was given.
    pub(crate) fn shut_down(&mut self) -> io::Result<()> {
        let cancelled = self.cancel_all();
        for _ in self.completions() {}
        // ENXIO: there is no table.
        let _ = self.io.submitter().unregister_files();
        cancelled
    }

    /// Cancels everything that is outstanding, and waits until it has ended.
    ///
    /// # Errors
    /// ETIME if that takes longer than a second, and what a filter says that refuses the call.
    pub(crate) fn cancel_all(&mut self) -> io::Result<()> {
        self.sync_cancel(CancelBuilder::any)
    }

    /// Cancels the operation with this user data and waits until it has ended, so that its file is free. It
    /// must have been submitted.
    ///
    /// # Errors
    /// As for [`Ring::cancel_all`].
    pub(crate) fn cancel(&mut self, user_data: u64) -> io::Result<()> {
        self.sync_cancel(|| CancelBuilder::user_data(user_data))
    }

    /// io_uring_register(2), IORING_REGISTER_SYNC_CANCEL (6.0).
    fn sync_cancel(&mut self, which: impl Fn() -> CancelBuilder) -> io::Result<()> {
        let mut result = Ok(());
        for _ in 0..CANCEL_TRIES {
            result = match faults::cancel() {
                None => self.io.submitter().register_sync_cancel(Some(SHUT_DOWN), which()),
                Some(errno) => Err(io::Error::from_raw_os_error(errno)),
            };
            match result.as_ref().err().and_then(io::Error::raw_os_error) {
                // A signal came while it waited.
                Some(libc::EINTR) => {}
                // Nothing is outstanding any more.
                Some(libc::ENOENT) => {
                    result = Ok(());
                    break;
                }
                _ => break,
            }
        }
        self.work_off();
        result
    }

    /// Lets the kernel do what it deferred to this thread. What is queued stays queued: its operands may
    /// be gone.
    fn work_off(&mut self) {
        for _ in 0..WORK_OFF_TRIES {
            // SAFETY: submits nothing, waits for nothing, and passes no argument.
            let _ = unsafe { self.io.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
            if !self.has_deferred() {
                return;
            }
        }
    }

    /// The completions that are there.
    pub(crate) fn completions(&mut self) -> cqueue::CompletionQueue<'_> {
        self.io.completion()
    }
}

/// Completions that are worth a wake-up before the time for gathering is over.
const MANY: usize = 32;

/// What an error of `io_uring_enter(2)` means.
fn judged(error: io::Error) -> io::Result<Entered> {
    match error.raw_os_error() {
        // The time is up.
        Some(libc::ETIME) => Ok(Entered::Well),
        // A signal came.
        Some(libc::EINTR) => Ok(Entered::Well),
        // The completion queue is full and completions wait in the kernel: they are taken out next.
        Some(libc::EBUSY) => Ok(Entered::Short(libc::EBUSY)),
        // No memory for requests, or, under a limit of the control group, for what belongs to them.
        Some(errno @ (libc::EAGAIN | libc::ENOMEM)) => Ok(Entered::Short(errno)),
        // The completion queue was full, and there was no memory to keep completions in the kernel.
        Some(libc::EBADR) => Ok(Entered::Lost),
        // The ring is gone: its descriptor is closed, is something else, or is disabled.
        Some(libc::EBADF | libc::EBADFD | libc::EOPNOTSUPP | libc::ENXIO) => Err(error),
        // A mistake of this driver: an address or a flag, or another thread entered a ring of one issuer.
        Some(libc::EFAULT | libc::EINVAL | libc::EEXIST) => Err(error),
        // A filter that came after the bind refuses the call, for good.
        Some(libc::ENOSYS | libc::EPERM | libc::EACCES) => Err(error),
        // Nothing the manual names: it may pass, and if not, the shard rests most of the time.
        Some(errno) => Ok(Entered::Short(errno)),
        // The library makes no errors of its own.
        None => Err(error),
    }
}
