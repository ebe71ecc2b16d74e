//! What the owner of a socket sets on it holds for what is sent.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use shardgram_sys::SocketOptions;
use support::{Bound, client, config};

#[test]
fn the_type_of_service_of_a_hook_is_sent() {
    let hook = Arc::new(|socket: &socket2::Socket, _| socket.set_tos_v4(0b10));
    let options = SocketOptions { hook: Some(hook), ..SocketOptions::default() };
    let shards = Bound::new(config(&["127.0.0.1:0"]), options).start(true);
    let client = client("127.0.0.1:0");
    let state = UdpSocketState::new((&client).into()).expect("state");
    client.set_nonblocking(false).expect("blocking");
    client.send_to(b"hello", shards.address()).expect("send");
    let mut bytes = [0; 64];
    let mut meta = [RecvMeta::default()];
    state.recv((&client).into(), &mut [std::io::IoSliceMut::new(&mut bytes)], &mut meta).expect("an answer");
    assert_eq!(meta[0].ecn, Some(EcnCodepoint::Ect0), "two of the eight bits, the others go with them");
    shards.stop();
}
