//! Elsewhere no table tells more that is read without a system call of its own.

use std::net::SocketAddr;

use super::BindError;

pub(crate) fn not_available(address: SocketAddr) -> BindError {
    BindError::AddressNotAvailable { address }
}
