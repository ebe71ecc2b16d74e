//! Hosts without IPv6. Beside `skip`, which this needs; the tests of the mio driver include both.

use std::net::UdpSocket;

/// Whether sockets of this address's family can be had here; the test is recorded as skipped where not.
///
/// That is asked with a loopback address: a host with IPv6 switched off still binds `[::]`.
pub(crate) fn here(address: &str) -> bool {
    if !address.starts_with('[') {
        return true;
    }
    match UdpSocket::bind("[::1]:0") {
        Ok(_) => true,
        Err(error) => {
            super::skip::record(&format!("{address}: no IPv6 here: {error}"));
            false
        }
    }
}
