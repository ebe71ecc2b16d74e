//! The ring itself: the ladder of set-up flags, submission, and what `io_uring_enter(2)` may answer.

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::time::Duration;

use io_uring::types::{CancelBuilder, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, squeue};

/// Tries to hand the kernel what is queued before the shard gives up. Only a kernel that is out of memory
/// for good needs more than a few.
pub(crate) const SUBMIT_TRIES: u32 = 10_000;
/// `IORING_ENTER_GETEVENTS`: work off what has been deferred.
const GETEVENTS: u32 = 1;

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

pub(crate) struct Ring {
    io: IoUring,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("fd", &self.io.as_raw_fd()).finish_non_exhaustive()
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
                    return Ok(Self { io });
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

    pub(crate) fn fd(&self) -> RawFd {
        self.io.as_raw_fd()
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

    /// Queues an entry, submitting what is queued if there is no room.
    ///
    /// # Safety
    /// What the entry points to stays valid and in place until the kernel is done with it: for sends until
    /// the submission returns, for receives as long as the ring lives.
    pub(crate) unsafe fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        for _ in 0..SUBMIT_TRIES {
            // SAFETY: passed on to the caller.
            if unsafe { self.io.submission().push(entry) }.is_ok() {
                return Ok(());
            }
            self.submit()?;
        }
        Err(Self::out_of_memory())
    }

    /// What ends a shard when [`SUBMIT_TRIES`] did not suffice.
    pub(crate) fn out_of_memory() -> io::Error {
        io::Error::other("the kernel has had no memory for a submission for a long time")
    }

    /// Submits what is queued and lets the kernel work off what has arrived, without waiting. Entries may
    /// be left ([`Ring::is_submitted`]) when the completion queue overflows or memory is short.
    pub(crate) fn submit(&mut self) -> io::Result<()> {
        match self.io.submitter().submit() {
            Err(e) if !is_harmless(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Submits what is queued and waits for many completions, after `patience` for one, and at most for `timeout`.
    /// Before Linux 6.12 it waits for one.
    pub(crate) fn submit_and_gather(
        &mut self,
        timeout: Option<Duration>,
        patience: Duration,
    ) -> io::Result<()> {
        let short = timeout.is_some_and(|timeout| timeout <= patience);
        if short || !self.io.params().is_feature_min_timeout() {
            return self.submit_and_wait(timeout);
        }
        let timespec = timeout.map(Timespec::from);
        let mut wait = SubmitArgs::new().min_wait_usec(patience.as_micros() as u32);
        if let Some(timespec) = &timespec {
            wait = wait.timespec(timespec);
        }
        match self.io.submitter().submit_with_args(MANY, &wait) {
            Err(e) if !is_harmless(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Submits what is queued and waits for a completion, at most for `timeout`.
    pub(crate) fn submit_and_wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let result = match timeout {
            None => self.io.submitter().submit_and_wait(1),
            Some(timeout) => {
                let timespec = Timespec::from(timeout);
                self.io.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timespec))
            }
        };
        match result {
            Err(e) if !is_harmless(&e) => Err(e),
            _ => Ok(()),
        }
    }

    /// Whether the kernel has taken every entry that was queued, and keeps no completion back for want of room:
    /// those that were there were taken out before this is asked.
    pub(crate) fn is_submitted(&mut self) -> bool {
        let submission = self.io.submission();
        submission.is_empty() && !submission.cq_overflow()
    }

    /// Cancels everything that is outstanding and empties the table of fixed files, so that the sockets are
    /// closed, and their ports free, when the ring is dropped and not some time after.
    pub(crate) fn shut_down(&mut self) {
        // EBUSY and ETIME: what was not cancelled in time ends with the ring.
        let _ = self.io.submitter().register_sync_cancel(Some(SHUT_DOWN), CancelBuilder::any());
        self.work_off();
        for _ in self.completions() {}
        // ENXIO: there is no table.
        let _ = self.io.submitter().unregister_files();
    }

    /// Cancels the operation with this user data and waits until it has ended, so that its file is free. It
    /// must have been submitted. That it is not found, because it has ended, is as good.
    pub(crate) fn cancel(&mut self, user_data: u64) {
        let _ =
            self.io.submitter().register_sync_cancel(Some(SHUT_DOWN), CancelBuilder::user_data(user_data));
        self.work_off();
    }

    /// Lets the kernel do what it deferred to this thread. What is queued stays queued: its operands may
    /// be gone.
    fn work_off(&mut self) {
        // One entry does about 20 things.
        for _ in 0..SUBMIT_TRIES {
            // SAFETY: submits nothing, waits for nothing, and passes no argument.
            let _ = unsafe { self.io.submitter().enter::<libc::sigset_t>(0, 0, GETEVENTS, None) };
            if !self.io.submission().taskrun() {
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

/// Answers of `io_uring_enter(2)` that end nothing.
fn is_harmless(error: &io::Error) -> bool {
    match error.raw_os_error() {
        // The time is up.
        Some(libc::ETIME) => true,
        // A signal came.
        Some(libc::EINTR) => true,
        // The completion queue is full and completions wait in the kernel: they are taken out next.
        Some(libc::EBUSY) => true,
        // Short of memory for requests; it is tried again.
        Some(libc::EAGAIN | libc::ENOMEM) => true,
        // Everything else is a mistake in this driver or a ring that is gone: EBADF, EBADFD, EFAULT,
        // EINVAL, EEXIST (another thread entered a ring of one issuer), EOPNOTSUPP.
        _ => false,
    }
}
