//! Two shards whose receive buffers are all in use stay far below 96 MiB.
#![cfg(target_os = "linux")]

mod support;

use shardgram_core::Config;
use shardgram_sys::SocketOptions;
use support::{Bound, client, receive};

#[test]
fn two_shards_are_small() {
    let config = Config::new().shards(2).listen("127.0.0.1:0".parse().expect("address"));
    let bound = Bound::new(config, SocketOptions::default());
    let clients: Vec<_> = (0..20).map(|_| client("127.0.0.1:0")).collect();
    // What waits when the shards begin fills as many buffers as there are.
    for client in &clients {
        for _ in 0..5 {
            client.send_to(&[7; 60_000], bound.addresses[0]).expect("send");
        }
    }
    let shards = bound.start(true);
    for client in &clients {
        assert_eq!(receive(client).0.len(), 60_000);
    }
    let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
    let resident: u64 = pages.split(' ').nth(1).expect("resident").parse().expect("number");
    let mib = (resident * 4096) >> 20;
    println!("{mib} MiB resident");
    assert!(mib < 96, "{mib} MiB resident");
    shards.stop();
}
