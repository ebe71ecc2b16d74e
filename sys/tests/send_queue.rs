//! What waits to leave a peer's socket can be asked, in the measure in which the kernel limits it.
#![cfg(target_os = "linux")]

mod support;

use shardgram_sys::accept::{connected, send_queue_bytes, send_queue_limit};
use shardgram_sys::{SocketOptions, accept_support};
use support::accept::{address, client, enter_network_with_a_cable, listen, loopbacks};

const LEN: usize = 1000;

#[test]
fn it_fills_up_to_the_limit() {
    let mode = accept_support().mode;
    if !enter_network_with_a_cable() {
        return;
    }
    // The neighbour answers nobody who asks for it, and what is sent to it waits for that answer.
    for (at, neighbour) in [("10.77.0.1:0", "10.77.0.9:9"), ("[fd77::1]:0", "[fd77::9]:9")] {
        let options = SocketOptions { send_buffer: 16 * 1024, ..SocketOptions::default() };
        let (local, _listeners) = listen(address(at), 1, &options);
        let socket = connected(mode, local, address(neighbour), &options).expect("accepted");
        socket.set_nonblocking(true).expect("non-blocking");
        let limit = send_queue_limit(&socket).expect("limit");
        assert_eq!(limit, 2 * options.send_buffer);
        assert_eq!(send_queue_bytes(&socket).expect("bytes"), 0);

        let (mut before, mut sent) = (0, 0);
        while socket.send(&[7; LEN]).is_ok() {
            let bytes = send_queue_bytes(&socket).expect("bytes");
            assert!(bytes >= before + LEN, "{before}, then {bytes} bytes");
            before = bytes;
            sent += 1;
            assert!(sent < 1000, "the limit is not kept");
        }
        assert!(sent > 4 && before >= limit, "{sent} datagrams, {before} bytes, limit {limit}");
    }
}

#[test]
fn it_is_empty_once_all_has_left() {
    let (mode, options) = (accept_support().mode, SocketOptions::default());
    for at in loopbacks() {
        let (local, _listeners) = listen(at, 1, &options);
        let (peer, name) = client(local);
        let socket = connected(mode, local, name, &options).expect("accepted");
        for _ in 0..100 {
            socket.send(&[7; LEN]).expect("send");
            assert_eq!(support::receive(&peer).expect("receive").payload.len(), LEN);
        }
        support::until("all has left", || send_queue_bytes(&socket).expect("bytes") == 0);
    }
}
