//! The kernel's program and `flow_shard` choose the same shard for every flow.
#![cfg(target_os = "linux")]

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};

use shardgram_sys::{ListenerGroup, SocketOptions, Steering, flow_shard};

/// Flows in flight at once: far below what a default receive buffer holds.
const BATCH: usize = 50;

fn group(address: SocketAddr, shards: u16) -> (ListenerGroup, Vec<UdpSocket>) {
    let mut group = ListenerGroup::bind(address, shards, &SocketOptions::default()).expect("group");
    assert_eq!(*group.steering(), Steering::FlowHash);
    let sockets = group.take_sockets();
    for socket in &sockets {
        socket.set_nonblocking(true).expect("non-blocking");
    }
    (group, sockets)
}

/// Sends one datagram from each client, and counts per listener; each must be the right one.
fn assert_steered(listeners: &[UdpSocket], to: SocketAddr, clients: &[UdpSocket]) -> Vec<usize> {
    let shards = listeners.len() as u16;
    let mut counts = vec![0; listeners.len()];
    for batch in clients.chunks(BATCH) {
        for client in batch {
            client.send_to(b"flow", to).expect("send");
        }
        let mut missing = batch.len();
        support::until("every datagram arrived", || {
            for (shard, listener) in listeners.iter().enumerate() {
                let mut payload = [0; 16];
                while let Ok((_, source)) = listener.recv_from(&mut payload) {
                    assert_eq!(flow_shard(source, shards), shard as u16, "{source} over {shards} shards");
                    counts[shard] += 1;
                    missing -= 1;
                }
            }
            missing == 0
        });
    }
    counts
}

/// Sources all over 127.0.0.0/8.
fn source_v4(random: &mut support::Random) -> IpAddr {
    let word = 0x7F00_0000 | (random.next() as u32 & 0x00FF_FFFF);
    // Not the network's own two ends, which are broadcast addresses to some kernels.
    Ipv4Addr::from(word.clamp(0x7F00_0001, 0x7FFF_FFFE)).into()
}

#[test]
fn ipv4_flows_are_steered_as_computed() {
    let mut random = support::Random::seeded("--test steering");
    for shards in [1, 2, 3, 7] {
        let (group, listeners) = group("127.0.0.1:0".parse().expect("address"), shards);
        let client = |_| UdpSocket::bind((source_v4(&mut random), 0)).expect("client");
        let clients: Vec<_> = (0..300).map(client).collect();
        assert_steered(&listeners, group.local_addr(), &clients);
    }
}

#[test]
fn ipv4_options_do_not_move_a_flow() {
    let (group, listeners) = group("127.0.0.1:0".parse().expect("address"), 3);
    let client = |_| {
        let client = UdpSocket::bind("127.0.0.1:0").expect("client");
        support::set_option(&client, libc::IPPROTO_IP, libc::IP_OPTIONS, &[1; 40]).expect("40 no-operations");
        client
    };
    let clients: Vec<_> = (0..100).map(client).collect();
    assert_steered(&listeners, group.local_addr(), &clients);
}

#[test]
fn empty_datagrams_are_steered_too() {
    let (group, listeners) = group("127.0.0.1:0".parse().expect("address"), 3);
    for _ in 0..60 {
        let client = UdpSocket::bind("127.0.0.1:0").expect("client");
        client.send_to(b"", group.local_addr()).expect("send");
        let shard = usize::from(flow_shard(client.local_addr().expect("name"), 3));
        support::until("it arrived", || listeners[shard].recv_from(&mut [0; 1]).is_ok());
    }
}

#[test]
fn ipv6_ports_are_steered_as_computed() {
    if !support::here("[::1]:0") {
        return;
    }
    for shards in [1, 2, 3, 7] {
        let (group, listeners) = group("[::1]:0".parse().expect("address"), shards);
        let clients: Vec<_> = (0..300).map(|_| UdpSocket::bind("[::1]:0").expect("client")).collect();
        assert_steered(&listeners, group.local_addr(), &clients);
    }
}

#[test]
fn ipv6_addresses_are_steered_as_computed() {
    if !support::enter_network_for_addresses() {
        return;
    }
    let mut random = support::Random::seeded("--test steering");
    // The last bit keeps them apart from the server's.
    let word = |random: &mut support::Random| random.next() as u16 | 1;
    let sources: Vec<Ipv6Addr> = (0..20)
        .map(|_| Ipv6Addr::new(0xfd00, 0, 0, 0, 0, word(&mut random), word(&mut random), word(&mut random)))
        .collect();
    let server = Ipv6Addr::new(0xfd00, 0, 0, 0, 0, 0, 0, 2);
    for source in sources.iter().chain([&server]) {
        support::add_loopback_address(*source);
    }
    let (group, listeners) = group((server, 0).into(), 3);
    let client = |flow: usize| UdpSocket::bind((sources[flow % sources.len()], 0)).expect("client");
    let clients: Vec<_> = (0..300).map(client).collect();
    assert_steered(&listeners, group.local_addr(), &clients);
}

#[test]
fn three_thousand_flows_balance_over_three_listeners() {
    let mut random = support::Random::seeded("--test steering");
    let (group, listeners) = group("127.0.0.1:0".parse().expect("address"), 3);
    let mut counts = vec![0; 3];
    for _ in 0..30 {
        let client = |_| UdpSocket::bind((source_v4(&mut random), 0)).expect("client");
        let clients: Vec<_> = (0..100).map(client).collect();
        for (total, one) in counts.iter_mut().zip(assert_steered(&listeners, group.local_addr(), &clients)) {
            *total += one;
        }
    }
    // Where each flow went was asserted exactly; this asserts that the formula itself balances.
    // A fair split has a standard deviation of 26.
    assert_eq!(counts.iter().sum::<usize>(), 3000);
    assert!(counts.iter().all(|count| (850..1150).contains(count)), "{counts:?}");
}

#[test]
fn a_socket_that_joins_later_gets_nothing() {
    let (group, listeners) = group("127.0.0.1:0".parse().expect("address"), 2);
    let late = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::DGRAM, None).expect("socket");
    late.set_reuse_port(true).expect("SO_REUSEPORT");
    late.bind(&group.local_addr().into()).expect("the same user may join");
    let clients: Vec<_> = (0..300).map(|_| UdpSocket::bind("127.0.0.1:0").expect("client")).collect();
    assert_steered(&listeners, group.local_addr(), &clients);
}
