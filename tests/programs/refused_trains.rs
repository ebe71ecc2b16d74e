//! Trains that a path does not carry as such: their datagrams leave one by one, in order, and none so long is built
//! for that path again.
use std::sync::Arc;
use std::sync::mpsc::channel;

use shardgram::{Config, Server, SocketHook, TierPolicy};

use crate::common::source::{Client, HERE, Order, Source, done, slow_cable};
use crate::common::{Bed, Served};

/// Fast enough that nothing waits for room.
const FAST: u32 = 1_000_000;

fn configs(bed: &Bed) -> Vec<Config> {
    let listen = |ip: &str| Config::new().listen(std::net::SocketAddr::new(ip.parse().unwrap(), 7_000));
    bed.tiers().into_iter().flat_map(|tier| HERE.map(|ip| listen(ip).tier(tier))).collect()
}

/// Datagrams longer than the MTU leave in fragments, so not in trains.
fn longer_than_the_mtu(mut bed: Bed) {
    let host = slow_cable(FAST);
    for config in configs(&bed) {
        let (sender, seen) = channel();
        let connected = config.settings().tier == TierPolicy::Connected;
        let server = bed.serve(config, move |_| Source::new(sender.clone()));
        let client = Client::new(&host, bed.address(&server));
        let order = |len, per_turn| Order { count: 100, len, per_turn };
        let fetch = |bed: &mut Bed, order| {
            client.ask(order);
            client.expect_all(order);
            done(&seen);
            let stats = bed.stats(&server);
            (stats.trains_sent, stats.trains_refused)
        };
        let (before, refused) = fetch(&mut bed, order(1_400, 100));
        assert!(before >= 2 && refused == 0, "{before} {refused}");
        if connected {
            bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
        }
        let (sent, refused) = fetch(&mut bed, order(2_000, 100));
        assert_eq!(refused, sent - before, "all that one turn built");
        assert_eq!(fetch(&mut bed, order(2_000, 100)), (sent, refused), "and no more are built");
        let (again, still) = fetch(&mut bed, order(1_400, 7));
        assert!(again > sent + 10 && still == refused, "shorter ones are as before");
        for len in [1_900, 1_600] {
            fetch(&mut bed, order(len, 33));
        }
        let stats = bed.drain(server);
        assert_eq!((stats.trains_refused, stats.send_failed()), (refused + 2, 0), "{stats:?}");
        assert_eq!(stats.sent(), 600, "{stats:?}");
    }
}

/// The same where they have to wait for room first.
fn longer_than_the_mtu_and_late(mut bed: Bed) {
    let host = slow_cable(50_000);
    for config in configs(&bed) {
        let (sender, seen) = channel();
        let server = bed.serve(config.send_socket_bytes(16 << 10), move |_| Source::new(sender.clone()));
        let client = Client::new(&host, bed.address(&server));
        // Nothing is known of the path when the first of them have to wait.
        for (len, per_turn) in [(100, 500), (3_000, 500), (2_900, 7)] {
            let order = Order { count: 500, len, per_turn };
            client.ask(order);
            client.expect_all(order);
            done(&seen);
        }
        let stats = bed.drain(server);
        assert!(stats.trains_refused > 0 && stats.send_deferred > 500, "{stats:?}");
        assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (1_500, 0, 0), "{stats:?}");
    }
}

/// `SO_NO_CHECK` in `socket(7)`.
fn without_checksums(socket: &socket2::Socket) -> std::io::Result<()> {
    crate::common::user::set_no_check(socket)
}

/// A socket that sends no checksums cannot have its trains cut apart: that is not about their length.
fn for_another_reason(mut bed: Bed) {
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let host = slow_cable(FAST);
    let hook: SocketHook = Arc::new(|socket, _| without_checksums(socket));
    // Over IPv6 there are checksums, whatever that option says.
    for config in configs(&bed).into_iter().filter(|config| config.settings().listen[0].is_ipv4()) {
        let (sender, seen) = channel();
        let server = Server::bind_with(config.backend(backend), Some(Arc::clone(&hook))).expect("it binds");
        let server = Served::Real(server.spawn(move |_| Source::new(sender.clone())).expect("it starts"));
        let client = Client::new(&host, bed.address(&server));
        for len in [1_000, 1_000, 900, 10] {
            let order = Order { count: 100, len, per_turn: 100 };
            client.ask(order);
            client.expect_all(order);
            done(&seen);
        }
        let stats = bed.drain(server);
        assert_eq!((stats.trains_sent, stats.trains_refused), (2, 2), "{stats:?}");
        assert_eq!((stats.sent(), stats.send_failed()), (400, 0), "{stats:?}");
    }
}

in_namespaces!(longer_than_the_mtu, longer_than_the_mtu_and_late, for_another_reason);
