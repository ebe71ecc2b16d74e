//! A shard that runs out of receive buffers goes on receiving: what the kernel kept is received, what it
//! dropped is counted, and the order within a peer holds.
//!
//! Buffers run out while a callback takes its time, or in a turn whose replies lie in all of them. They are back
//! when the callback has ended and the replies have left, which every turn begins with; so a shard that sleeps
//! has all of its buffers in the kernel.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::Duration;

use crate::common::gate::{Gate, STALL, Staller};
use crate::common::{Bed, Peer, loopback};
use shardgram::{Backend, Config, Snapshot};

const BUFFERS: u16 = 8;

fn few_buffers() -> Config {
    // Every datagram is answered in place, so a turn's budget of them holds all buffers at once. Turns are counted, and those
    // that end early because a callback stalled are not what is looked for.
    loopback().receive_buffers(BUFFERS).turn_budget(64).turn_time_us(1_000_000)
}

fn is_exhausted(bed: &Bed, stats: &Snapshot) {
    if let Bed::Real(Backend::Uring) = bed {
        assert!(stats.buffers_exhausted > 0, "the test is of no use if the buffers suffice: {stats:?}");
        // A receive that was armed in vain would end with nothing, again and again.
        assert!(stats.buffers_exhausted <= stats.received, "each brought something: {stats:?}");
        assert!(stats.rearmed >= stats.buffers_exhausted);
    }
}

/// Stalls a callback, has `flood` send in the meantime, and lets the callback go on.
fn stall(bed: &mut Bed, gate: &Gate, peer: &Peer, at: SocketAddr, flood: impl FnOnce(&mut Bed)) {
    bed.send(peer, at, STALL);
    gate.is_stalled();
    flood(bed);
    gate.open();
    assert_eq!(bed.receive(peer).1, STALL);
}

fn each_of_a_thousand_exhaustions_is_recovered_from(mut bed: Bed) {
    const CYCLES: u64 = 1_000;
    const EACH: u32 = 8;
    let gate = Gate::default();
    let behind = gate.clone();
    let server = bed.serve(few_buffers(), move |_| Staller(behind.clone()));
    let at = bed.address(&server);
    let (slow, late) = (bed.peer(at), bed.peer(at));
    let peers: Vec<_> = (0..3).map(|_| bed.peer(at)).collect();
    let mut exhausted = 0;
    for cycle in 0..CYCLES {
        stall(&mut bed, &gate, &slow, at, |bed| {
            for n in 0..EACH {
                peers.iter().for_each(|peer| bed.send(peer, at, &n.to_be_bytes()));
            }
        });
        assert_eq!(bed.ask(&late, at, b"the next one"), b"the next one");
        for peer in &peers {
            for n in 0..EACH {
                assert_eq!(bed.receive(peer).1, n.to_be_bytes(), "each in its order");
            }
        }
        let stats = bed.stats(&server);
        if let Bed::Real(Backend::Uring) = bed {
            assert!(stats.buffers_exhausted > exhausted, "cycle {cycle}: they suffice");
        }
        exhausted = stats.buffers_exhausted;
    }
    let stats = bed.stats(&server);
    println!("{} exhaustions, {} turns, {} received", stats.buffers_exhausted, stats.turns, stats.received);
    let in_each = 2 + peers.len() as u64 * u64::from(EACH);
    assert_eq!((stats.received, stats.kernel_dropped), (CYCLES * in_each, 0));
    // The turns of a cycle: one or two for the callback that stalls, for each pool of buffers in the burst, for
    // the next datagram and for the statistics.
    assert!(stats.turns <= 20 * CYCLES, "a shard without buffers took turns: {stats:?}");
    is_exhausted(&bed, &stats);
    bed.drain(server);
}

fn what_the_kernel_drops_in_the_meantime_is_counted(mut bed: Bed) {
    const PEERS: usize = 20;
    const EACH: u32 = 500;
    let gate = Gate::default();
    let behind = gate.clone();
    // The smallest buffer the kernel grants: most of the flood is dropped there.
    let config = few_buffers().receive_socket_bytes(4096);
    let server = bed.serve(config, move |_| Staller(behind.clone()));
    let at = bed.address(&server);
    let slow = bed.peer(at);
    let peers: Vec<_> = (0..PEERS).map(|_| bed.peer(at)).collect();
    stall(&mut bed, &gate, &slow, at, |bed| {
        for n in 0..EACH {
            peers.iter().for_each(|peer| bed.send(peer, at, &n.to_be_bytes()));
        }
    });
    let sent = 1 + PEERS as u64 * u64::from(EACH);
    bed.until("all of it is accounted for", |bed| {
        let stats = bed.stats(&server);
        assert!(stats.received + stats.kernel_dropped <= sent, "nothing is counted twice: {stats:?}");
        stats.received + stats.kernel_dropped == sent
    });
    // Everybody hears a last answer, so all that was answered before it has come.
    let mut answers = 1;
    for peer in &peers {
        bed.send(peer, at, &EACH.to_be_bytes());
        let mut last = None;
        while last != Some(EACH) {
            let bytes = bed.receive(peer).1;
            let n = u32::from_be_bytes(bytes.try_into().unwrap());
            assert!(last < Some(n), "each in its order: {n} after {last:?}");
            last = Some(n);
            answers += 1;
        }
    }
    let stats = bed.drain(server);
    assert!(stats.kernel_dropped > 0, "the test is of no use if nothing is dropped: {stats:?}");
    assert_eq!(stats.received + stats.kernel_dropped, sent + PEERS as u64);
    assert_eq!((stats.delivered, stats.sent()), (stats.received, answers), "what was received was answered");
}

/// Time passes until the thread has not run for a while; then it has to stay so.
fn does_not_run(bed: &mut Bed, gate: &Gate, when: &str) {
    let mut before = gate.schedule();
    bed.until("the thread is given no core", |bed| {
        bed.pass(Duration::from_millis(50));
        let now = gate.schedule();
        std::mem::replace(&mut before, now) == now
    });
    bed.pass(Duration::from_millis(500));
    assert_eq!(gate.schedule(), before, "it ran {when}");
}

fn nothing_runs_in_vain(mut bed: Bed) {
    // The answers of a burst fit into the peer's own buffer.
    const BURST: u32 = 100;
    let gate = Gate::default();
    let behind = gate.clone();
    let server = bed.serve(few_buffers(), move |_| Staller(behind.clone()));
    let at = bed.address(&server);
    let (slow, busy) = (bed.peer(at), bed.peer(at));
    stall(&mut bed, &gate, &slow, at, |bed| {
        (0..BURST).for_each(|n| bed.send(&busy, at, &n.to_be_bytes()));
        // What arrives in the meantime, with and without a buffer for it, does not interrupt the callback.
        does_not_run(bed, &gate, "while a callback stalled");
    });
    for n in 0..BURST {
        assert_eq!(bed.receive(&busy).1, n.to_be_bytes(), "each in its order");
    }
    does_not_run(&mut bed, &gate, "with all buffers in the kernel and nothing to do");
    let stats = bed.stats(&server);
    // A turn that brought something may be followed by one that gives buffers back; others are idle ones:
    // the first, and those of the statistics.
    assert!(stats.turns <= 2 * stats.received + 10, "turns that did nothing: {stats:?}");
    is_exhausted(&bed, &stats);
    bed.drain(server);
}

fn sockets_that_share_the_buffers_all_get_some(mut bed: Bed) {
    // The answers of a round fit into the peer's own buffer.
    const EACH: u32 = 100;
    let gate = Gate::default();
    let behind = gate.clone();
    let config = few_buffers().listen("[::1]:0".parse().unwrap()).listen(([127, 0, 0, 1], 0).into());
    let server = bed.serve(config, move |_| Staller(behind.clone()));
    let addresses = bed.addresses(&server);
    let slow = bed.peer(addresses[0]);
    let peers: HashMap<_, _> = addresses.iter().map(|at| (*at, bed.peer(*at))).collect();
    for round in 0..20 {
        stall(&mut bed, &gate, &slow, addresses[0], |bed| {
            // The first listener has more than enough for all buffers before the others have anything.
            for (at, peer) in addresses.iter().map(|at| (*at, &peers[at])) {
                (0..EACH).for_each(|n| bed.send(peer, at, &(round * EACH + n).to_be_bytes()));
            }
        });
        for (at, peer) in &peers {
            for n in 0..EACH {
                assert_eq!(bed.receive(peer), (*at, (round * EACH + n).to_be_bytes().to_vec()));
            }
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.received, stats.kernel_dropped), (20 * (1 + 3 * u64::from(EACH)), 0));
}

on_real_drivers!(
    each_of_a_thousand_exhaustions_is_recovered_from,
    what_the_kernel_drops_in_the_meantime_is_counted,
    nothing_runs_in_vain,
    sockets_that_share_the_buffers_all_get_some,
);
