//! What is queued for an endpoint that closes does not leave by another one that gets its place, and who is told of an
//! endpoint that cannot be opened.

mod support;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;

use shardgram_core::{
    Accept, CloseReason, Config, Context, Datagram, Endpoint, EndpointId, Handler, PeerError, PeerId, Via,
};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, payloads};

/// Opens an endpoint that cannot be had and closes it at once, says something when it hears of that, and opens
/// another one when the first is gone.
struct Hasty {
    target: SocketAddr,
    endpoint: Option<EndpointId>,
    errors: u32,
}

impl Handler for Hasty {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Drop("not asked")
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let endpoint = cx.io.endpoint(Endpoint::bound(addr("10.77.7.7:0"))).expect("room");
        cx.open(Via::Endpoint(endpoint), self.target, ()).expect("room");
        cx.close_endpoint(endpoint);
        self.endpoint = Some(endpoint);
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        assert!(matches!(error, PeerError::NotOpened { .. }), "{error}");
        self.errors += 1;
        cx.io.send(peer, b"from nowhere").expect("room");
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, (): (), why: CloseReason) {
        assert_eq!((why, self.errors), (CloseReason::EndpointClosed, 1));
        let endpoint = cx.io.endpoint(Endpoint::bound(addr("10.0.0.1:0"))).expect("room for one");
        assert_ne!(self.endpoint, Some(endpoint));
    }
}

#[test]
fn what_was_queued_for_a_closed_endpoint_fails() {
    let mut sim = Sim::new(1);
    let target = addr("10.0.0.2:5000");
    let client = sim.socket(target);
    let make = move |_| Hasty { target, endpoint: None, errors: 0 };
    let node = sim.server(&[ip("10.0.0.1")], &Config::new().max_endpoints(1), make).expect("starts");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(payloads(&mut sim, client), Vec::<Vec<u8>>::new());
    let stats = sim.stats(&node);
    assert_eq!((stats.submitted, stats.send_failed_other), (1, 1), "{stats}");
}

/// Opens three endpoints that cannot be had, with so many peers, and closes the newest of the first two.
struct Unlucky {
    told: Rc<RefCell<Vec<&'static str>>>,
}

impl Handler for Unlucky {
    type Peer = &'static str;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Self::Peer> {
        Accept::Drop("not asked")
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let groups: [&[&'static str]; 3] = [&["a", "b", "c"], &["d", "e"], &["f"]];
        for (group, port) in groups.into_iter().zip(5_000..) {
            let endpoint = cx.io.endpoint(Endpoint::bound(addr("10.77.7.7:0"))).expect("room");
            for (name, host) in group.iter().zip(1..) {
                let target = SocketAddr::new([10, 0, 1, host].into(), port);
                let peer = cx.open(Via::Endpoint(endpoint), target, name).expect("room");
                if ["c", "e"].contains(name) {
                    cx.io.close(peer);
                }
            }
        }
    }

    fn on_peer_error(&mut self, cx: &mut Context<'_, Self>, peer: PeerId, error: PeerError) {
        assert!(matches!(error, PeerError::NotOpened { .. }), "{error}");
        self.told.borrow_mut().extend(cx.peers.get(peer));
    }
}

#[test]
fn every_peer_of_an_endpoint_that_failed_is_told() {
    let mut sim = Sim::new(1);
    let told = Rc::new(RefCell::new(Vec::new()));
    let kept = Rc::clone(&told);
    let make = move |_| Unlucky { told: Rc::clone(&kept) };
    sim.server(&[ip("10.0.0.1")], &Config::new(), make).expect("starts");
    assert!(sim.run_until_quiet(SECOND));
    assert_eq!(*told.borrow(), ["a", "b", "d", "f"]);
}
