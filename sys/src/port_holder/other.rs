//! Elsewhere no table says it that is read without privileges, and a port is free as soon as its process has ended.

use std::net::SocketAddr;
use std::time::Duration;

use super::PortHolder;

pub(crate) const RELEASE: Duration = Duration::ZERO;

pub(crate) fn of(_: SocketAddr) -> Option<PortHolder> {
    None
}
