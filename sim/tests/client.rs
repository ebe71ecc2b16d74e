//! A client is a node without listeners: it opens endpoints and speaks first.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Endpoint, EndpointId, Handler, PeerError, PeerId, Via,
};
use shardgram_sim::{LinkConfig, NodeId, Sim};
use support::{SECOND, addr, all, echo, ip, listening};

#[derive(Debug, PartialEq, Eq)]
enum Note {
    Answer(Vec<u8>),
    Error(PeerError),
    Closed(CloseReason),
    At(SocketAddr),
}

type Notes = Rc<RefCell<Vec<Note>>>;

/// Sends a number every ten milliseconds until it was answered.
struct Caller {
    target: SocketAddr,
    bind: Option<SocketAddr>,
    socket: Option<EndpointId>,
    notes: Notes,
}

impl Handler for Caller {
    type Peer = u8;
    type Timer = PeerId;
    type Message = ();
    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u8> {
        Accept::Drop("not asked")
    }
    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let endpoint = self.bind.map_or(Endpoint::towards(self.target), Endpoint::bound);
        let socket = cx.io.endpoint(endpoint).expect("room for an endpoint");
        self.socket = Some(socket);
        let peer = cx.open(Via::Endpoint(socket), self.target, 0).expect("room for a peer");
        let now = cx.io.now();
        assert!(cx.io.set_peer_timer(peer, now, peer).is_ok());
    }
    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let Some(tries) = cx.peers.get_mut(peer) else { return };
        *tries += 1;
        let _ = cx.io.send(peer, &[*tries]);
        let at = cx.io.now() + Duration::from_millis(10);
        assert!(cx.io.set_peer_timer(peer, at, peer).is_ok());
    }
    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, datagram: Datagram<'_>) {
        let local = self.socket.and_then(|s| cx.io.endpoint_address(s)).expect("open");
        self.notes.borrow_mut().extend([Note::At(local), Note::Answer(datagram.to_vec())]);
        cx.io.close(peer);
    }
    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        self.notes.borrow_mut().push(Note::Error(error));
        cx.io.close(peer);
    }
    fn on_closed(&mut self, _: &mut Context<'_, Self>, _: PeerId, _: u8, why: CloseReason) {
        self.notes.borrow_mut().push(Note::Closed(why));
    }
}

fn caller(sim: &mut Sim, host: &str, target: &str, bind: Option<&str>) -> (NodeId<()>, Notes) {
    let notes = Notes::default();
    let kept = Rc::clone(&notes);
    let (target, bind) = (addr(target), bind.map(addr));
    let make = move |_| Caller { target, bind, socket: None, notes: Rc::clone(&kept) };
    (sim.server(&[ip(host)], &Config::new(), make).expect("starts"), notes)
}

#[test]
fn a_client_is_answered_through_loss() {
    let seed = 1;
    let mut sim = Sim::new(seed);
    sim.link(LinkConfig::new().loss(0.6).expect("in range"));
    let server = echo(&mut sim, &listening("10.0.0.1:7").shards(2));
    let clients: Vec<_> =
        (2..12).map(|i| caller(&mut sim, &format!("10.0.0.{i}"), "10.0.0.1:7", None)).collect();
    sim.run_for(5 * SECOND);
    for (client, notes) in &clients {
        let notes = notes.borrow();
        assert_eq!(notes.len(), 3, "seed {seed}: {notes:?}");
        assert!(matches!(notes[0], Note::At(at) if at.ip().is_unspecified() && at.port() != 0));
        assert!(matches!(&notes[1], Note::Answer(a) if a.len() == 1));
        assert_eq!(notes[2], Note::Closed(CloseReason::Asked));
        assert_eq!(sim.stats(client).unaccounted(), 0);
    }
    assert_eq!(sim.stats(&server).peers(), 10, "seed {seed}");
    assert_eq!(sim.counts().unaccounted(), 0);
}

#[test]
fn the_source_is_the_nodes_own_address_and_strangers_are_dropped() {
    let mut sim = Sim::new(2);
    let raw = sim.socket(addr("10.0.0.1:7"));
    let (client, notes) = caller(&mut sim, "10.0.0.2", "10.0.0.1:7", None);
    sim.run_for(Duration::from_millis(5));
    let first = all(&mut sim, raw).remove(0);
    assert_eq!((first.from.ip(), &first.bytes[..]), (ip("10.0.0.2"), &[1][..]));
    sim.send_from(addr("10.6.6.6:7"), first.from, b"forged");
    sim.send_from(addr("10.0.0.1:8"), first.from, b"another port");
    sim.run_for(Duration::from_millis(1));
    assert!(notes.borrow().is_empty());
    sim.send(raw, first.from, b"yes");
    sim.run_for(Duration::from_millis(1));
    assert!(notes.borrow().contains(&Note::Answer(b"yes".to_vec())));
    let stats = sim.stats(&client);
    assert_eq!((stats.dropped_foreign, stats.unaccounted()), (2, 0));
}

#[test]
fn an_endpoint_that_cannot_be_opened_is_reported() {
    let mut sim = Sim::new(4);
    sim.socket(addr("10.0.0.2:4000"));
    let (_, in_use) = caller(&mut sim, "10.0.0.2", "10.0.0.1:7", Some("10.0.0.2:4000"));
    let (_, foreign) = caller(&mut sim, "10.0.0.2", "10.0.0.1:7", Some("10.0.0.3:4000"));
    let (_, no_family) = caller(&mut sim, "10.0.0.2", "[fd00::1]:7", None);
    assert!(sim.run_until_quiet(SECOND));
    for (notes, errno) in [(in_use, 98), (foreign, 99), (no_family, 99)] {
        let want = [Note::Error(PeerError::NotOpened { errno }), Note::Closed(CloseReason::Asked)];
        assert_eq!(*notes.borrow(), want);
    }
}
