//! Datagrams longer than the path's MTU are fragmented, not refused.
#![cfg(target_os = "linux")]

mod support;

use support::{client, echo_at, here, in_namespace, ip, pattern, receive};

#[test]
fn long_datagrams_cross_a_short_mtu() {
    if !in_namespace("long_datagrams_cross_a_short_mtu") {
        return;
    }
    ip("link set lo mtu 1500");
    for address in
        ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"].into_iter().filter(|address| here(address))
    {
        let shards = echo_at(address);
        let mut to = shards.address();
        let from = if to.is_ipv4() { "127.0.0.1:0" } else { "[::1]:0" };
        let client = client(from);
        to.set_ip(client.local_addr().expect("address").ip());
        for size in [1472, 9000, 65_507] {
            client.send_to(&pattern(size), to).expect("send");
            assert_eq!(receive(&client).0, pattern(size), "{size} bytes to {address}");
        }
        shards.stop();
    }
}
