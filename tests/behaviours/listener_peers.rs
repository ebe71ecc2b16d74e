//! Peers opened from a listener's own port: what is sent leaves from there, and the answer is the peer's, whichever
//! shard the handler was on. Hole punching and NOTIFY are made of this.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::common::caller::{Call, Seen};
use crate::common::{Bed, loopback};
use shardgram::{Config, OpenError, PeerId, TierPolicy, Via, flow_shard};

const SHARDS: u16 = 4;

/// Has the peer opened, and something said to it: by shard 0, or by the one that it says is to do it.
fn open(call: &mut Call, local: SocketAddr, to: SocketAddr) -> PeerId {
    let attempt = move |shard: u16, call: &mut Call| {
        call.run(shard, move |cx| {
            let peer = cx.open(Via::Listener(local), to, ())?;
            cx.io.send(peer, b"are you there?").expect("room");
            Ok(peer)
        })
    };
    let owner = flow_shard(to, SHARDS);
    match attempt(0, call) {
        Ok(peer) => {
            assert_eq!(owner, 0, "shard 0 opens what it will hear, and nothing else");
            peer
        }
        Err(OpenError::NotHere { shard }) => {
            assert_eq!(shard, owner, "the error names the shard");
            attempt(shard, call).expect("the owner opens it")
        }
        Err(other) => panic!("{other}"),
    }
}

/// Where a listener is that listens there: on the wildcard, and on one address.
fn listeners(bed: &Bed, family: IpAddr) -> Vec<(SocketAddr, IpAddr)> {
    let loopback: IpAddr =
        if family.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() };
    let mut all = vec![(SocketAddr::new(loopback, 0), loopback), (SocketAddr::new(family, 0), loopback)];
    // A host of the simulator has only the addresses it was given.
    if let (Bed::Real(_), IpAddr::V4(_)) = (bed, family) {
        all.push((SocketAddr::new(family, 0), [127, 0, 0, 77].into()));
    }
    all
}

fn answers_reach_the_peer_that_was_opened(bed: Bed) {
    let tiers = bed.tiers();
    // Each round has a bed of its own, so that what one leaves behind does not help the next.
    let make = || match &bed {
        Bed::Real(backend) => Bed::Real(*backend),
        Bed::Sim(_) => Bed::sim(),
    };
    for family in [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()] {
        for (listen, local) in listeners(&bed, family) {
            for tier in tiers.clone() {
                round(make(), listen, local, tier);
            }
        }
    }
}

fn round(bed: Bed, listen: SocketAddr, local: IpAddr, tier: TierPolicy) {
    let mut call = Call::start(bed, Config::new().listen(listen).shards(SHARDS));
    let from = SocketAddr::new(local, call.bed.address(&call.server).port());
    let remotes: Vec<_> = (0..12).map(|_| call.bed.peer(from)).collect();
    let stranger = call.bed.peer(from);
    for remote in &remotes {
        let to = remote.address();
        let peer = open(&mut call, from, to);
        assert_eq!(peer.shard(), flow_shard(to, SHARDS));
        if tier == TierPolicy::Connected {
            call.run(peer.shard(), move |cx| cx.io.promote(peer));
        }
        let (source, asked) = call.bed.receive(remote);
        assert_eq!((source, &asked[..]), (from, &b"are you there?"[..]), "from the listener's own port");
        for answer in [&b"yes"[..], b"still"] {
            call.bed.send(remote, from, answer);
            let path = call.hears(peer, answer);
            assert_eq!((path.local, path.remote), (from, to));
        }
        let again = call.run(peer.shard(), move |cx| cx.open(Via::Listener(from), to, ()));
        assert_eq!(again, Err(OpenError::InUse(peer)));
    }
    call.bed.send(&stranger, from, b"and me?");
    assert_eq!(call.next(), Seen::Stranger { remote: stranger.address() }, "a listener hears everyone");
    let stats = call.drain();
    if tier == TierPolicy::Connected && listen.ip() == local {
        assert_eq!(stats.promoted, 12, "by sockets of their own: {stats:?}");
    }
    assert_eq!((stats.delivered, stats.peers_opened, stats.dropped_foreign), (24, 12, 0), "{stats:?}");
}

fn what_is_no_listener_opens_nothing(bed: Bed) {
    let mut call = Call::start(bed, loopback().listen(([0, 0, 0, 0], 0).into()));
    let [own, wildcard]: [SocketAddr; 2] = call.bed.addresses(&call.server).try_into().expect("two");
    let to = SocketAddr::from(([127, 0, 0, 1], 9));
    let port = (1..).find(|port| ![own.port(), wildcard.port()].contains(port)).expect("one of three");
    let elsewhere = SocketAddr::new(own.ip(), port);
    for nowhere in [wildcard, elsewhere] {
        let refused = call.run(0, move |cx| cx.open(Via::Listener(nowhere), to, ()));
        assert_eq!(refused, Err(OpenError::NoSuchListener(nowhere)));
    }
    let other_family = call.run(0, move |cx| cx.open(Via::Listener(own), "[::1]:9".parse().unwrap(), ()));
    assert_eq!(other_family, Err(OpenError::FamilyMismatch));
    let port_zero = call.run(0, move |cx| cx.open(Via::Listener(own), ([127, 0, 0, 1], 0).into(), ()));
    assert_eq!(port_zero, Err(OpenError::PortZero));
    assert_eq!(call.drain().peers_opened, 0);
}

on_all_drivers!(answers_reach_the_peer_that_was_opened, what_is_no_listener_opens_nothing);
