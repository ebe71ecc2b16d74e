//! What is told of a datagram beside its bytes: how it was marked, when and by which interface it came.
#![cfg(target_os = "linux")]

mod support;

use std::io::IoSlice;
use std::net::SocketAddr;
use std::time::SystemTime;

use shardgram_core::{Config, Ecn, Meta};
use shardgram_sys::{Heading, SocketOptions, send_message};
use support::{Bound, client, config};

/// What is told of a datagram and of each of a train, all of which were marked as CE.
fn told(listen: &str, from: &str, reports: impl Fn(Config) -> Config) -> [Meta; 3] {
    let shards = Bound::new(reports(config(&[listen])), SocketOptions::default()).start(true);
    let client = client(from);
    let to = SocketAddr::new(client.local_addr().expect("address").ip(), shards.address().port());
    // What is queued before the driver began has no interface.
    client.send_to(b"begun?", to).expect("send");
    shards.next_datagram();

    let send = |segment, bytes: &[u8]| {
        let heading = Heading { to, from: None, segment, traffic_class: Some(3) };
        send_message(&client, &heading, &[IoSlice::new(bytes)]).expect("send");
    };
    send(None, b"marked");
    send(Some(6), b"markedmarked");
    let metas = [0; 3].map(|_| {
        let (_, meta, bytes) = shards.next_datagram();
        assert_eq!(bytes, b"marked");
        meta
    });
    shards.stop();
    metas
}

#[test]
fn ecn_time_and_interface_are_told() {
    let families = [
        ("127.0.0.1:0", "127.0.0.1:0"),
        ("0.0.0.0:0", "127.0.0.1:0"),
        ("[::1]:0", "[::1]:0"),
        ("[::]:0", "[::1]:0"),
    ];
    for (listen, from) in families.into_iter().filter(|family| support::here(family.0)) {
        for (ecn, times) in [(false, false), (true, false), (false, true), (true, true)] {
            let metas = told(listen, from, |config| config.ecn(ecn).receive_timestamps(times));
            let case = format!("{listen} {ecn} {times}: {metas:?}");
            let mark = if ecn { Ecn::Ce } else { Ecn::NotEct };
            assert!(metas.iter().all(|meta| meta.ecn == mark), "{case}");
            assert!(metas.iter().all(|meta| meta.interface != 0), "{case}");
            assert_eq!(metas.map(|meta| meta.rest_of_train), [0, 1, 0], "{case}");
            let now = SystemTime::UNIX_EPOCH.elapsed().expect("after 1970");
            for meta in metas {
                assert_eq!(meta.kernel_time.is_some(), times, "{case}");
                let age = meta.kernel_time.map(|time| now.abs_diff(time));
                assert!(age.is_none_or(|age| age < support::PATIENCE), "{age:?}");
            }
        }
    }
}
