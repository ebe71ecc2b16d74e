//! A wildcard listener learns where a datagram was sent to, and replies leave from there.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};

use shardgram_sys::{ControlBuilder, ControlSpace, ListenerGroup, SocketOptions};

fn assert_reply_leaves_from(server: &UdpSocket, port: u16, local: IpAddr) {
    let client = UdpSocket::bind((local, 0)).expect("client");
    client.set_read_timeout(Some(support::PATIENCE)).expect("timeout");
    let to = SocketAddr::new(local, port);
    // Connected, so it takes a reply from this very address only.
    client.connect(to).expect("connect");
    client.send(b"question").expect("send");

    let question = support::receive(server).expect("receive");
    assert_eq!(question.control.destination, Some(local));
    assert_eq!(question.control.local, Some(local));
    assert_ne!(question.control.interface, 0);

    let mut space = ControlSpace::new();
    let len = ControlBuilder::new(&mut space).packet_info(local, question.control.interface).finish();
    support::send(server, b"answer", question.source, &mut space, len).expect("reply");
    let mut payload = [0; 16];
    let len = client.recv(&mut payload).expect("the answer");
    assert_eq!(&payload[..len], b"answer");
}

#[test]
fn ipv4_replies_leave_from_the_address_that_was_asked() {
    let mut group = ListenerGroup::bind("0.0.0.0:0".parse().expect("address"), 1, &SocketOptions::default())
        .expect("group");
    let server = group.take_sockets().remove(0);
    for local in ["127.0.0.1", "127.0.0.2", "127.9.8.7"] {
        assert_reply_leaves_from(&server, group.local_addr().port(), local.parse().expect(local));
    }
}

#[test]
fn ipv6_replies_leave_from_the_address_that_was_asked() {
    if !support::here("[::1]:0") {
        return;
    }
    let mut addresses = vec![Ipv6Addr::LOCALHOST];
    // Where that is skipped, the rest is still worth running.
    if support::enter_network_for_addresses() {
        for last in [2, 3] {
            let address = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, last);
            support::add_loopback_address(address);
            addresses.push(address);
        }
    }
    let mut group =
        ListenerGroup::bind("[::]:0".parse().expect("address"), 1, &SocketOptions::default()).expect("group");
    let server = group.take_sockets().remove(0);
    for local in addresses {
        assert_reply_leaves_from(&server, group.local_addr().port(), local.into());
    }
}

#[test]
fn a_specific_listener_sends_none() {
    let mut group =
        ListenerGroup::bind("127.0.0.1:0".parse().expect("address"), 1, &SocketOptions::default())
            .expect("group");
    let server = group.take_sockets().remove(0);
    let client = UdpSocket::bind("127.0.0.1:0").expect("client");
    client.send_to(b"question", group.local_addr()).expect("send");
    assert_eq!(support::receive(&server).expect("receive").control, shardgram_sys::Control::default());
}
