//! Buffers and queues: what is reserved, and what may wait.

use crate::config::Config;

impl Config {
    /// Longest datagram received whole, in bytes. Default 65,507, range 1 to 65,527. A longer one is
    /// delivered with [`crate::Meta::truncated_from`] set. With io_uring each receive buffer is this long,
    /// but only the pages that datagrams reached are ever backed by memory; with mio a buffer is 64 KiB
    /// whatever this says.
    #[must_use]
    pub fn max_datagram(mut self, max_datagram: u32) -> Self {
        self.settings.max_datagram = max_datagram;
        self
    }

    /// Receive buffers per shard, a power of two, with io_uring; mio uses up to 64. Default 256, range 8 to
    /// 32,768. Fewer are kinder to the cache; when they run out the kernel queues, and then counts what it
    /// drops. A client with many endpoints wants about as many as datagrams it may be sent at once.
    #[must_use]
    pub fn receive_buffers(mut self, receive_buffers: u16) -> Self {
        self.settings.receive_buffers = receive_buffers;
        self
    }

    /// Submission entries of a shard's ring, with io_uring; mio has none. Default 256, range 4 to 32,768. The
    /// kernel rounds up to a power of two. So many sends go into one entry of the kernel; a turn that sends
    /// more enters it more often. Each costs about 350 bytes, 64 of them locked.
    #[must_use]
    pub fn submission_entries(mut self, submission_entries: u16) -> Self {
        self.settings.submission_entries = submission_entries;
        self
    }

    /// Completion entries of a shard's ring, with io_uring; mio has none. Default 0: four for each receive
    /// buffer, and at least two for each submission entry. Otherwise 8 to 65,536, and no fewer than
    /// `submission_entries` when both are rounded up to a power of two, as the kernel does. When they run out
    /// nothing is lost: the kernel keeps the rest in memory of its own and ends the receives, which are armed
    /// again. Each costs 16 bytes, locked.
    #[must_use]
    pub fn completion_entries(mut self, completion_entries: u32) -> Self {
        self.settings.completion_entries = completion_entries;
        self
    }

    /// Bytes that callbacks may copy into the outbox in one turn. Default 4 MiB, range 64 KiB to 1 GiB. A callback begins
    /// only while half of them are free: see [`Config::outbox_datagrams`].
    #[must_use]
    pub fn outbox_bytes(mut self, outbox_bytes: u32) -> Self {
        self.settings.outbox_bytes = outbox_bytes;
        self
    }

    /// Datagrams that may be queued in one turn. Default 16,384, range 1 to 1,048,576. 160 bytes each.
    ///
    /// A callback begins only while half of them are free; what has come meanwhile, mail and timers wait for the next
    /// turn, in which each kind has its turn. So a callback that queues at most half, with what it closes and with what
    /// `accept` queued for the same datagram, is never refused for want of room in the outbox. One that queues up to
    /// fifteen sixteenths may be, where others of the same turn have queued something and none has queued so much in the
    /// 16 turns before; then as much is left free for it. Of these promises those callbacks are excepted that come
    /// whatever is queued: `on_start`, `on_closed`, `on_drain`, what tells of an endpoint or a group that failed, and
    /// `on_turn_end`, for which as much is left free as it queued at most in the last 16 turns. So two for each datagram
    /// that one callback is to send at most (with a fan-out to all peers of a shard: twice as many as there are) are
    /// enough for all.
    #[must_use]
    pub fn outbox_datagrams(mut self, outbox_datagrams: u32) -> Self {
        self.settings.outbox_datagrams = outbox_datagrams;
        self
    }

    /// Bytes that may wait for one peer when a socket's buffer is full, a datagram counting 128 beside its own.
    /// Default 256 KiB, range 4 KiB to 64 MiB. Beyond it sends are refused as [`crate::SendError::Full`], and
    /// [`crate::Handler::on_writable`] says when there is room. What was queued before the socket was found full
    /// is not refused any more and waits beyond this bound.
    #[must_use]
    pub fn send_queue_bytes(mut self, send_queue_bytes: u32) -> Self {
        self.settings.send_queue_bytes = send_queue_bytes;
        self
    }

    /// The same for all peers of a shard together. Default 16 MiB, range 64 KiB to 1 GiB. Nothing goes beyond it:
    /// what was queued before the socket was found full then fails ([`crate::Snapshot::send_failed_full`]).
    #[must_use]
    pub fn send_backlog_bytes(mut self, send_backlog_bytes: u32) -> Self {
        self.settings.send_backlog_bytes = send_backlog_bytes;
        self
    }

    /// Messages waiting for a shard. Default 4,096, range 1 to 1,048,576. When it is full the sender gets
    /// its message back. Forwarded datagrams have a bound of their own: 4,096 of them, a train counting as one, and
    /// 8 MiB.
    #[must_use]
    pub fn mailbox_len(mut self, mailbox_len: u32) -> Self {
        self.settings.mailbox_len = mailbox_len;
        self
    }

    /// Timers per shard. Default 262,144, range 1 to 16,777,216. About 64 bytes each beside the value,
    /// reserved and not touched until used.
    #[must_use]
    pub fn max_timers(mut self, max_timers: u32) -> Self {
        self.settings.max_timers = max_timers;
        self
    }

    /// Lookups of names under way per shard. Default 256, range 1 to 65,536. Further ones are refused as
    /// [`crate::DialError::LookupsFull`]. One that takes too long stays on the count until its resolver lets it go.
    /// Room for
    /// their answers, about 50 bytes each, is made with the first one.
    #[must_use]
    pub fn max_lookups(mut self, max_lookups: u32) -> Self {
        self.settings.max_lookups = max_lookups;
        self
    }
}
