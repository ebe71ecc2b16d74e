//! Groups of specific addresses stand beside the wildcard group and take what is theirs.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use shardgram_sys::{BindError, ListenerGroup, SocketOptions, Steering, flow_shard};

#[test]
fn the_specific_group_takes_its_address_and_the_wildcard_the_rest() {
    let options = SocketOptions::default();
    for shards in [1, 3] {
        let mut wildcard =
            ListenerGroup::bind("0.0.0.0:0".parse().expect("address"), shards, &options).expect("wildcard");
        let mut specific = wildcard.bind_beside([127, 0, 0, 1].into(), 0, &options).expect("specific");
        assert_eq!(*specific.steering(), Steering::FlowHash);
        assert!(wildcard.is_wildcard() && !specific.is_wildcard());
        let port = wildcard.local_addr().port();
        assert_eq!(specific.local_addr(), SocketAddr::from(([127, 0, 0, 1], port)));

        for (group, ip) in [(&mut specific, [127, 0, 0, 1]), (&mut wildcard, [127, 0, 0, 2])] {
            let sockets = group.take_sockets();
            assert_eq!(sockets.len(), usize::from(shards));
            for _ in 0..50 {
                let client = UdpSocket::bind("127.0.0.1:0").expect("client");
                client.send_to(b"hello", (IpAddr::from(ip), port)).expect("send");
                let shard = flow_shard(client.local_addr().expect("name"), shards);
                let received = support::receive(&sockets[usize::from(shard)]).expect("receive");
                assert_eq!(received.source, client.local_addr().expect("name"));
            }
        }
    }
}

#[test]
fn what_does_not_fit_beside_is_refused() {
    let options = SocketOptions::default();
    let wildcard = ListenerGroup::bind("0.0.0.0:0".parse().expect("address"), 2, &options).expect("wildcard");
    let beside = |ip: &str| wildcard.bind_beside(ip.parse().expect(ip), 0, &options).expect_err(ip);
    assert!(matches!(beside("::1"), BindError::FamilyMismatch { .. }));
    assert!(matches!(beside("127.255.255.255"), BindError::NotUnicast { .. }));
    assert!(matches!(beside("224.0.0.1"), BindError::NotUnicast { .. }));
    assert!(matches!(beside("192.0.2.1"), BindError::AddressNotAvailable { .. }));
}
