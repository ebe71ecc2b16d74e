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

/// Moves the calling thread into a network with one cable, `v0`, whose far end answers nothing. `v0` is
/// 10.77.0.1/24 and fd77::1/64. Where that is not possible the test is recorded as skipped and this says
/// false.
pub(crate) fn enter_network_with_a_cable() -> bool {
    if !super::enter_network_for_addresses() {
        return false;
    }
    ip("link add v0 type veth peer name v1");
    ip("address add 10.77.0.1/24 dev v0");
    // nodad: usable at once, for nobody else can have it here.
    ip("address add fd77::1/64 dev v0 nodad");
    ip("link set v1 up");
    ip("link set v0 up");
    true
}

/// Runs `ip` of iproute2 in the calling thread's network.
pub(crate) fn ip(arguments: &str) {
    let output = std::process::Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    assert!(output.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// [`SocketAddr`] of a literal.
pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}
