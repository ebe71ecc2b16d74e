//! What tests of accepting need beside `support`.

use std::net::{SocketAddr, UdpSocket};

use shardgram_sys::{AcceptMode, ListenerGroup, SocketOptions, Steering, accept_support};

/// The loopback addresses of the families this host has.
pub(crate) fn loopbacks() -> impl Iterator<Item = SocketAddr> {
    let here = ["127.0.0.1:0", "[::1]:0"].into_iter().filter(|address| super::here(address));
    here.map(|address| address.parse().expect(address))
}

/// Whether the side group works here; the test is recorded as skipped where not.
pub(crate) fn side_group() -> bool {
    let support = accept_support();
    if let Some(reason) = &support.reason {
        super::skip::record(&format!("no side group here: {reason}"));
    }
    support.mode == AcceptMode::SideGroup
}

/// A group with its sockets, steered.
pub(crate) fn listen(at: SocketAddr, shards: u16, options: &SocketOptions) -> (SocketAddr, Vec<UdpSocket>) {
    let mut group = ListenerGroup::bind(at, shards, options).expect("group");
    assert_eq!(*group.steering(), Steering::FlowHash);
    (group.local_addr(), group.take_sockets())
}

/// A client's socket, bound beside `at`, with its own name.
pub(crate) fn client(at: SocketAddr) -> (UdpSocket, SocketAddr) {
    let mut any_port = at;
    any_port.set_port(0);
    let socket = UdpSocket::bind(any_port).expect("client");
    let name = socket.local_addr().expect("name");
    (socket, name)
}

/// Whether nothing waits in any of `sockets`.
pub(crate) fn all_drained<'a>(sockets: impl IntoIterator<Item = &'a UdpSocket>) -> bool {
    sockets.into_iter().all(|socket| shardgram_sys::accept::is_drained(socket).expect("poll"))
}
