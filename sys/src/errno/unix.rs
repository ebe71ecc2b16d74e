//! Error numbers where the C library names them.

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EINVAL, EIO, EMFILE, ENETRESET, ENOBUFS,
    ENOPROTOOPT, EOPNOTSUPP,
};
