//! Error numbers of Windows Sockets ("Windows Sockets Error Codes" in the Win32 documentation), under the
//! names that the same conditions have elsewhere.
#![allow(missing_docs, reason = "the names say it")]

pub const EACCES: i32 = 10013;
pub const EADDRINUSE: i32 = 10048;
pub const EADDRNOTAVAIL: i32 = 10049;
pub const EAFNOSUPPORT: i32 = 10047;
pub const EBADF: i32 = 10009;
pub const EINVAL: i32 = 10022;
/// WSASYSCALLFAILURE, "a system call that should never fail has failed".
pub const EIO: i32 = 10107;
pub const EMFILE: i32 = 10024;
pub const ENETRESET: i32 = 10052;
pub const ENOBUFS: i32 = 10055;
/// There is no number for a missing device: WSAEADDRNOTAVAIL.
pub const ENODEV: i32 = EADDRNOTAVAIL;
pub const ENOPROTOOPT: i32 = 10042;
pub const EOPNOTSUPP: i32 = 10045;
