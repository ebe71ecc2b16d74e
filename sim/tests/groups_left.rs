//! What follows from a group that was left: by a handler, or because its handler failed.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::flow::flow_shard;
use shardgram_core::{
    Accept, AfterPanic, Config, Context, Datagram, Endpoint, Handler, Membership, Origin, PeerId, ShardInfo,
    Tier, Via,
};
use shardgram_sim::{NodeId, Sim};
use support::{SECOND, addr, ip};

const GROUP: &str = "239.1.2.3";
const CLIENT: &str = "10.0.0.2:5000";

fn to_group(port: u16) -> SocketAddr {
    SocketAddr::new(ip(GROUP), port)
}

fn group() -> Membership {
    Membership::any_source(ip(GROUP))
}

/// What a handler is to do.
#[derive(Clone)]
enum Say {
    Join(Membership),
    Leave(Membership),
    /// By an endpoint that a peer uses.
    JoinByEndpoint(Membership),
    Promote,
    /// Says whether it has peers with sockets of their own.
    Tiers,
}

/// Which shard heard what, and which has a peer with a socket of its own.
type Heard = Rc<RefCell<Vec<(u16, String)>>>;

struct Hears {
    shard: u16,
    heard: Heard,
    lets_in: bool,
    peers: Vec<PeerId>,
}

impl Hears {
    fn note(&self, what: impl Into<String>) {
        self.heard.borrow_mut().push((self.shard, what.into()));
    }
}

impl Handler for Hears {
    type Peer = ();
    type Timer = ();
    type Message = Say;

    const AFTER_PANIC: AfterPanic = AfterPanic::KeepPeers;

    fn accept(&mut self, _: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<()> {
        assert!(!first.starts_with(b"boom"), "this panic is part of the test");
        if self.lets_in {
            return Accept::Peer(());
        }
        self.note(String::from_utf8_lossy(first));
        Accept::Done
    }

    fn on_datagram(&mut self, _: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        self.note(String::from_utf8_lossy(&datagram));
        self.peers.push(from);
    }

    fn on_message(&mut self, cx: &mut Context<'_, Self>, _: Origin, say: Say) {
        let listener = Via::Listener(addr("0.0.0.0:7"));
        match say {
            Say::Join(membership) => cx.io.join(listener, membership).expect("it can be joined"),
            Say::Leave(membership) => cx.io.leave(listener, membership).expect("it can be left"),
            Say::JoinByEndpoint(membership) => {
                let endpoint = cx.io.endpoint(Endpoint::bound(addr("0.0.0.0:8")).any_source(true));
                let via = Via::Endpoint(endpoint.expect("room"));
                cx.io.join(via, membership).expect("it can be joined");
                cx.open(via, addr("10.0.0.3:9"), ()).expect("a peer");
            }
            Say::Tiers if self.peers.iter().any(|peer| cx.io.tier(*peer) == Some(Tier::Connected)) => {
                self.note("connected");
            }
            Say::Tiers => {}
            Say::Promote => self.peers.iter().for_each(|peer| cx.io.promote(*peer)),
        }
    }
}

struct Bed {
    sim: Sim,
    server: NodeId<Say>,
    heard: Heard,
    shards: u16,
}

impl Bed {
    fn begin(shards: u16, lets_in: bool) -> Self {
        let (mut sim, heard) = (Sim::new(8), Heard::default());
        let config = Config::new().listen(addr("0.0.0.0:7")).shards(shards).turn_budget(1);
        let theirs = Rc::clone(&heard);
        let make = move |info: ShardInfo| {
            let (heard, peers) = (Rc::clone(&theirs), Vec::new());
            Hears { shard: info.shard, heard, lets_in, peers }
        };
        let server = sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
        Self { sim, server, heard, shards }
    }

    fn say(&mut self, say: &Say) {
        for shard in 0..self.shards {
            assert!(self.server.tell(shard, say.clone()).is_ok(), "the mailbox has room");
        }
    }

    fn send(&mut self, from: &str, to: SocketAddr, bytes: &[u8]) {
        self.sim.send_from(addr(from), to, bytes);
    }

    /// What was heard since, in the order of shards.
    fn heard(&mut self) -> Vec<(u16, String)> {
        assert!(self.sim.run_until_quiet(SECOND));
        let mut heard = self.heard.take();
        heard.sort();
        heard
    }

    /// This, heard by every shard.
    fn by_all(&self, what: &[&str]) -> Vec<(u16, String)> {
        let all = (0..self.shards).flat_map(|shard| what.iter().map(move |what| (shard, (*what).to_owned())));
        all.collect()
    }
}

#[test]
fn an_endpoint_that_peers_keep_is_in_no_group_of_the_failed_handler() {
    let mut bed = Bed::begin(1, false);
    bed.say(&Say::JoinByEndpoint(group()));
    assert_eq!(bed.heard(), []);
    bed.send(CLIENT, to_group(8), b"one");
    assert_eq!(bed.heard(), bed.by_all(&["one"]));
    bed.send("10.0.0.4:9", addr("10.0.0.1:7"), b"boom");
    assert_eq!(bed.heard(), []);
    assert_eq!(bed.sim.stats(&bed.server).restarts, 1);
    bed.send(CLIENT, to_group(8), b"two");
    assert_eq!(bed.heard(), [], "the failed one had joined it");
    bed.send("10.0.0.3:9", addr("10.0.0.1:8"), b"three");
    assert_eq!(bed.heard(), bed.by_all(&["three"]), "its peer has it still");
}

#[test]
fn what_waits_of_a_group_that_every_shard_hears_stays_where_it_came() {
    let mut bed = Bed::begin(3, false);
    let every = group().every_shard();
    bed.say(&Say::Join(every.clone()));
    assert_eq!(bed.heard(), []);
    // One a turn is handed over, so the others wait while the group is left.
    for shard in 0..3 {
        bed.sim.stall(&bed.server.clone(), shard, Duration::from_millis(2));
    }
    for text in ["a", "b", "c"] {
        bed.send(CLIENT, to_group(7), text.as_bytes());
    }
    bed.sim.run_for(Duration::from_millis(1));
    bed.say(&Say::Leave(every));
    assert_eq!(bed.heard(), bed.by_all(&["a", "b", "c"]));
    assert_eq!(bed.sim.stats(&bed.server).forwarded_out, 0);
    bed.send(CLIENT, to_group(7), b"d");
    assert_eq!(bed.heard(), [], "it is left");
    // And nothing of it is remembered: what one shard hears is the owner's.
    let owner = flow_shard(addr(CLIENT), 3);
    let other = (owner + 1) % 3;
    assert!(bed.server.tell(other, Say::Join(group().shard(other))).is_ok());
    assert_eq!(bed.heard(), []);
    bed.send(CLIENT, to_group(7), b"e");
    assert_eq!(bed.heard(), [(owner, "e".to_owned())]);
}

#[test]
fn peers_of_a_group_that_was_left_catch_nothing_of_the_owner() {
    let mut bed = Bed::begin(3, true);
    let every = group().every_shard();
    bed.say(&Say::Join(every.clone()));
    assert_eq!(bed.heard(), []);
    bed.send(CLIENT, to_group(7), b"a");
    assert_eq!(bed.heard(), bed.by_all(&["a"]));
    bed.say(&Say::Leave(every));
    assert_eq!(bed.heard(), []);
    bed.say(&Say::Promote);
    assert_eq!(bed.heard(), []);
    bed.say(&Say::Tiers);
    let owner = flow_shard(addr(CLIENT), 3);
    assert_eq!(bed.heard(), [(owner, "connected".to_owned())]);
    bed.send(CLIENT, addr("10.0.0.1:7"), b"b");
    assert_eq!(bed.heard(), [(owner, "b".to_owned())]);
}
