//! Error numbers where the C library names them.

pub use libc::{
    EACCES, EADDRINUSE, EADDRNOTAVAIL, EAFNOSUPPORT, EBADF, EINVAL, EIO, EMFILE, ENOBUFS, ENODEV, EOPNOTSUPP,
};
