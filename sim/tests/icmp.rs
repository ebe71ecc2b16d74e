//! ICMP errors reach whom they reach on real systems: sockets that are connected, and what hosts learn of paths.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, Handler, PathMtu, PeerError, PeerId, TierPolicy, Via,
};
use shardgram_sim::{LinkConfig, Sim, SocketKey};
use support::{SECOND, addr, ip, listening, payloads};

thread_local! {
    static ERRORS: RefCell<Vec<(SocketAddr, PeerError)>> = const { RefCell::new(Vec::new()) };
}

/// Sends as many bytes as it is told, to whoever told it, and notes what goes wrong.
struct Sender;

impl Handler for Sender {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Peer(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        let len = u16::from_be_bytes(datagram[..2].try_into().expect("a length"));
        cx.io.send(from, &vec![7; len.into()]).expect("room");
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        let path = cx.io.path(peer).expect("it is there");
        ERRORS.with_borrow_mut(|errors| errors.push((path.remote, error)));
    }
}

struct Bed {
    sim: Sim,
    client: SocketKey,
    server: shardgram_sim::NodeId<()>,
}

impl Bed {
    fn new(config: &Config) -> Self {
        let mut sim = Sim::new(1);
        let server = sim.server(&[ip("10.0.0.1")], config, |_| Sender).expect("starts");
        let client = sim.socket(addr("10.0.0.2:5000"));
        Self { sim, client, server }
    }

    /// The server's link to the client.
    fn back(&mut self, link: LinkConfig) {
        self.sim.link_between(ip("10.0.0.1"), ip("10.0.0.2"), link);
    }

    /// Has it send so many bytes. How many came, and what it heard of.
    fn ask(&mut self, len: u16) -> (Vec<usize>, Vec<PeerError>) {
        self.sim.send(self.client, addr("10.0.0.1:7"), &len.to_be_bytes());
        assert!(self.sim.run_until_quiet(SECOND));
        let got = payloads(&mut self.sim, self.client).iter().map(Vec::len).collect();
        (got, ERRORS.take().into_iter().map(|(_, error)| error).collect())
    }
}

fn connected() -> Config {
    listening("10.0.0.1:7").tier(TierPolicy::Connected)
}

#[test]
fn a_port_without_a_socket_is_told_to_connected_peers_only() {
    for (config, heard) in [(connected(), vec![PeerError::Refused]), (listening("10.0.0.1:7"), vec![])] {
        let mut bed = Bed::new(&config);
        assert_eq!(bed.ask(5), (vec![5], vec![]));
        // It asks once more and is gone when the answer comes.
        bed.sim.send(bed.client, addr("10.0.0.1:7"), &5_u16.to_be_bytes());
        bed.sim.run_for(Duration::from_micros(60));
        bed.sim.close(bed.client);
        assert!(bed.sim.run_until_quiet(SECOND));
        let errors: Vec<_> = ERRORS.take().into_iter().map(|(_, error)| error).collect();
        assert_eq!(errors, heard);
        assert_eq!(bed.sim.counts().errors_sent, 1);
        assert_eq!(bed.sim.stats(&bed.server).peer_errors, heard.len() as u64);
    }
}

#[test]
fn a_host_that_nobody_is_says_nothing() {
    let mut sim = Sim::new(2);
    let socket = sim.socket(addr("10.0.0.2:5000"));
    sim.send(socket, addr("10.9.9.9:7"), b"x");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!((sim.counts().unclaimed, sim.counts().errors_sent), (1, 0));
    assert_eq!(sim.receive_error(socket), None);
}

#[test]
fn a_router_without_a_route() {
    let mut bed = Bed::new(&connected());
    assert_eq!(bed.ask(5), (vec![5], vec![]));
    bed.back(LinkConfig::new().unreachable(true));
    assert_eq!(bed.ask(5), (vec![], vec![PeerError::Unreachable]));
    bed.back(LinkConfig::new().unreachable(true).silent(true));
    assert_eq!(bed.ask(5), (vec![], vec![]));
    bed.back(LinkConfig::new());
    assert_eq!(bed.ask(5), (vec![5], vec![]));
    assert_eq!(bed.sim.stats(&bed.server).send_failed(), 0, "it was sent, and lost");
    assert_eq!(bed.sim.counts().lost, 2);
}

fn narrow() -> LinkConfig {
    LinkConfig::new().router_mtu(Some(1_280)).expect("in range")
}

const TOO_LONG: PeerError = PeerError::TooLong { mtu: Some(1_280) };
/// What fits into 1,280 bytes with headers, and one more.
const FITS: u16 = 1_252;
const TOO_MUCH: u16 = FITS + 1;

#[test]
fn hosts_learn_the_mtu_of_a_path_and_do_as_they_are_configured() {
    // With the first one too long, and with the second; whether they come.
    let cases = [
        (PathMtu::Refuse, [(false, true), (false, true)]),
        (PathMtu::Probe, [(false, true), (false, true)]),
        (PathMtu::System, [(false, true), (true, false)]),
        (PathMtu::Fragment, [(true, false), (true, false)]),
    ];
    for (mode, outcomes) in cases {
        let mut bed = Bed::new(&connected().path_mtu(mode));
        bed.back(narrow());
        assert_eq!(bed.ask(FITS), (vec![FITS.into()], vec![]), "{mode}");
        for (nth, (comes, heard)) in outcomes.into_iter().enumerate() {
            let got = if comes { vec![TOO_MUCH.into()] } else { vec![] };
            let errors = if heard { vec![TOO_LONG] } else { vec![] };
            assert_eq!(bed.ask(TOO_MUCH), (got, errors), "{mode}, the {nth}th");
        }
        // With Refuse the second one did not even leave.
        let stats = bed.sim.stats(&bed.server);
        assert_eq!(stats.send_failed_too_long, u64::from(mode == PathMtu::Refuse), "{mode}");
    }
}

#[test]
fn a_silent_router_is_a_black_hole_and_what_was_learned_is_forgotten() {
    let mut bed = Bed::new(&connected().path_mtu(PathMtu::Refuse).idle_timeout(None));
    bed.back(narrow().silent(true));
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![]));
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![]));
    bed.back(narrow());
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![TOO_LONG]));
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![TOO_LONG]));
    assert_eq!(bed.sim.counts().errors_sent, 1, "the second time the host knew");
    bed.sim.run_for(Duration::from_secs(601));
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![TOO_LONG]));
    assert_eq!(bed.sim.counts().errors_sent, 2, "it had to be told again");
}

#[test]
fn a_listener_learns_what_it_does_not_hear() {
    let mut bed = Bed::new(&listening("10.0.0.1:7").path_mtu(PathMtu::Refuse));
    bed.back(narrow());
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![]), "nothing is heard of it");
    assert_eq!(bed.ask(TOO_MUCH), (vec![], vec![TOO_LONG]), "but the next send fails");
}

/// Writes to where nobody is.
struct Caller;

impl Handler for Caller {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let socket = cx.io.endpoint(Endpoint::towards(addr("10.0.0.2:9"))).expect("room");
        let peer = cx.open(Via::Endpoint(socket), addr("10.0.0.2:9"), ()).expect("open");
        cx.io.send(peer, b"anybody?").expect("room");
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        panic!("an endpoint is not connected and heard of {error}");
    }
}

#[test]
fn endpoints_hear_nothing() {
    let mut sim = Sim::new(3);
    sim.socket(addr("10.0.0.2:5000"));
    let client = sim.server(&[ip("10.0.0.3")], &Config::new(), |_| Caller).expect("starts");
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&client);
    assert_eq!((sim.counts().errors_sent, stats.peer_errors, stats.restarts), (1, 0, 0));
}

#[test]
fn errors_can_be_forged() {
    let mut bed = Bed::new(&connected());
    assert_eq!(bed.ask(5), (vec![5], vec![]));
    let (server, client) = (addr("10.0.0.1:7"), addr("10.0.0.2:5000"));
    bed.sim.forge_error(server, client, PeerError::Refused);
    bed.sim.forge_error(server, addr("10.0.0.2:5001"), PeerError::Refused);
    bed.sim.forge_error(client, server, PeerError::Unreachable);
    assert!(bed.sim.run_until_quiet(SECOND));
    assert_eq!(ERRORS.take(), [(client, PeerError::Refused)]);
    assert_eq!(bed.sim.receive_error(bed.client), Some((server, PeerError::Unreachable)));
    // More than anybody could take in are dropped.
    for _ in 0..100_000 {
        bed.sim.forge_error(server, client, PeerError::Refused);
        bed.sim.forge_error(client, server, PeerError::Refused);
    }
    assert!(bed.sim.run_until_quiet(SECOND));
    assert_eq!(ERRORS.take().len(), 1_024);
    let heard = std::iter::from_fn(|| bed.sim.receive_error(bed.client)).count();
    assert_eq!(heard, 1_024);
    assert_eq!(bed.ask(5), (vec![5], vec![]));
}
