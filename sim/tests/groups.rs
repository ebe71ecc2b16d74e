//! What is sent to multicast groups and broadcast addresses reaches those that hear it, as over real sockets.

mod support;

use std::cell::RefCell;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;

use shardgram_conformance::Echo;
use shardgram_core::{
    Accept, Config, Context, Datagram, Endpoint, Handler, JoinError, Membership, Origin, PeerError, PeerId,
    ShardInfo, Via,
};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, all, ip};

const GROUP: &str = "239.1.2.3";
const BROADCAST: &str = "255.255.255.255:7";

fn to_group() -> SocketAddr {
    SocketAddr::new(ip(GROUP), 7)
}

fn group() -> Membership {
    Membership::any_source(ip(GROUP))
}

/// On every address of 10.0.0.1, with three shards.
fn wildcard() -> Config {
    Config::new().listen(addr("0.0.0.0:7")).shards(3)
}

fn echo(sim: &mut Sim, config: &Config) -> NodeId<()> {
    sim.server(&[ip("10.0.0.1")], config, |_| Echo).expect("starts")
}

/// Each of these sends to an address and then to the node's; says from where answers came.
fn ask(sim: &mut Sim, to: SocketAddr) -> Vec<SocketAddr> {
    let mut from = Vec::new();
    for port in 5_000..5_016 {
        let client = sim.socket(SocketAddr::new(ip("10.0.0.2"), port));
        sim.send(client, to, b"who?");
        sim.send(client, addr("10.0.0.1:7"), b"you");
        assert!(sim.run_until_quiet(SECOND));
        from.extend(all(sim, client).into_iter().map(|got| got.from));
    }
    from
}

#[test]
fn one_shard_hears_and_the_owner_handles() {
    let mut sim = Sim::new(1);
    let server = echo(&mut sim, &wildcard().join(group().shard(1)));
    assert_eq!(ask(&mut sim, to_group()), [addr("10.0.0.1:7"); 32]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.peers_opened), (32, 32, 16), "a client is one peer");
    assert!(stats.forwarded_out > 0 && stats.forwarded_out < 16, "{stats:?}");
    assert_eq!(sim.shard_stats(&server, 1).forwarded_out, stats.forwarded_out);
    assert_eq!((stats.unaccounted(), sim.counts().unaccounted()), (0, 0));
}

#[test]
fn every_shard_hears_where_that_is_asked_for() {
    let mut sim = Sim::new(2);
    let server = echo(&mut sim, &wildcard().join(group().every_shard()));
    assert_eq!(ask(&mut sim, to_group()), [addr("10.0.0.1:7"); 64]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.peers_opened, stats.forwarded_out), (64, 48, 0), "{stats:?}");
    assert_eq!(sim.counts().unaccounted(), 0);
}

#[test]
fn broadcasts_are_heard_once_by_whoever_owns_the_sender() {
    let mut sim = Sim::new(3);
    let server = echo(&mut sim, &wildcard());
    assert_eq!(ask(&mut sim, addr(BROADCAST)), [addr("10.0.0.1:7"); 32]);
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.delivered, stats.peers_opened), (32, 32, 16), "{stats:?}");
    assert_eq!((stats.forwarded_out, stats.broadcast_copies), (0, 32), "{stats:?}");
}

#[test]
fn sources_are_told_apart() {
    let mut sim = Sim::new(4);
    let feed = |source| Membership::source_specific(ip(GROUP), ip(source)).expect("a source");
    let config = wildcard().join(feed("10.0.0.2")).join(feed("10.0.0.3"));
    let server = echo(&mut sim, &config);
    for source in ["10.0.0.2:9", "10.0.0.3:9", "10.0.0.4:9"] {
        sim.send_from(addr(source), to_group(), b"news");
    }
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(sim.stats(&server).received, 2);
    assert_eq!(sim.counts().unclaimed, 3, "what nobody heard, and two answers");
}

/// A node without an address stays in its groups.
#[test]
fn groups_are_heard_again_when_an_interface_is_back() {
    let mut sim = Sim::new(7);
    let server = echo(&mut sim, &wildcard().join(group()));
    for (there, heard) in [(true, 1), (false, 1), (true, 2)] {
        if there {
            assert_eq!(sim.add_address(&server, ip("10.0.0.1")), Ok(()));
        } else {
            assert!(sim.remove_address(&server, ip("10.0.0.1")));
        }
        sim.send_from(addr("10.0.0.2:9"), to_group(), b"x");
        assert!(sim.run_until_quiet(SECOND));
        assert_eq!(sim.stats(&server).received, heard);
    }
}

/// A source that cannot be one: an answer would reach all members.
#[test]
fn nobody_answers_a_group() {
    let mut sim = Sim::new(5);
    let server = echo(&mut sim, &wildcard());
    for source in ["239.1.2.3:9", "255.255.255.255:9"] {
        sim.send_from(addr(source), addr("10.0.0.1:7"), b"reflect");
    }
    assert!(sim.run_until_quiet(SECOND));
    let stats = sim.stats(&server);
    assert_eq!((stats.dropped_malformed, stats.sent(), stats.unaccounted()), (2, 0, 0), "{stats:?}");
}

type Notes = Rc<RefCell<Vec<String>>>;

/// What a handler is to do.
enum Say {
    Join(Membership),
    Leave(Membership),
    JoinByEndpoint(Membership),
    Send(SocketAddr),
}

/// Notes what it hears.
struct Noting(Notes);

impl Handler for Noting {
    type Peer = ();
    type Timer = ();
    type Message = Say;

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        assert!(!first.starts_with(b"boom"), "this panic is part of the test");
        let group = cx.io.group(first.meta()).map_or("itself".to_owned(), |group: IpAddr| group.to_string());
        self.0.borrow_mut().push(format!("heard {group}"));
        Accept::Done
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: Datagram<'_>) {}

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, say: Say) {
        let listener = Via::Listener(addr("0.0.0.0:7"));
        let asked = match say {
            Say::Join(membership) => cx.io.join(listener, membership),
            Say::Leave(membership) => cx.io.leave(listener, membership),
            Say::JoinByEndpoint(membership) => {
                let endpoint =
                    cx.io.endpoint(Endpoint::bound(addr("0.0.0.0:8")).any_source(true)).expect("room");
                cx.io.join(Via::Endpoint(endpoint), membership)
            }
            Say::Send(to) => {
                let endpoint = cx.io.endpoint(Endpoint::towards(to)).expect("room");
                let peer = cx.open(Via::Endpoint(endpoint), to, ()).expect("a peer");
                cx.io.send(peer, b"hello").expect("room");
                Ok(())
            }
        };
        if let Err(error) = asked {
            self.0.borrow_mut().push(format!("refused: {error:?}"));
        }
    }

    fn on_group_error(&mut self, _: &mut Context<'_, Self>, _: Via, group: Membership, error: JoinError) {
        self.0.borrow_mut().push(format!("{group}: {error:?}"));
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        self.0.borrow_mut().push(format!("{error:?}"));
    }
}

struct Noted {
    sim: Sim,
    server: NodeId<Say>,
    notes: Notes,
}

impl Noted {
    fn begin(config: &Config) -> Self {
        let (mut sim, notes) = (Sim::new(6), Notes::default());
        let theirs = Rc::clone(&notes);
        let make = move |_: ShardInfo| Noting(Rc::clone(&theirs));
        let server = sim.server(&[ip("10.0.0.1")], config, make).expect("starts");
        Self { sim, server, notes }
    }

    fn say(&mut self, say: Say) -> Vec<String> {
        assert!(self.server.tell(0, say).is_ok(), "the mailbox has room");
        assert!(self.sim.run_until_quiet(SECOND));
        self.notes.take()
    }

    fn send(&mut self, to: SocketAddr, bytes: &[u8]) -> Vec<String> {
        self.sim.send_from(addr("10.0.0.2:9"), to, bytes);
        assert!(self.sim.run_until_quiet(SECOND));
        self.notes.take()
    }
}

const NOTHING: [String; 0] = [];

impl Noted {
    /// Has the handler panic over what another says.
    fn fail(&mut self) {
        self.sim.send_from(addr("10.0.0.4:9"), addr("10.0.0.1:7"), b"boom");
        assert!(self.sim.run_until_quiet(SECOND));
        assert_eq!(self.notes.take(), NOTHING);
    }
}

#[test]
fn handlers_join_and_leave() {
    let mut noted = Noted::begin(&wildcard().shards(1));
    assert_eq!(noted.send(to_group(), b"x"), NOTHING);
    assert_eq!(noted.say(Say::Join(group())), NOTHING);
    assert_eq!(noted.send(to_group(), b"x"), ["heard 239.1.2.3"]);
    assert_eq!(noted.send(addr("10.0.0.1:7"), b"x"), ["heard itself"]);
    assert_eq!(noted.say(Say::Join(group())), ["239.1.2.3: AlreadyJoined"]);
    assert_eq!(noted.say(Say::Leave(group())), NOTHING);
    assert_eq!(noted.send(to_group(), b"x"), NOTHING);
    assert_eq!(noted.say(Say::Leave(group())), ["239.1.2.3: NotJoined"]);
    // What can be told at once.
    let refused = noted.say(Say::Join(Membership::any_source(ip("10.0.0.1"))));
    assert_eq!(refused, ["refused: NotMulticast { group: 10.0.0.1 }"]);
    let refused = noted.say(Say::Join(Membership::any_source(ip("ff02::1"))));
    assert_eq!(refused, ["refused: NoListener { group: ff02::1 }"]);
}

#[test]
fn endpoints_join_too() {
    let mut noted = Noted::begin(&Config::new());
    assert_eq!(noted.say(Say::JoinByEndpoint(group())), NOTHING);
    assert_eq!(noted.send(SocketAddr::new(ip(GROUP), 8), b"x"), ["heard 239.1.2.3"]);
    assert_eq!(noted.say(Say::Join(group())), ["refused: NoSuchSocket"], "there is no listener");
}

#[test]
fn a_fresh_handler_begins_with_the_groups_of_the_configuration() {
    let configured = Membership::any_source(ip("239.9.9.9"));
    let mut noted = Noted::begin(&wildcard().shards(1).join(configured.clone()));
    assert_eq!(noted.say(Say::Join(group())), NOTHING);
    noted.fail();
    assert_eq!(noted.sim.stats(&noted.server).restarts, 1);
    assert_eq!(noted.send(to_group(), b"x"), NOTHING, "the failed one had joined it");
    assert_eq!(noted.send(SocketAddr::new(configured.group(), 7), b"x"), ["heard 239.9.9.9"]);
    assert_eq!(noted.say(Say::Join(group())), NOTHING, "it may be joined anew");
}

/// Whether it left one of them, left it and joined it again, or joined it for one source in its place.
#[test]
fn also_if_the_failed_one_had_changed_them() {
    let configured = Membership::any_source(ip("239.9.9.9"));
    let one_source = Membership::source_specific(configured.group(), ip("10.0.0.3")).expect("a source");
    let to_it = SocketAddr::new(configured.group(), 7);
    for joined in [None, Some(&configured), Some(&one_source)] {
        let mut noted = Noted::begin(&wildcard().shards(1).join(configured.clone()));
        assert_eq!(noted.say(Say::Leave(configured.clone())), NOTHING);
        assert_eq!(noted.send(to_it, b"x"), NOTHING, "it is left");
        if let Some(joined) = joined {
            assert_eq!(noted.say(Say::Join(joined.clone())), NOTHING);
        }
        noted.fail();
        assert_eq!(noted.sim.stats(&noted.server).restarts, 1);
        assert_eq!(noted.send(to_it, b"x"), ["heard 239.9.9.9"], "{joined:?}");
        assert_eq!(noted.say(Say::Leave(configured.clone())), NOTHING, "{joined:?}");
        assert_eq!(noted.send(to_it, b"x"), NOTHING, "it may be left anew");
    }
}

#[test]
fn a_broadcast_wants_leave() {
    let hears = |config: Config| {
        let mut noted = Noted::begin(&config);
        let neighbour = noted.sim.socket(addr("10.0.0.3:7"));
        assert!(noted.sim.join(neighbour, ip("255.255.255.255")));
        let notes = noted.say(Say::Send(addr(BROADCAST)));
        (notes, all(&mut noted.sim, neighbour).len())
    };
    assert_eq!(hears(Config::new()), (vec!["Forbidden".to_owned()], 0));
    assert_eq!(hears(Config::new().broadcast(true)), (Vec::new(), 1));
}
