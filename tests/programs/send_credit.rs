//! What the io_uring driver hands to a socket in one go fits into its send buffer, whatever the lengths of the
//! datagrams, the MTU that cuts them into fragments, and the size of the buffer: none meets a full socket, so
//! none is overtaken.
use std::net::SocketAddr;
use std::sync::mpsc::{Receiver, channel};

use crate::common::namespace::Host;
use crate::common::source::{Client, HERE, MIXED, Order, Seen, Source, limit_rate, slow_cable_with_mtu};
use crate::common::{Bed, PATIENCE, overruns};
use shardgram::{Config, PeerError, TierPolicy};

/// Sends datagrams of all lengths through a cable with this MTU, and expects no send to meet a full socket.
fn none_meets_a_full_socket(bed: &mut Bed, host: &Host, mtu: u32, send_socket_bytes: u32, kilobits: u32) {
    let here = HERE.into_iter().filter(|ip| mtu >= 1_280 || !ip.contains(':'));
    let listen = here.map(|ip| SocketAddr::new(ip.parse().unwrap(), 7_000));
    for tier in [TierPolicy::Listener, TierPolicy::Connected] {
        let (sender, seen) = channel();
        let mut told = Vec::new();
        // In one turn twice the buffer, which the kernel doubles in turn.
        let count = (4 * send_socket_bytes / MEAN).max(400);
        let config = Config::new().send_socket_bytes(send_socket_bytes).tier(tier).outbox_bytes(64 << 20);
        let config = listen.clone().fold(config.send_backlog_bytes(1 << 30), Config::listen);
        let server = bed.serve(config, move |_| Source::new(sender.clone()));
        // They stay, since a port that is closed would refuse what is still on its way.
        let clients: Vec<_> = bed.addresses(&server).into_iter().map(|at| Client::new(host, at)).collect();
        for client in &clients {
            let promoted = bed.stats(&server).promoted;
            client.ask(Order { count: 0, len: 0, per_turn: 1 });
            hear_until_done(&seen, &mut told);
            if tier == TierPolicy::Connected {
                bed.until("it is connected", |bed| bed.stats(&server).promoted > promoted);
            }
            for per_turn in [u32::MAX, 100] {
                let deferred = bed.stats(&server).send_deferred;
                limit_rate(1_000, mtu);
                client.ask(Order { count, len: MIXED, per_turn });
                bed.until("the socket is full", |bed| bed.stats(&server).send_deferred > deferred);
                limit_rate(kilobits, mtu);
                hear_until_done(&seen, &mut told);
                bed.until("all has left", |bed| bed.stats(&server).send_waiting == 0);
            }
        }
        let stats = bed.drain(server);
        assert_eq!(overruns::count(), 0, "MTU {mtu}, {send_socket_bytes} bytes, {tier}: {stats:?}");
        assert_eq!(stats.send_failed(), stats.send_failed_other, "{stats:?}");
        told.extend(seen.try_iter().filter_map(|seen| match seen {
            Seen::Error(error) => Some(error),
            Seen::Done { .. } | Seen::Closed(_) => None,
        }));
        assert_eq!(told.len() as u64, stats.send_failed_other);
        assert!(told.iter().all(|error| *error == PeerError::NoBuffers), "{told:?}");
        // The kernel takes no datagram whose fragments come to more than twice the limit, ever.
        assert!(told.is_empty() || (send_socket_bytes <= LEAST && mtu < 65_535), "{stats:?}");
    }
}

fn hear_until_done(seen: &Receiver<Seen>, told: &mut Vec<PeerError>) {
    while let Seen::Error(error) = seen.recv_timeout(PATIENCE).expect("it goes on") {
        told.push(error);
    }
}

/// Mean length of the mixed datagrams, roughly.
const MEAN: u32 = 6_000;
/// A send buffer that is too small for long datagrams in fragments.
const LEAST: u32 = 64 << 10;

fn with_all_buffers(bed: &mut Bed, mtu: u32) {
    overruns::watch();
    let host = slow_cable_with_mtu(50_000, mtu);
    for (send_socket_bytes, kilobits) in
        [(4 << 10, 50_000), (LEAST, 50_000), (500_000, 50_000), (4 << 20, 200_000)]
    {
        none_meets_a_full_socket(bed, &host, mtu, send_socket_bytes, kilobits);
    }
}

macro_rules! mtus {
    ($($name:ident: $mtu:literal,)+) => {
        $(fn $name(mut bed: Bed) { with_all_buffers(&mut bed, $mtu); })+
        in_namespaces_with_uring!($($name),+);
    };
}

mtus! {
    fragments_of_552: 552,
    fragments_of_680: 680,
    fragments_of_1000: 1_000,
    fragments_of_1280: 1_280,
    fragments_of_1500: 1_500,
    fragments_of_9000: 9_000,
    no_fragments: 65_535,
}
