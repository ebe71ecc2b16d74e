//! Errors of the network for connected peers that come at the worst moment, or in masses, as whoever forges them can
//! send them: nothing stalls, nothing spins, and every datagram is accounted for.
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::common::icmp::{Forger, Says};
use crate::common::namespace::run;
use crate::common::source::{Client, Order, Seen, Source, set_rate, shard_cpu, slow_cable};
use crate::common::talker::{BOTH, Friend, Say, Talker, next, on_loopback, serve, sleeps};
use crate::common::{Bed, PATIENCE, Served, source};
use shardgram::{Config, PeerError, Server, TierPolicy};

fn what_a_send_is_told_of_an_earlier_one_loses_nothing(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let forger = Forger::new(at, friend.address());
        for (says, error) in [
            (Says::PortUnreachable, PeerError::Refused),
            (Says::HostUnreachable, PeerError::Unreachable),
            (Says::Prohibited, PeerError::Forbidden),
            (Says::TooBig(1_300), PeerError::TooLong { mtu: Some(1_300) }),
        ] {
            for _ in 0..20 {
                let ((there, is_there), (go, goes)) = (channel(), channel());
                bed.tell(&server, 0, Say::Later { there, go: goes });
                is_there.recv().unwrap();
                // The error waits at the socket when the shard comes to send.
                forger.send(says);
                go.send(()).unwrap();
                assert_eq!(next(&heard, friend.address()), error);
                friend.socket.set_read_timeout(Some(PATIENCE)).unwrap();
                assert_eq!(friend.socket.recv(&mut [0; 16]).expect("it is sent all the same"), 1);
                assert_eq!(heard.try_recv().ok(), None, "it is told once");
            }
        }
        friend.ask(b"still there");
        sleeps(&mut bed, &server);
        let stats = bed.drain(server);
        assert_eq!((stats.send_failed(), stats.peer_errors), (0, 80), "{stats:?}");
    }
}

/// Errors at full speed for one peer, while it and others talk.
fn a_flood_of_forged_errors_stalls_nothing(mut bed: Bed) {
    const ASKED: usize = 1_000;
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friends: Vec<_> =
            (0..10).map(|_| Friend::new(&mut bed, &server, at, on_loopback(at.ip()))).collect();
        let before = bed.stats(&server);
        let flooded = AtomicU64::new(0);
        let answered: Vec<usize> = std::thread::scope(|scope| {
            let victim = friends[0].address();
            // Dropped, and the flood over, also where the test fails.
            let going = Arc::new(());
            let (still, flooded) = (Arc::downgrade(&going), &flooded);
            scope.spawn(move || {
                let forger = Forger::new(at, victim);
                let all =
                    [Says::PortUnreachable, Says::HostUnreachable, Says::Prohibited, Says::TooBig(1_300)];
                for says in all.into_iter().cycle().take_while(|_| still.strong_count() > 0) {
                    forger.send(says);
                    flooded.fetch_add(1, Ordering::Relaxed);
                }
            });
            let talks: Vec<_> = friends
                .iter()
                .map(|friend| {
                    scope.spawn(move || {
                        let ask = |n: &usize| {
                            friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
                            friend.socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
                            friend.socket.recv(&mut [0; 16]).is_ok()
                        };
                        (0..ASKED).filter(ask).count() + friend.late()
                    })
                })
                .collect();
            talks.into_iter().map(|talk| talk.join().unwrap()).collect()
        });
        let flooded = flooded.into_inner();
        assert!(flooded > 1_000, "{flooded}");
        assert!(answered[1..].iter().all(|n| *n == ASKED), "nobody else is touched: {answered:?}");
        // An answer is lost where an error comes between its two attempts.
        assert!(answered[0] > ASKED / 2, "{} of {ASKED} answers in {flooded} errors", answered[0]);
        friends.iter().for_each(|friend| friend.ask(b"still there"));
        sleeps(&mut bed, &server);
        let told = heard.try_iter().inspect(|(about, _)| assert_eq!(*about, friends[0].address())).count();
        assert!(told > 100, "{told} of {flooded}");
        let stats = bed.drain(server);
        // Errors take room in the victim's socket: what it sends while a shard that does not get the processor leaves them
        // there is dropped by the kernel.
        let dropped = stats.kernel_dropped;
        assert_eq!(stats.received + dropped - before.received, 10 * (ASKED as u64 + 1), "{stats:?}");
        let total: usize = answered.iter().sum();
        assert_eq!(stats.sent() - before.sent(), total as u64 + 10, "{stats:?}");
        let unanswered = (10 * ASKED - total) as u64;
        assert_eq!(stats.send_failed() + dropped, unanswered, "what was not answered is counted: {stats:?}");
    }
}

/// More errors than are taken out at once wait when the shard comes to look, and datagrams behind them.
fn a_heap_of_errors_is_worked_off(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let forger = Forger::new(at, friend.address());
        let mut lost = 0;
        for _ in 0..5 {
            let ((there, is_there), (go, goes)) = (channel(), channel());
            bed.tell(&server, 0, Say::Later { there, go: goes });
            is_there.recv().unwrap();
            for _ in 0..1_000 {
                forger.send(Says::HostUnreachable);
                forger.send(Says::TooBig(1_300));
            }
            for n in 0..100u32 {
                friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
            }
            go.send(()).unwrap();
            let came = friend.hears(Duration::from_millis(300));
            let stats = bed.stats(&server);
            assert_eq!(came.len() as u64, 101 - (stats.send_failed() - lost), "{stats:?}");
            lost = stats.send_failed();
            friend.ask(b"still there");
        }
        sleeps(&mut bed, &server);
        assert!(heard.try_iter().count() >= 5 * 2);
        let stats = bed.drain(server);
        assert_eq!((stats.received, stats.kernel_dropped), (2 + 505, 0), "{stats:?}");
    }
}

/// Sockets come and go meanwhile.
fn errors_for_a_peer_that_is_demoted_and_promoted(mut bed: Bed) {
    for ip in BOTH {
        let (server, heard) = serve(&mut bed, &[ip], None);
        let at = bed.address(&server);
        let friend = Friend::new(&mut bed, &server, at, on_loopback(at.ip()));
        let mut answered = 0;
        std::thread::scope(|scope| {
            let victim = friend.address();
            // Dropped, and the flood over, also where the test fails.
            let going = Arc::new(());
            let still = Arc::downgrade(&going);
            scope.spawn(move || {
                let forger = Forger::new(at, victim);
                let all = [Says::PortUnreachable, Says::HostUnreachable, Says::TooBig(1_300)];
                all.into_iter()
                    .cycle()
                    .take_while(|_| still.strong_count() > 0)
                    .for_each(|says| forger.send(says));
            });
            // An answer that takes longer is counted with a later one.
            friend.socket.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
            let mut promoted = bed.stats(&server).promoted;
            for round in 0..100 {
                let demote = round % 2 == 0;
                bed.tell(&server, 0, if demote { Say::Demote } else { Say::Promote });
                if !demote {
                    // Once its last socket is gone.
                    promoted += 1;
                    bed.until("it has another socket", |bed| bed.stats(&server).promoted == promoted);
                }
                for n in 0..10u64 {
                    friend.socket.send_to(&n.to_be_bytes(), at).unwrap();
                    answered += u64::from(friend.socket.recv(&mut [0; 16]).is_ok());
                }
            }
            answered += friend.late() as u64;
        });
        friend.ask(b"still there");
        sleeps(&mut bed, &server);
        assert!(heard.try_iter().all(|(about, _)| about == friend.address()));
        let stats = bed.drain(server);
        // As above, what the kernel dropped included.
        let (sent, failed, dropped) = (stats.sent(), stats.send_failed(), stats.kernel_dropped);
        assert_eq!(stats.received + dropped, 1_003, "{stats:?}");
        assert_eq!((sent, sent + failed + dropped), (answered + 3, 1_003), "{stats:?}");
        assert_eq!(stats.promoted, 51, "{stats:?}");
    }
}

/// Its socket is full meanwhile, and watched for room, which an error ends too.
fn errors_for_a_peer_whose_socket_is_full(mut bed: Bed) {
    let host = slow_cable(2_000);
    for ip in source::HERE {
        set_rate(2_000);
        let (sender, seen) = channel();
        let config = Config::new().listen(SocketAddr::new(ip.parse().unwrap(), 7_000)).idle_timeout(None);
        let config = config.send_socket_bytes(16 << 10).tier(TierPolicy::Connected);
        let server = bed.serve(config, move |_| Source::new(sender.clone()));
        let at = bed.address(&server);
        let client = Client::new(&host, at);
        client.ask(Order { count: 0, len: 0, per_turn: 1 });
        bed.until("it is connected", |bed| bed.stats(&server).promoted == 1);
        let order = Order { count: 200, len: 1_000, per_turn: 200 };
        client.ask(order);
        bed.until("it waits", |bed| bed.stats(&server).send_waiting > 50);
        let forger = host.inside(|| Forger::new(at, client.socket.local_addr().unwrap()));
        let before = (shard_cpu(0), bed.stats(&server));
        for _ in 0..50 {
            forger.send(Says::HostUnreachable);
            std::thread::sleep(Duration::from_millis(2));
        }
        let (cpu, stats) = (shard_cpu(0) - before.0, bed.stats(&server));
        assert!(stats.peer_errors > 25, "{stats:?}");
        assert!(stats.turns - before.1.turns < 500 && cpu < 100_000_000, "{cpu} ns, {before:?} {stats:?}");
        set_rate(100_000);
        client.expect_all(order);
        assert!(seen.try_iter().any(|seen| seen == Seen::Error(PeerError::Unreachable)));
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.send_failed()), (200, 0), "{stats:?}");
    }
}

/// The receives of many sockets end at once for want of buffers, and sends fail among them.
fn many_sockets_and_few_buffers(mut bed: Bed) {
    const EACH: usize = 700;
    let host = slow_cable(10_000_000);
    host.run("ip addr add 10.77.0.3/24 dev v1");
    run("ip neigh add 10.77.0.3 lladdr 02:00:00:00:00:02 dev v0 nud permanent");
    let Bed::Real(backend) = bed else { unreachable!("a real driver") };
    let config = Config::new().backend(backend).tier(TierPolicy::Connected).receive_buffers(8);
    let (sender, heard) = channel();
    let server = Server::bind(config.listen("10.77.0.1:7000".parse().unwrap())).expect("the server binds");
    let server = Served::Real(server.spawn(move |_| Talker(sender.clone())).expect("it starts"));
    let at = bed.address(&server);
    let friends: Vec<Friend> = (0..2 * EACH)
        .map(|n| {
            let ip: IpAddr = [10, 77, 0, 2 + (n % 2) as u8].into();
            Friend::new(&mut bed, &server, at, host.inside(|| on_loopback(ip)))
        })
        .collect();
    for _ in 0..3 {
        let before = bed.stats(&server);
        let ((there, is_there), (go, goes)) = (channel(), channel());
        bed.tell(&server, 0, Say::Later { there, go: goes });
        is_there.recv().unwrap();
        run("ip route add unreachable 10.77.0.3/32");
        friends.iter().for_each(|friend| friend.send(b"meanwhile"));
        go.send(()).unwrap();
        let each = EACH as u64;
        bed.until("all is sent", |bed| bed.stats(&server).submitted - before.submitted == 4 * each);
        let stats = bed.stats(&server);
        assert_eq!(stats.received - before.received, 2 * each, "{stats:?}");
        assert_eq!(stats.send_failed_unreachable - before.send_failed_unreachable, 2 * each, "{stats:?}");
        assert!(stats.buffers_exhausted - before.buffers_exhausted > each, "of no use: {stats:?}");
        for _ in 0..2 * EACH {
            let (about, error) = heard.recv_timeout(PATIENCE).expect("each is told");
            assert_eq!((about.ip().to_string().as_str(), error), ("10.77.0.3", PeerError::Unreachable));
        }
        for friend in friends.iter().step_by(2) {
            let mut lengths = friend.hears_some(2);
            lengths.sort_unstable();
            assert_eq!(lengths, [1, 9]);
        }
        run("ip route del unreachable 10.77.0.3/32");
    }
    sleeps(&mut bed, &server);
    let stats = bed.drain(server);
    assert_eq!(stats.send_failed(), stats.send_failed_unreachable, "{stats:?}");
}

in_namespaces_with_uring!(
    what_a_send_is_told_of_an_earlier_one_loses_nothing,
    a_flood_of_forged_errors_stalls_nothing,
    a_heap_of_errors_is_worked_off,
    errors_for_a_peer_that_is_demoted_and_promoted,
    errors_for_a_peer_whose_socket_is_full,
    many_sockets_and_few_buffers,
);
