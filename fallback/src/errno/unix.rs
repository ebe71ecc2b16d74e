//! Error numbers where the C library names them.

pub(crate) use libc::{EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EINVAL, EIO, EMFILE, ENOBUFS};
