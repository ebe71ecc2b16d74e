//! What the owner of a socket sets on it holds for what is sent.
#![cfg(target_os = "linux")]

mod support;

use std::sync::Arc;

use quinn_udp::{EcnCodepoint, RecvMeta, UdpSocketState};
use shardgram_sys::SocketOptions;
use support::{Bound, client, config};

#[test]
fn the_type_of_service_of_a_hook_is_sent() {
    for listen in ["127.0.0.1:0", "0.0.0.0:0"] {
        let hook = Arc::new(|socket: &socket2::Socket, _| socket.set_tos_v4(0b10));
        let options = SocketOptions { hook: Some(hook), ..SocketOptions::default() };
        let shards = Bound::new(config(&[listen]), options).start(true);
        let client = client("127.0.0.1:0");
        let state = UdpSocketState::new((&client).into()).expect("state");
        client.set_nonblocking(false).expect("blocking");
        client.send_to(b"hello", ("127.0.0.1", shards.address().port())).expect("send");
        let (mut bytes, mut meta) = ([0; 64], [RecvMeta::default()]);
        let slices = &mut [std::io::IoSliceMut::new(&mut bytes)];
        state.recv((&client).into(), slices, &mut meta).expect("an answer");
        let told = "two of the eight bits, the others go with them";
        assert_eq!(meta[0].ecn, Some(EcnCodepoint::Ect0), "{told}");
        shards.stop();
    }
}
