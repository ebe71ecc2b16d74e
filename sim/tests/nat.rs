//! Translators: who reaches whom, for how long, and what becomes of sessions when an address changes.

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{Accept, CloseReason, Context, Datagram, Handler, PeerError, PeerId, TierPolicy};
use shardgram_sim::{NatBehaviour, NatConfig, NatId, Sim, SocketKey};
use support::{SECOND, addr, all, ip, listening, payloads};

use NatBehaviour::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

const BEHAVIOURS: [NatBehaviour; 3] = [EndpointIndependent, AddressDependent, AddressAndPortDependent];

fn router() -> NatConfig {
    NatConfig::new(ip("203.0.113.1"), &[ip("192.168.0.2"), ip("192.168.0.3")])
}

/// Sends something and says from where it came, if it came.
fn pass(sim: &mut Sim, from: SocketKey, to: SocketKey, at: SocketAddr) -> Option<SocketAddr> {
    sim.send(from, at, b"x");
    assert!(sim.run_until_quiet(SECOND));
    let got = all(sim, to);
    assert!(got.len() < 2);
    assert_eq!(sim.counts().unaccounted(), 0);
    got.first().map(|received| received.from)
}

#[test]
fn mappings_depend_on_what_they_are_to() {
    for (behaviour, distinct) in BEHAVIOURS.into_iter().zip([1, 2, 3]) {
        let mut sim = Sim::new(1);
        sim.nat(router().mapping(behaviour));
        let inside = sim.socket(addr("192.168.0.2:5000"));
        // The first two are on one host.
        let outside = ["10.0.0.1:7", "10.0.0.1:8", "10.0.0.2:7"].map(|at| sim.socket(addr(at)));
        let mut seen = Vec::new();
        for _ in 0..2 {
            for to in outside {
                let at = sim.socket_addr(to);
                seen.push(pass(&mut sim, inside, to, at).expect("nothing is in the way"));
            }
        }
        assert_eq!(seen[..3], seen[3..], "a mapping stays");
        assert!(seen.iter().all(|from| from.ip() == ip("203.0.113.1") && from.port() >= 1_024));
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), distinct, "{behaviour:?}");
    }
}

#[test]
fn filters_let_in_whom_they_are_to() {
    for (behaviour, let_in) in
        BEHAVIOURS.into_iter().zip([[true; 3], [true, true, false], [true, false, false]])
    {
        let mut sim = Sim::new(2);
        sim.nat(router().filtering(behaviour));
        let inside = sim.socket(addr("192.168.0.2:5000"));
        let outside = ["10.0.0.1:7", "10.0.0.1:8", "10.0.0.2:7"].map(|at| sim.socket(addr(at)));
        let external = pass(&mut sim, inside, outside[0], addr("10.0.0.1:7")).expect("it leaves");
        let came = outside.map(|from| pass(&mut sim, from, inside, external).is_some());
        assert_eq!(came, let_in, "{behaviour:?}");
        let filtered = let_in.iter().filter(|let_in| !**let_in).count() as u64;
        assert_eq!((sim.counts().filtered, sim.counts().unclaimed), (filtered, 0));
    }
}

#[test]
fn neighbours_reach_each_other_directly_and_by_the_address_outside() {
    let mut sim = Sim::new(3);
    let nat = sim.nat(router().filtering(EndpointIndependent));
    let [a, b] = ["192.168.0.2:5000", "192.168.0.3:5000"].map(|at| sim.socket(addr(at)));
    assert_eq!(pass(&mut sim, a, b, addr("192.168.0.3:5000")), Some(addr("192.168.0.2:5000")));
    let outside = sim.socket(addr("10.0.0.1:7"));
    let external = pass(&mut sim, b, outside, addr("10.0.0.1:7")).expect("it leaves");
    assert_eq!(sim.nat_external(nat, addr("192.168.0.3:5000"), addr("10.0.0.1:7")), Some(external));
    let hairpin = pass(&mut sim, a, b, external).expect("it comes back in");
    assert_eq!(hairpin.ip(), ip("203.0.113.1"));
    assert_eq!(pass(&mut sim, b, a, hairpin), Some(external));
}

#[test]
fn what_is_silent_inside_is_forgotten() {
    let mut sim = Sim::new(4);
    let timeout = Duration::from_secs(30);
    sim.nat(router().idle_timeout(timeout).expect("in range"));
    assert!(router().idle_timeout(Duration::ZERO).is_err());
    let (inside, outside) = (sim.socket(addr("192.168.0.2:5000")), sim.socket(addr("10.0.0.1:7")));
    let first = pass(&mut sim, inside, outside, addr("10.0.0.1:7")).expect("it leaves");
    sim.run_for(timeout / 2);
    assert!(pass(&mut sim, outside, inside, first).is_some());
    sim.run_for(timeout / 2 + Duration::from_millis(1));
    assert!(pass(&mut sim, outside, inside, first).is_none(), "what comes in keeps nothing alive");
    let second = pass(&mut sim, inside, outside, addr("10.0.0.1:7")).expect("it leaves");
    assert_ne!(first, second);
    for _ in 0..3 {
        sim.run_for(timeout - Duration::from_millis(2));
        assert_eq!(pass(&mut sim, inside, outside, addr("10.0.0.1:7")), Some(second));
    }
}

#[test]
fn errors_find_the_way_back() {
    let mut sim = Sim::new(5);
    sim.nat(router());
    let inside = sim.socket(addr("192.168.0.2:5000"));
    sim.socket(addr("10.0.0.1:7"));
    assert_eq!(pass(&mut sim, inside, inside, addr("10.0.0.1:8")), None);
    assert_eq!(sim.receive_error(inside), Some((addr("10.0.0.1:8"), PeerError::Refused)));
}

/// Two hosts that were told of each other's address write to each other.
fn punch(mapping: NatBehaviour, filtering: NatBehaviour) -> bool {
    let mut sim = Sim::new(6);
    let hosts = [("192.168.0.2", "203.0.113.1"), ("192.168.1.2", "203.0.113.2")];
    let sockets = hosts.map(|(inside, outside)| {
        sim.nat(NatConfig::new(ip(outside), &[ip(inside)]).mapping(mapping).filtering(filtering));
        sim.socket(SocketAddr::new(ip(inside), 5_000))
    });
    let rendezvous = sim.socket(addr("10.0.0.1:7"));
    let known =
        sockets.map(|socket| pass(&mut sim, socket, rendezvous, addr("10.0.0.1:7")).expect("it leaves"));
    for _ in 0..3 {
        sim.send(sockets[0], known[1], b"hello");
        sim.run_for(Duration::from_millis(1));
        sim.send(sockets[1], known[0], b"hello");
        assert!(sim.run_until_quiet(SECOND));
    }
    sockets.iter().all(|socket| !all(&mut sim, *socket).is_empty())
}

#[test]
fn holes_are_punched_where_mappings_allow_it() {
    for filtering in BEHAVIOURS {
        assert!(punch(EndpointIndependent, filtering), "{filtering:?}");
    }
    assert!(!punch(AddressAndPortDependent, AddressAndPortDependent));
}

/// Knows its peers by the first byte they send and follows them from address to address.
#[derive(Default)]
struct Sessions {
    known: BTreeMap<u8, PeerId>,
}

impl Handler for Sessions {
    type Peer = u8;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u8> {
        let session = first[0];
        match self.known.get(&session) {
            Some(peer) => Accept::PathOf(*peer),
            None => Accept::Peer(session),
        }
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.known.insert(datagram[0], from);
        let path = datagram.path();
        if cx.io.path(from) != Some(path) {
            cx.io.use_path(from, path).expect("it came along it");
        }
        let len = datagram.len();
        let _ = cx.io.reply(datagram, len);
    }

    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, session: u8, _: CloseReason) {
        self.known.remove(&session);
    }
}

#[test]
fn a_session_survives_new_ports_and_new_addresses() {
    for tier in [TierPolicy::Listener, TierPolicy::Connected] {
        let mut sim = Sim::new(7);
        let nat: NatId = sim.nat(router());
        let config = listening("10.0.0.1:7").tier(tier);
        let server = sim.server(&[ip("10.0.0.1")], &config, |_| Sessions::default()).expect("starts");
        let clients = ["192.168.0.2:5000", "192.168.0.3:5000"].map(|at| sim.socket(addr(at)));
        for round in 0..10_u8 {
            for (session, client) in clients.into_iter().enumerate() {
                sim.send(client, addr("10.0.0.1:7"), &[session as u8, round]);
            }
            assert!(sim.run_until_quiet(SECOND));
            for (session, client) in clients.into_iter().enumerate() {
                assert_eq!(payloads(&mut sim, client), [[session as u8, round]], "{tier}, round {round}");
            }
            match round % 3 {
                0 => sim.nat_rebind(nat),
                1 => sim.nat_move(nat, ip(&format!("203.0.113.{}", 10 + round))),
                _ => {}
            }
        }
        let stats = sim.stats(&server);
        assert_eq!((stats.peers_opened, stats.delivered, stats.unaccounted()), (2, 20, 0), "{stats:?}");
    }
}
