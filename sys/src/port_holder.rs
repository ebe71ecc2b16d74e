//! Who has a port that cannot be bound, as far as the system's tables tell.

#[cfg(target_os = "linux")]
#[path = "port_holder/linux.rs"]
mod platform;
#[cfg(not(target_os = "linux"))]
#[path = "port_holder/other.rs"]
mod platform;

use std::fmt;

pub(crate) use platform::{RELEASE, of};
#[cfg(target_os = "linux")]
pub(crate) use platform::{process_of, socket_inode};

/// A socket that has a port, and whose it is.
///
/// ```
/// use shardgram_sys::{BindError, PortHolder};
/// fn who(error: &BindError) -> Option<&PortHolder> {
///     match error {
///         BindError::AddressInUse { holder, .. } => holder.as_ref(),
///         _ => None,
///     }
/// }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PortHolder {
    /// The user it belongs to.
    pub uid: u32,
    /// The number of its inode, which `ss -ulne` shows and the links in `/proc/PID/fd` name.
    pub inode: u64,
    /// The id and the name of a process that has it open. `None` if none does that this process may look at: it is
    /// another user's or in another PID namespace, or the kernel has not let go what a process left that has ended.
    pub process: Option<(u32, String)>,
}

impl fmt::Display for PortHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { uid, inode, process } = self;
        match process {
            Some((id, name)) => write!(f, "process {id} ({name}, uid {uid})"),
            None => {
                write!(f, "a socket of uid {uid} (inode {inode}) that no process seen from here has open")
            }
        }
    }
}
