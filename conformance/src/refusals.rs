//! Who asks for what a driver cannot do in a configuration is refused with the reason, or served all the same, without
//! it; a handler that asks is served without it. Nothing is half done, and nothing is said to be what it is not.
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use super::handlers::Where;
use super::{Bed, Echo, both_families, loopback, pattern};
use shardgram_core::flow::flow_shard;
use shardgram_core::{
    Accept, Capability, Config, Context, Datagram, Ecn, Handler, Meta, PathMtu, PeerId, ShardInfo, Tier,
    TierPolicy, WaitPolicy,
};

pub fn what_is_missing_is_refused<B: Bed>(mut bed: B) {
    for capability in Capability::ALL {
        if bed.expected(capability).reason().is_some() {
            check(&mut bed, capability);
        }
    }
}

/// Each capability has an arm below. They are an enumeration that may grow, so the compiler does not see one that lacks.
const _: () = assert!(Capability::ALL.len() == 12, "an arm for each capability in `check`");

/// What becomes of who asks for it where it is missing.
pub(super) fn check<B: Bed>(bed: &mut B, missing: Capability) {
    match missing {
        Capability::TrainsOut => single_datagrams_leave(bed),
        Capability::TrainsIn => single_datagrams_come(bed),
        Capability::EcnOut => marks_are_left_out(bed),
        Capability::EcnIn => {
            let told = meta_of(bed, loopback().ecn(true));
            assert!(told.is_none_or(|told| told.ecn == Ecn::NotEct), "a mark that nobody read");
        }
        Capability::Timestamps => {
            let told = meta_of(bed, loopback().receive_timestamps(true));
            assert_eq!(told.and_then(|told| told.kernel_time), None, "a time that nobody read");
        }
        Capability::Connected => peers_stay_with_the_listener(bed),
        Capability::PathMtu => {
            for mode in [PathMtu::System, PathMtu::Refuse, PathMtu::Probe, PathMtu::Fragment] {
                if let Some(server) = granted(bed, loopback().path_mtu(mode), |_| Echo) {
                    echoes(bed, server);
                }
            }
        }
        Capability::KernelDrops => {
            let server = bed.serve(loopback().receive_socket_bytes(4_096), |_| Echo);
            let stats = echoes(bed, server);
            assert_eq!(stats.kernel_dropped, 0, "nobody counted them: {stats:?}");
        }
        Capability::BalancedListeners | Capability::SteeredListeners => owners_answer(bed),
        Capability::Backlog => {
            let server = bed.serve(loopback().send_socket_bytes(4_096), |_| Echo);
            let stats = echoes(bed, server);
            assert_eq!((stats.send_waiting, stats.send_failed_full), (0, 0), "{stats:?}");
        }
        Capability::Blocking => a_shard_that_is_to_spin_rests(bed),
        // `Capability` may grow.
        _ => panic!("nothing here says what becomes of who asks for {missing:?} without it"),
    }
}

/// A server with a configuration that asks for what is missing, unless that is refused, with the reason and a remedy.
fn granted<B: Bed, H: Handler>(
    bed: &mut B,
    config: Config,
    make: impl Fn(ShardInfo) -> H + Send + Sync + Clone + 'static,
) -> Option<B::Server<H::Message>> {
    match bed.try_serve(config, make) {
        Ok(server) => Some(server),
        Err(reason) => {
            assert!(
                reason.contains("was asked for and cannot be had"),
                "refused for another reason: {reason}"
            );
            None
        }
    }
}

/// Many datagrams of equal length, there and back.
fn echoes<B: Bed>(bed: &mut B, server: B::Server<()>) -> shardgram_core::Snapshot {
    let at = bed.address(&server);
    let peer = bed.peer(at);
    for number in 0..50_u8 {
        assert_eq!(bed.ask(&peer, at, &[number; 1_000]), [number; 1_000]);
    }
    bed.drain(server)
}

/// Says what it is told, answers each datagram with ten marked ones, and wants a socket for each peer.
struct Greedy(Sender<(Meta, Option<Tier>)>);

impl Handler for Greedy {
    type Peer = ();
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Connect(())
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        cx.io.promote(from);
        let _ = self.0.send((datagram.meta(), cx.io.tier(from)));
        cx.io.set_ecn(from, Ecn::Ect0);
        for _ in 0..10 {
            cx.io.send(from, &datagram).expect("room");
        }
    }
}

type Told = Receiver<(Meta, Option<Tier>)>;

fn greedy<B: Bed>(bed: &mut B, config: Config) -> Option<(B::Server<()>, Told)> {
    let (sender, told) = channel();
    Some((granted(bed, config, move |_| Greedy(sender.clone()))?, told))
}

/// Ten answers to one datagram, to a peer that would see them as one.
fn single_datagrams_leave<B: Bed>(bed: &mut B) {
    let (server, _told) = greedy(bed, loopback()).expect("nothing is asked for but by the handler");
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, &pattern(100));
    (0..10).for_each(|_| assert_eq!(bed.receive(&peer), (at, pattern(100))));
    assert_eq!(bed.drain(server).trains_sent, 0);
}

fn single_datagrams_come<B: Bed>(bed: &mut B) {
    let server = bed.serve(loopback(), |_| Echo);
    let stats = echoes(bed, server);
    assert_eq!((stats.received, stats.trains_received), (50, 0));
}

fn marks_are_left_out<B: Bed>(bed: &mut B) {
    let (server, _told) = greedy(bed, loopback()).expect("nothing is asked for but by the handler");
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, b"mark it");
    (0..10).for_each(|_| assert_eq!(bed.receive(&peer), (at, b"mark it".to_vec())));
    assert_eq!(bed.drain(server).send_failed(), 0);
}

fn meta_of<B: Bed>(bed: &mut B, config: Config) -> Option<Meta> {
    let (server, told) = greedy(bed, config)?;
    let at = bed.address(&server);
    let peer = bed.peer(at);
    bed.send(&peer, at, b"when, and how?");
    let (meta, _) = bed.hear(&told);
    bed.drain(server);
    Some(meta)
}

fn peers_stay_with_the_listener<B: Bed>(bed: &mut B) {
    for policy in [TierPolicy::Listener, TierPolicy::Connected, TierPolicy::Adaptive] {
        let Some((server, told)) = greedy(bed, loopback().tier(policy)) else {
            assert_ne!(policy, TierPolicy::Listener, "nothing is asked for but by the handler");
            continue;
        };
        let at = bed.address(&server);
        let peer = bed.peer(at);
        for _ in 0..20 {
            bed.send(&peer, at, b"a socket of my own?");
            assert_eq!(bed.hear(&told).1, Some(Tier::Listener), "{policy}");
            (0..10).for_each(|_| assert_eq!(bed.receive(&peer), (at, b"a socket of my own?".to_vec())));
        }
        let stats = bed.drain(server);
        assert_eq!((stats.promoted, stats.sent()), (0, 200), "{policy}: {stats:?}");
        assert!(stats.promotions_refused > 0, "{policy}: it is said that there are none: {stats:?}");
    }
}

/// Whoever receives it, the shard that owns a flow answers: others forward.
fn owners_answer<B: Bed>(bed: &mut B) {
    const SHARDS: u16 = 3;
    let server = bed.serve(both_families().shards(SHARDS), |_| Where);
    let mut others = 0;
    for at in bed.addresses(&server) {
        for _ in 0..50 {
            let peer = bed.peer(at);
            let owner = flow_shard(bed.address_of(&peer), SHARDS);
            assert_eq!(bed.ask(&peer, at, b"?"), owner.to_be_bytes());
            others += u64::from(owner != 0);
        }
    }
    let stats = bed.drain(server);
    assert_eq!((stats.stateless, stats.forwarded_out), (100, stats.forwarded_in), "{stats:?}");
    assert!(others > 0 && stats.forwarded_out > 0, "{others} belong elsewhere: {stats:?}");
}

fn a_shard_that_is_to_spin_rests<B: Bed>(bed: &mut B) {
    let server = bed.serve(loopback().wait(WaitPolicy::Spin), |_| Echo);
    let at = bed.address(&server);
    let peer = bed.peer(at);
    assert_eq!(bed.ask(&peer, at, b"hello"), b"hello");
    bed.pass(Duration::from_millis(500));
    let stats = bed.drain(server);
    assert!(stats.turns < 100, "it spins all the same: {} turns", stats.turns);
}
