//! The numbers Linux gives for what goes wrong (errno(3)), for what the driver reports by number.

/// EBADF: a descriptor that is not open.
pub(crate) const NOT_OPEN: i32 = 9;
/// ENODEV: an interface that is not there.
pub(crate) const NO_INTERFACE: i32 = 19;
/// EMFILE: no descriptor is left.
pub(crate) const NO_DESCRIPTOR: i32 = 24;
/// EADDRINUSE: somebody else has the address.
pub(crate) const IN_USE: i32 = 98;
/// EADDRNOTAVAIL: the host does not have it.
pub(crate) const NOT_LOCAL: i32 = 99;
