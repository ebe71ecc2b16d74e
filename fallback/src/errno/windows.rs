//! Error numbers of Windows Sockets ("Windows Sockets Error Codes" in the Win32 documentation), under the
//! names that the same conditions have elsewhere.

pub(crate) const EACCES: i32 = 10013;
pub(crate) const EADDRINUSE: i32 = 10048;
pub(crate) const EADDRNOTAVAIL: i32 = 10049;
pub(crate) const EAFNOSUPPORT: i32 = 10047;
pub(crate) const EBADF: i32 = 10009;
pub(crate) const EINVAL: i32 = 10022;
/// WSASYSCALLFAILURE, "a system call that should never fail has failed".
pub(crate) const EIO: i32 = 10107;
pub(crate) const EMFILE: i32 = 10024;
pub(crate) const ENOBUFS: i32 = 10055;
