//! Error numbers of Windows Sockets ("Windows Sockets Error Codes" in the Win32 documentation), under the
//! names that the same conditions have elsewhere.
#![allow(missing_docs, reason = "the names say it")]

pub const EACCES: i32 = 10013;
pub const EADDRINUSE: i32 = 10048;
pub const EADDRNOTAVAIL: i32 = 10049;
pub const EAFNOSUPPORT: i32 = 10047;
pub const EBADF: i32 = 10009;
pub const EFAULT: i32 = 10014;
pub const EHOSTDOWN: i32 = 10064;
pub const EINVAL: i32 = 10022;
/// WSASYSCALLFAILURE, "a system call that should never fail has failed".
pub const EIO: i32 = 10107;
pub const EMFILE: i32 = 10024;
pub const EMSGSIZE: i32 = 10040;
pub const ENETRESET: i32 = 10052;
pub const ENOBUFS: i32 = 10055;
pub const ENETUNREACH: i32 = 10051;
/// ERROR_DEV_NOT_EXIST.
pub const ENODEV: i32 = 55;
/// WSA_NOT_ENOUGH_MEMORY.
pub const ENOMEM: i32 = 8;
pub const ENOPROTOOPT: i32 = 10042;
/// ERROR_BAD_UNIT.
pub const ENXIO: i32 = 20;
pub const EOPNOTSUPP: i32 = 10045;
/// ERROR_ACCESS_DENIED.
pub const EPERM: i32 = 5;
pub const ETOOMANYREFS: i32 = 10059;
