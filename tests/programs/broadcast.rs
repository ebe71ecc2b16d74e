//! Broadcasts are heard once, answered from this host's own address, and sent only where that is allowed.
use std::net::{IpAddr, SocketAddr};

use shardgram::{Config, PeerError};

use crate::common::Bed;
use crate::common::many::{
    Between, HERE, Heard, Hearing, PORT, Say, THERE, Told, answer, ask, nothing_more, wildcards,
};

const BROADCASTS: [&str; 2] = ["255.255.255.255", "10.77.0.255"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn each_is_heard_once_and_answered_from_an_own_address(bed: Bed) {
    let net = Between::new();
    let hearing = Hearing::begin(bed, wildcards().shards(3));
    let own = SocketAddr::new(ip(HERE[0][0]), PORT);
    // All are open until the end, so that no two of them have the same port and are one peer.
    let clients: Vec<_> = (0..16).map(|_| net.client(0, THERE[0][0])).collect();
    for (broadcast, clients) in BROADCASTS.into_iter().zip(clients.chunks(8)) {
        for (round, client) in (0..).zip(clients) {
            assert_eq!(ask(client, SocketAddr::new(ip(broadcast), PORT), &[round]), own);
            let expected = Heard { bytes: vec![round], local: own.ip(), group: Some(ip(broadcast)) };
            assert_eq!(hearing.heard(), expected);
            // It is the same peer that writes to the address.
            assert_eq!(ask(client, own, b"again"), own);
            assert_eq!(hearing.heard().group, None);
            nothing_more(client);
        }
    }
    let other = net.client(1, THERE[1][0]);
    assert_eq!(
        ask(&other, SocketAddr::new(ip(BROADCASTS[0]), PORT), b"here"),
        SocketAddr::new(ip(HERE[1][0]), PORT)
    );
    hearing.heard();
    assert!(hearing.told.try_recv().is_err(), "each was heard once");
    let stats = hearing.end();
    assert_eq!((stats.received, stats.delivered, stats.peers_opened), (33, 33, 17), "{stats:?}");
    assert_eq!((stats.forwarded_out, stats.broadcast_copies), (0, 2 * 17), "{stats:?}");
}

fn they_are_sent_where_that_is_allowed(bed: Bed) {
    let net = Between::new();
    let mut hearing = Hearing::begin(bed, Config::new().broadcast(true));
    let there = net.client(0, "0.0.0.0");
    let port = there.local_addr().unwrap().port();
    hearing.say(0, Say::Send(SocketAddr::new(ip(BROADCASTS[1]), port), b"anyone?".to_vec()));
    assert_eq!(answer(&there, b"anyone?").ip(), ip(HERE[0][0]));
    let stats = hearing.end();
    assert_eq!((stats.sent(), stats.send_failed()), (1, 0), "{stats:?}");
}

fn they_are_refused_where_it_is_not(bed: Bed) {
    let _net = Between::new();
    let mut hearing = Hearing::begin(bed, Config::new());
    hearing.say(0, Say::Send(SocketAddr::new(ip(BROADCASTS[1]), PORT), b"anyone?".to_vec()));
    let Told::Error(error) = hearing.next() else { panic!("it is told") };
    assert_eq!(error, PeerError::Forbidden);
    assert!(error.to_string().contains("Config::broadcast"), "{error}");
    assert_eq!(hearing.end().send_failed(), 1);
}

in_namespaces!(
    each_is_heard_once_and_answered_from_an_own_address,
    they_are_sent_where_that_is_allowed,
    they_are_refused_where_it_is_not,
);
