//! Multicast groups are heard as they were joined, each datagram by one shard, and answered from the address of the
//! interface by which it came.
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use shardgram::{Backend, BindError, Config, Interface, JoinError, Membership, Server, StartError};
use socket2::{Domain, Protocol, Socket, Type};

use crate::common::Bed;
use crate::common::many::{
    BY, Between, HERE, Heard, Hearing, PORT, Say, THERE, Told, answer, ask, index, member, nothing_more,
    wildcards,
};
use crate::common::namespace::run;

const GROUPS: [&str; 2] = ["239.1.2.3", "ff05::77"];
/// What is sent to these after something that should not be heard is heard by the same socket, and comes later.
const FENCES: [&str; 2] = ["239.9.9.9", "ff05::99"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn named(device: &str) -> Interface {
    Interface::named(device).unwrap()
}

fn at(text: &str) -> SocketAddr {
    SocketAddr::new(ip(text), PORT)
}

fn group(text: &str) -> Membership {
    Membership::any_source(ip(text))
}

fn heard(bytes: &[u8], local: &str, group: &str) -> Heard {
    Heard { bytes: bytes.to_vec(), local: ip(local), group: Some(ip(group)) }
}

/// By one interface, on one of two shards.
fn one_hears_by_the_interface_it_joined(bed: Bed) {
    let net = Between::new();
    let config =
        GROUPS.iter().fold(wildcards().shards(2), |config, text| config.join(group(text).on(named(BY[0]))));
    let config = FENCES.iter().fold(config, |config, text| config.join(group(text).on(named(BY[1]))));
    let hearing = Hearing::begin(bed, config);
    for v6 in [0, 1] {
        // The group is joined by the other interface only.
        let stranger = net.client(1, THERE[1][v6]);
        stranger.send_to(b"not heard", at(GROUPS[v6])).unwrap();
        assert_eq!(ask(&stranger, at(FENCES[v6]), b"fence"), at(HERE[1][v6]));
        assert_eq!(hearing.heard(), heard(b"fence", HERE[1][v6], FENCES[v6]));
        // Several, so that both shards own some of them. All are open until the end, so that no two of them have the same
        // port and are one peer.
        let clients: Vec<_> = (0..8).map(|_| net.client(0, THERE[0][v6])).collect();
        for (round, client) in (0..).zip(&clients) {
            assert_eq!(ask(client, at(GROUPS[v6]), &[round]), at(HERE[0][v6]));
            assert_eq!(hearing.heard(), heard(&[round], HERE[0][v6], GROUPS[v6]));
            // To an address of the host it is the same peer.
            assert_eq!(ask(client, at(HERE[0][v6]), b"again"), at(HERE[0][v6]));
            assert_eq!(hearing.heard().group, None);
            nothing_more(client);
        }
    }
    assert!(hearing.told.try_recv().is_err(), "each was heard once");
    let stats = hearing.end();
    assert_eq!((stats.received, stats.delivered, stats.peers_opened), (34, 34, 18), "{stats:?}");
    assert_eq!(stats.forwarded_out, stats.forwarded_in, "{stats:?}");
}

/// Each network's clients are answered from the address in it, and link-local ones from a link-local address.
fn the_interfaces_own_address_answers(bed: Bed) {
    let net = Between::new();
    let mut config = wildcards();
    for device in BY {
        config = GROUPS.iter().fold(config, |config, text| config.join(group(text).on(named(device))));
        // By its address, which names an interface of either family.
        config = config.join(group("ff02::1:7").on(Interface::of(ip(HERE[usize::from(device == BY[1])][0]))));
    }
    let hearing = Hearing::begin(bed, config);
    for network in [0, 1] {
        for v6 in [0, 1] {
            for source in [THERE[network][v6], THERE[network][v6 + 2]] {
                let client = net.client(network, source);
                assert_eq!(ask(&client, at(GROUPS[v6]), b"who?"), at(HERE[network][v6]));
                assert_eq!(hearing.heard(), heard(b"who?", HERE[network][v6], GROUPS[v6]));
            }
        }
        let client = net.client(network, "::");
        // From an unbound socket the system takes the link-local address for a group of the link.
        let from = ask(&client, at("ff02::1:7"), b"who?");
        let IpAddr::V6(from) = from.ip() else { panic!("{from}") };
        assert!(from.is_unicast_link_local(), "{from}");
        assert!(run(&format!("ip -6 addr show dev {}", BY[network])).contains(&from.to_string()), "{from}");
        assert_eq!(hearing.heard(), heard(b"who?", &from.to_string(), "ff02::1:7"));
    }
    assert_eq!(hearing.end().delivered, 10);
}

fn a_source_is_heard_alone(bed: Bed) {
    let net = Between::new();
    let groups = ["232.1.1.1", "ff35::77"];
    let mut config = wildcards().shards(2);
    for v6 in [0, 1] {
        let feed = Membership::source_specific(ip(groups[v6]), ip(THERE[0][v6])).unwrap();
        config = config.join(feed.on(named(BY[0]))).join(group(FENCES[v6]).on(named(BY[0])));
    }
    let hearing = Hearing::begin(bed, config);
    for v6 in [0, 1] {
        let other = net.client(0, THERE[0][v6 + 2]);
        other.send_to(b"not heard", at(groups[v6])).unwrap();
        ask(&other, at(FENCES[v6]), b"fence");
        assert_eq!(hearing.heard(), heard(b"fence", HERE[0][v6], FENCES[v6]));
        let source = net.client(0, THERE[0][v6]);
        assert_eq!(ask(&source, at(groups[v6]), b"news"), at(HERE[0][v6]));
        assert_eq!(hearing.heard(), heard(b"news", HERE[0][v6], groups[v6]));
    }
    assert_eq!(hearing.end().received, 4);
}

fn every_shard_hears_where_that_is_asked_for(bed: Bed) {
    let net = Between::new();
    let everywhere = |text: &str| group(text).on(named(BY[0])).every_shard();
    let config = wildcards().shards(3).join(everywhere(GROUPS[0])).join(everywhere(GROUPS[1]));
    let hearing = Hearing::begin(bed, config);
    for v6 in [0, 1] {
        let client = net.client(0, THERE[0][v6]);
        client.send_to(b"all", at(GROUPS[v6])).unwrap();
        for _ in 0..3 {
            assert_eq!(answer(&client, b"all"), at(HERE[0][v6]));
        }
        let mut shards: Vec<_> = (0..3)
            .map(|_| match hearing.next() {
                Told::Datagram { shard, group, .. } if group == Some(ip(GROUPS[v6])) => shard,
                other => panic!("{other:?}"),
            })
            .collect();
        shards.sort_unstable();
        assert_eq!(shards, [0, 1, 2]);
    }
    let stats = hearing.end();
    assert_eq!((stats.received, stats.delivered, stats.forwarded_out), (6, 6, 0), "{stats:?}");
}

fn the_shard_that_was_named_receives(bed: Bed) {
    let net = Between::new();
    run("sysctl -qw net.ipv4.udp_early_demux=0");
    let config = wildcards().shards(3).join(group(GROUPS[0]).on(named(BY[0])).shard(2));
    let hearing = Hearing::begin(bed, config.join(group(GROUPS[1]).on(named(BY[0])).shard(2)));
    for v6 in [0, 1] {
        for round in 0..8 {
            let client = net.client(0, THERE[0][v6]);
            assert_eq!(ask(&client, at(GROUPS[v6]), &[round]), at(HERE[0][v6]));
            assert_eq!(hearing.heard(), heard(&[round], HERE[0][v6], GROUPS[v6]));
        }
    }
    let stats = hearing.shard_stats();
    assert_eq!(stats.iter().map(|shard| shard.received).collect::<Vec<_>>(), [0, 0, 16]);
    assert_eq!(hearing.end().delivered, 16);
}

/// What other programs of the host have joined is not heard.
fn others_groups_are_not_heard(bed: Bed) {
    let net = Between::new();
    let config = FENCES.iter().fold(wildcards(), |config, text| config.join(group(text).on(named(BY[0]))));
    let hearing = Hearing::begin(bed, config);
    for v6 in [0, 1] {
        let other = member(SocketAddr::new(ip(GROUPS[v6]), PORT + 1), ip(HERE[0][v6]), BY[0]);
        let client = net.client(0, THERE[0][v6]);
        client.send_to(b"not heard", at(GROUPS[v6])).unwrap();
        client.send_to(b"heard", SocketAddr::new(ip(GROUPS[v6]), PORT + 1)).unwrap();
        ask(&client, at(FENCES[v6]), b"fence");
        assert_eq!(hearing.heard().bytes, b"fence");
        assert_eq!(answer(&other, b"heard").ip(), ip(THERE[0][v6]));
    }
    assert_eq!(hearing.end().received, 2);
}

fn handlers_join_and_leave(bed: Bed) {
    let net = Between::new();
    let config = FENCES
        .iter()
        .fold(wildcards().shards(2), |config, text| config.join(group(text).on(named(BY[0])).shard(1)));
    let mut hearing = Hearing::begin(bed, config);
    for v6 in [0, 1] {
        let mine = group(GROUPS[v6]).on(named(BY[0]));
        let client = net.client(0, THERE[0][v6]);
        // The second is refused, so the first has been carried out.
        for _ in 0..2 {
            hearing.say(1, Say::Join(mine.clone()));
        }
        assert!(matches!(hearing.next(), Told::Group(JoinError::AlreadyJoined)));
        assert_eq!(ask(&client, at(GROUPS[v6]), b"heard"), at(HERE[0][v6]));
        assert_eq!(hearing.heard(), heard(b"heard", HERE[0][v6], GROUPS[v6]));
        for _ in 0..2 {
            hearing.say(1, Say::Leave(mine.clone()));
        }
        assert!(matches!(hearing.next(), Told::Group(JoinError::NotJoined)));
        client.send_to(b"not heard", at(GROUPS[v6])).unwrap();
        ask(&client, at(FENCES[v6]), b"fence");
        assert_eq!(hearing.heard().bytes, b"fence");
        hearing.say(0, Say::Join(group(GROUPS[v6]).on(named("nowhere0"))));
        let Told::Group(JoinError::UnknownInterface(nowhere)) = hearing.next() else { panic!("refused") };
        assert_eq!(nowhere, named("nowhere0"));
    }
    let stats = hearing.end();
    assert_eq!(stats.received, 4, "{stats:?}");
}

/// As a client does that looks for services.
fn endpoints_join_too(bed: Bed) {
    let net = Between::new();
    let mut hearing = Hearing::begin(bed, Config::new().shards(2));
    for v6 in [0, 1] {
        let any = if v6 == 0 { "0.0.0.0" } else { "::" };
        hearing.say(1, Say::Open(at(any), group(GROUPS[v6]).on(named(BY[0]))));
        let Told::Opened(bound) = hearing.next() else { panic!("it opens") };
        assert_eq!(bound, at(any));
        for round in 0..4 {
            let client = net.client(0, THERE[0][v6]);
            assert_eq!(ask(&client, at(GROUPS[v6]), &[round]), at(HERE[0][v6]));
            let Told::Datagram { shard, group, .. } = hearing.next() else { panic!("it is heard") };
            assert_eq!((shard, group), (1, Some(ip(GROUPS[v6]))), "peers of an endpoint live on its shard");
            ask(&client, at(HERE[0][v6]), b"again");
            assert_eq!(hearing.heard().group, None);
        }
    }
    let stats = hearing.end();
    assert_eq!((stats.received, stats.delivered, stats.forwarded_out), (16, 16, 0), "{stats:?}");
}

/// A socket that hears the packets of all interfaces of a host, with their headers (packet(7)).
fn wire() -> Socket {
    const ALL: i32 = (libc::ETH_P_ALL as u16).to_be() as i32;
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ALL))).unwrap();
    socket.set_read_timeout(Some(crate::common::PATIENCE)).unwrap();
    socket
}

/// The source and the time to live of the next UDP datagram on the wire that ends like this.
fn next_on(wire: &Socket, end: &[u8]) -> (IpAddr, u8) {
    loop {
        let mut buffer = [0; 2_048];
        let len = std::io::Read::read(&mut &*wire, &mut buffer).expect("a packet");
        let packet = &buffer[..len];
        if !packet.ends_with(end) {
            continue;
        }
        return match packet[0] >> 4 {
            4 => (Ipv4Addr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap()).into(), packet[8]),
            _ => (IpAddr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap()), packet[7]),
        };
    }
}

fn what_is_sent_to_groups_leaves_as_configured(mut bed: Bed) {
    let net = Between::new();
    // The last word is that of the configuration, not of the routes.
    run("ip route add 239.0.0.0/8 dev v0");
    let backend = match &bed {
        Bed::Real(backend) => *backend,
        Bed::Sim(_) => unreachable!("real sockets"),
    };
    let plain = || Config::new().multicast_interface(named(BY[1]));
    let configs = [(plain(), 1, true), (plain().multicast_hops(7).multicast_loop(false), 7, false)];
    for (config, hops, looped) in configs {
        let mut hearing = Hearing::begin(bed, config);
        for v6 in [0, 1] {
            let to = SocketAddr::new(ip(GROUPS[v6]), PORT + 2);
            let here = member(to, ip(HERE[1][v6]), BY[1]);
            let (there, wire) = net.hosts[1].inside(|| (member(to, ip(THERE[1][v6]), "e0"), wire()));
            hearing.say(0, Say::Send(to, b"to the group".to_vec()));
            assert_eq!(answer(&there, b"to the group").ip(), ip(HERE[1][v6]));
            assert_eq!(next_on(&wire, b"to the group"), (ip(HERE[1][v6]), hops));
            if looped {
                assert_eq!(answer(&here, b"to the group").ip(), ip(HERE[1][v6]));
            }
            // What was looped would have come before this.
            hearing.say(0, Say::Send(SocketAddr::new(ip(HERE[1][v6]), PORT + 2), b"fence".to_vec()));
            answer(&here, b"fence");
        }
        let stats = hearing.end();
        assert_eq!((stats.sent(), stats.send_failed()), (4, 0), "{stats:?}");
        bed = Bed::Real(backend);
    }
}

fn what_cannot_be_joined_is_refused_at_bind(bed: Bed) {
    let _net = Between::new();
    let Bed::Real(backend) = bed else { unreachable!("real sockets") };
    let refused = |config: Config| match Server::bind(config.backend(backend)) {
        Ok(_) => panic!("it binds"),
        Err(error) => error,
    };
    let join = |membership: Membership| match refused(wildcards().shards(2).join(membership)) {
        StartError::Join { error, .. } => error,
        other => panic!("{other}"),
    };
    assert_eq!(join(group(GROUPS[0]).on(named("v9"))), JoinError::UnknownInterface(named("v9")));
    assert_eq!(
        join(group(GROUPS[1]).on(Interface::index(4_711).unwrap())),
        JoinError::UnknownInterface(Interface::index(4_711).unwrap())
    );
    assert_eq!(
        join(group(GROUPS[0]).on(Interface::of(ip("192.0.2.1")))),
        JoinError::UnknownInterface(Interface::of(ip("192.0.2.1")))
    );
    assert_eq!(join(group(GROUPS[0])), JoinError::NoRoute { group: ip(GROUPS[0]) });
    // Of a socket 20 are allowed (net.ipv4.igmp_max_memberships).
    let many = |count| {
        (0..count).fold(wildcards(), |config, at| {
            config.join(Membership::any_source([239, 0, 0, at]).on(Interface::index(index(BY[0])).unwrap()))
        })
    };
    let error = refused(many(21));
    assert!(matches!(&error, StartError::Join { error: JoinError::SystemLimit { .. }, .. }), "{error}");
    assert!(error.to_string().contains("239.0.0.20 by the interface"), "{error}");
    assert!(error.to_string().contains("net.ipv4.igmp_max_memberships"), "{error}");
    assert!(Server::bind(many(20).backend(backend)).is_ok());
    let error = refused(wildcards().multicast_interface(named("v9")));
    let nowhere = matches!(
        &error,
        StartError::Bind(BindError::ToGroups { source: JoinError::UnknownInterface(_), .. })
    );
    assert!(nowhere, "{error}");
    // Nothing stays bound.
    assert!(Server::bind(wildcards().backend(Backend::Mio)).is_ok());
}

in_namespaces!(
    one_hears_by_the_interface_it_joined,
    the_interfaces_own_address_answers,
    a_source_is_heard_alone,
    every_shard_hears_where_that_is_asked_for,
    the_shard_that_was_named_receives,
    others_groups_are_not_heard,
    handlers_join_and_leave,
    endpoints_join_too,
    what_is_sent_to_groups_leaves_as_configured,
    what_cannot_be_joined_is_refused_at_bind,
);
