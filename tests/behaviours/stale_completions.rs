//! Endpoints that are closed and opened anew, on the same slots, while datagrams come in: what was meant for one
//! reaches none that has its slot later, and every buffer comes back.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::gate::{Gate, STALL};
use crate::common::{Bed, PATIENCE, Peer, loopback};
use shardgram::{
    Accept, Backend, CloseReason, Context, Datagram, Endpoint, EndpointId, Handler, PeerError, PeerId, Via,
};

const SLOTS: u32 = 4;
const CYCLES: u32 = 4_000;
const BUFFERS: u16 = 8;
/// Datagrams sent to each endpoint, and how many of them it takes before it is closed.
const BURST: u32 = 20;
const TAKEN: u32 = 3;

/// What all endpoints come to.
#[derive(Default)]
struct Record {
    opened: AtomicU32,
    astray: Mutex<Vec<(u32, Vec<u8>)>>,
    errors: Mutex<Vec<PeerError>>,
    ended: AtomicBool,
}

/// One life of an endpoint.
struct Life {
    number: u32,
    endpoint: EndpointId,
    taken: u32,
}

/// Keeps so many endpoints, each on a port of its own. Each says its number to the same peer, takes a few
/// datagrams, and is closed. On the listener it echoes.
struct Phoenix {
    record: Arc<Record>,
    ports: Arc<[SocketAddr]>,
    friend: SocketAddr,
    gate: Gate,
}

impl Phoenix {
    fn open(&self, cx: &mut Context<'_, Self>) {
        let number = self.record.opened.fetch_add(1, Ordering::Relaxed);
        if number >= CYCLES {
            self.record.ended.store(true, Ordering::Relaxed);
            return;
        }
        // The next life has another port, so nothing that was sent to the last one reaches its socket; and the
        // same peer, so whatever is handed over for it would be believed.
        let port = self.ports[number as usize % self.ports.len()];
        let endpoint = cx.io.endpoint(Endpoint::bound(port)).expect("the slot is free again");
        let life = Life { number, endpoint, taken: 0 };
        let peer = cx.open(Via::Endpoint(endpoint), self.friend, Some(life)).expect("a peer");
        cx.io.send(peer, &number.to_be_bytes()).expect("room for a send");
    }
}

impl Handler for Phoenix {
    type Peer = Option<Life>;
    type Timer = ();
    type Message = ();

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        (0..SLOTS).for_each(|_| self.open(cx));
    }

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<Option<Life>> {
        Accept::Peer(None)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if &datagram[..] == STALL {
            self.gate.pass();
        }
        let Some(life) = cx.peers.get_mut(from).expect("its state") else {
            let len = datagram.len();
            cx.io.reply(datagram, len).expect("room for a reply");
            return;
        };
        if datagram[..] != life.number.to_be_bytes() {
            self.record.astray.lock().unwrap().push((life.number, datagram.to_vec()));
        }
        life.taken += 1;
        let endpoint = life.endpoint;
        if life.taken == TAKEN {
            cx.close_endpoint(endpoint);
        }
    }

    fn on_peer_error(&mut self, _: &mut Context<'_, Self>, _: PeerId, error: PeerError) {
        self.record.errors.lock().unwrap().push(error);
    }

    fn on_closed(&mut self, cx: &mut Context<'_, Self>, _: PeerId, _: Option<Life>, why: CloseReason) {
        if why == CloseReason::EndpointClosed {
            self.open(cx);
        }
    }
}

/// Ports nobody else takes: below those that are handed out, on an address of this test's own for each driver.
fn ports(bed: &Bed) -> Arc<[SocketAddr]> {
    let ip = if matches!(bed, Bed::Real(Backend::Uring)) { [127, 77, 1, 1] } else { [127, 77, 1, 2] };
    (20_000..22_000).map(|port| (ip, port).into()).collect()
}

/// Answers each endpoint with more than it takes, in its name, until all have been.
fn flood(bed: &mut Bed, friend: &Peer, record: &Record) {
    let mut heard = Instant::now();
    // The last one may have been answered already.
    while !record.ended.load(Ordering::Relaxed) {
        match bed.try_receive(friend, Duration::from_millis(50)) {
            Some((from, number)) => {
                heard = Instant::now();
                (0..BURST).for_each(|_| bed.send(friend, from, &number));
            }
            None => assert!(heard.elapsed() < PATIENCE, "no endpoint is opened any more"),
        }
    }
}

fn nothing_goes_astray_and_no_buffer_is_lost(mut bed: Bed) {
    let (record, gate) = (Arc::new(Record::default()), Gate::default());
    let friend = bed.peer(([127, 0, 0, 1], 0).into());
    let (to, theirs, ports, behind) = (friend.address(), Arc::clone(&record), ports(&bed), gate.clone());
    let config = loopback().max_endpoints(SLOTS).receive_buffers(BUFFERS);
    let server = bed.serve(config, move |_| Phoenix {
        record: Arc::clone(&theirs),
        ports: Arc::clone(&ports),
        friend: to,
        gate: behind.clone(),
    });
    flood(&mut bed, &friend, &record);
    let stats = bed.stats(&server);
    if let Bed::Real(Backend::Uring) = bed {
        assert!(stats.dropped_closed > 0, "the test is of no use if nothing comes too late: {stats:?}");
    }
    all_buffers_are_there(&mut bed, &server, &gate);
    let stats = bed.drain(server);
    assert!(record.astray.lock().unwrap().is_empty(), "{:?}", record.astray.lock().unwrap());
    assert!(record.errors.lock().unwrap().is_empty(), "{:?}", record.errors.lock().unwrap());
    assert_eq!(stats.restarts, 0, "no assertion in the handler failed");
}

/// Waits until the shard has done with what the flood left at endpoints that are still open: turns come and go in which
/// nothing is received but what is asked here.
fn what_was_sent_is_received(bed: &mut Bed, server: &crate::common::Served<()>, peer: &Peer) {
    const TURNS: u64 = 20;
    let at = bed.address(server);
    bed.until("the flood is over", |bed| {
        let before = bed.stats(server).received;
        (0..TURNS).for_each(|n| assert_eq!(bed.ask(peer, at, &n.to_be_bytes()), n.to_be_bytes()));
        bed.stats(server).received == before + TURNS
    });
}

/// Two datagrams fewer than there are buffers do not exhaust them: one is still the stalled callback's, and with
/// the last one the receive looks for more. So none may be missing.
fn all_buffers_are_there(bed: &mut Bed, server: &crate::common::Served<()>, gate: &Gate) {
    let at = bed.address(server);
    let (slow, peer) = (bed.peer(at), bed.peer(at));
    what_was_sent_is_received(bed, server, &peer);
    let before = bed.stats(server).buffers_exhausted;
    for _ in 0..20 {
        bed.send(&slow, at, STALL);
        gate.is_stalled();
        (0..BUFFERS - 2).for_each(|n| bed.send(&peer, at, &n.to_be_bytes()));
        gate.open();
        (0..BUFFERS - 2).for_each(|n| assert_eq!(bed.receive(&peer).1, n.to_be_bytes()));
        assert_eq!(bed.receive(&slow).1, STALL);
    }
    assert_eq!(bed.stats(server).buffers_exhausted, before, "a buffer is missing");
}

on_real_drivers!(nothing_goes_astray_and_no_buffer_is_lost);
