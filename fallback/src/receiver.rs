//! One receive of a batch, in the way of the system.
//!
//! On Linux a socket hook may turn on reports for which quinn-udp 0.6 has no room (96 bytes of control messages), and it
//! does not say that some were cut (MSG_CTRUNC, recvmsg(2)): a train would be one long datagram. There it only sends.

#[cfg_attr(target_os = "linux", path = "receiver/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "receiver/other.rs")]
mod platform;

pub(crate) use platform::Receiver;

/// What came of a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Batch {
    /// Datagrams and trains that were received, usable or not.
    pub(crate) count: usize,
    /// Those of them, a bit each, of which nobody can say what they are: the control data was cut.
    pub(crate) cut: u64,
    /// Those of them, a bit each, that have no usable source.
    pub(crate) malformed: u64,
}

const _: () = assert!(quinn_udp::BATCH_SIZE <= u64::BITS as usize);
