//! What was written to a broadcast address is answered from an address of the host.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, SocketAddr};

use support::{client, echo_at, receive};

#[test]
fn a_broadcast_is_answered_from_an_address_of_the_host() {
    let shards = echo_at("0.0.0.0:0");
    let client = client("127.0.0.1:0");
    client.set_broadcast(true).expect("broadcast");
    let to = SocketAddr::from(([127, 255, 255, 255], shards.address().port()));
    client.send_to(b"anyone", to).expect("send");
    let (bytes, from) = receive(&client);
    assert_eq!((bytes, from.port()), (b"anyone".to_vec(), to.port()));
    assert_eq!(from.ip(), IpAddr::from([127, 0, 0, 1]));
    assert_eq!(shards.next_datagram().0.local, from);
    shards.stop();
}
