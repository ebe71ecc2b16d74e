//! A full send socket loses nothing: what it does not take waits, in order and within bounds, and every
//! datagram ends up in exactly one counter.
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use crate::common::source::{
    Client, HERE, Order, Seen, Source, THERE, Tell, done, roomy, set_rate, shard_cpu, slow_cable,
};
use crate::common::{Bed, Served};
use shardgram::{CloseReason, Config, Ending, PeerError, Receivers, Snapshot, TierPolicy, flow_shard};

/// What is on its way has come after that.
const PAUSE: Duration = Duration::from_millis(500);

/// Listens on both families, with a small send buffer.
fn small() -> Config {
    let listen = |address: &str| std::net::SocketAddr::new(address.parse().unwrap(), 7_000);
    Config::new().listen(listen(HERE[0])).listen(listen(HERE[1])).send_socket_bytes(16 << 10)
}

type Server = Served<Tell>;

fn serve(bed: &mut Bed, config: Config) -> (Server, Receiver<Seen>) {
    let (sender, seen) = channel();
    (bed.serve(config, move |_| Source::new(sender.clone())), seen)
}

/// Everything that was queued has one outcome.
fn add_up(stats: &Snapshot) {
    let outcomes = stats.sent() + stats.send_failed() + stats.send_waiting;
    assert_eq!((stats.queued, stats.submitted), (stats.submitted, outcomes), "{stats:?}");
}

/// A client that is known already, and has a socket of its own if there are such.
fn known(bed: &mut Bed, server: &Server, seen: &Receiver<Seen>, client: Client, tier: TierPolicy) -> Client {
    let promoted = bed.stats(server).promoted;
    client.ask(Order { count: 0, len: 0, per_turn: 1 });
    done(seen);
    if tier == TierPolicy::Connected {
        bed.until("it is connected", |bed| bed.stats(server).promoted > promoted);
    }
    client
}

fn one_peer_gets_all_in_order(mut bed: Bed) {
    let host = slow_cable(50_000);
    for tier in bed.tiers() {
        let (server, seen) = serve(&mut bed, small().tier(tier));
        for at in bed.addresses(&server) {
            let client = known(&mut bed, &server, &seen, Client::new(&host, at), tier);
            for (count, len, per_turn) in
                [(2_000, 1_000, 2_000), (2_000, 1_000, 7), (3_000, 4, 3_000), (40, 20_000, 40), (1, 9, 1)]
            {
                let order = Order { count, len, per_turn };
                client.ask(order);
                client.expect_all(order);
                done(&seen);
            }
        }
        let stats = bed.drain(server);
        assert!(stats.send_deferred > 2_000, "the test is of no use if no socket is full: {stats:?}");
        assert_eq!((stats.send_waiting, stats.send_failed()), (0, 0), "{stats:?}");
        assert_eq!(stats.promoted, if tier == TierPolicy::Connected { 2 } else { 0 });
        add_up(&stats);
    }
}

fn many_peers_take_turns(mut bed: Bed) {
    let host = slow_cable(50_000);
    for tier in bed.tiers() {
        let (server, seen) = serve(&mut bed, small().tier(tier));
        let at = bed.address(&server);
        let greedy = known(&mut bed, &server, &seen, Client::new(&host, at), tier);
        let modest: Vec<_> =
            (0..10).map(|_| known(&mut bed, &server, &seen, Client::new(&host, at), tier)).collect();
        let much = Order { count: 3_000, len: 1_000, per_turn: 3_000 };
        greedy.ask(much);
        assert_eq!(greedy.receive(), crate::common::source::numbered(0, 1_000));
        let little = Order { count: 30, len: 1_000, per_turn: 3 };
        modest.iter().for_each(|client| client.ask(little));
        modest.iter().for_each(|client| client.expect_all(little));
        let waiting = bed.stats(&server).send_waiting;
        assert!(waiting > 1_000, "they did not wait for the greedy one: {waiting}");
        greedy.expect_from(1, much);
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.send_failed()), (3_000 + 300, 0), "{stats:?}");
        add_up(&stats);
    }
}

fn endpoints_get_all_in_order(mut bed: Bed) {
    let host = slow_cable(50_000);
    let friends: Vec<_> = THERE
        .iter()
        .map(|ip| host.inside(|| roomy(std::net::SocketAddr::new(ip.parse().unwrap(), 9_000))))
        .collect();
    let greets: Vec<_> = friends.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let (sender, seen) = channel();
    let config = Config::new().send_socket_bytes(16 << 10);
    let server = bed.serve(config, move |_| Source::greeting(sender.clone(), greets.clone()));
    let order = Order { count: 2_000, len: 1_000, per_turn: 2_000 };
    let clients: Vec<_> = friends
        .into_iter()
        .map(|socket| {
            let (_, at) = socket.recv_from(&mut [0; 16]).expect("a greeting");
            Client::of(socket, at)
        })
        .collect();
    clients.iter().for_each(|client| client.ask(order));
    clients.iter().for_each(|client| client.expect_all(order));
    assert_eq!((done(&seen).0, done(&seen).0), (0, 0));
    let stats = bed.drain(server);
    assert!(stats.send_deferred > 1_000);
    assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (4_002, 0, 0), "{stats:?}");
    add_up(&stats);
}

fn a_peer_s_bound_is_told_and_nothing_is_lost(mut bed: Bed) {
    let host = slow_cable(50_000);
    for tier in bed.tiers() {
        let (server, seen) = serve(&mut bed, small().send_queue_bytes(64 << 10).tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        // As much as the outbox takes in the first turn, and a little a turn.
        for per_turn in [u32::MAX, 10] {
            let order = Order { count: 8_000, len: 1_000, per_turn };
            client.ask(order);
            client.expect_all(order);
            let (refused, writable) = done(&seen);
            assert!(refused > 0 && writable > 0, "{refused} {writable}");
        }
        let stats = bed.drain(server);
        assert!(stats.send_refused_full > 0);
        assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (16_000, 0, 0), "{stats:?}");
        add_up(&stats);
    }
}

fn a_peer_s_bound_is_kept(mut bed: Bed) {
    let host = slow_cable(2_000);
    let (server, _seen) = serve(&mut bed, small().send_queue_bytes(64 << 10));
    let client = Client::new(&host, bed.address(&server));
    let most = (64 << 10) / (1_000 + 128);
    client.ask(Order { count: 500, len: 1_000, per_turn: 10 });
    bed.until("the queue is full", |bed| bed.stats(&server).send_refused_full > 0);
    for _ in 0..50 {
        let waiting = bed.stats(&server).send_waiting;
        assert!(waiting <= most, "{waiting} wait of {most}");
        client.receive();
    }
    set_rate(100_000);
    assert_eq!(client.rising(PAUSE), 450);
    let stats = bed.drain(server);
    assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (500, 0, 0), "{stats:?}");
    add_up(&stats);
}

fn the_bound_of_all_is_kept(mut bed: Bed) {
    let host = slow_cable(5_000);
    let (server, _seen) = serve(&mut bed, small().send_backlog_bytes(128 << 10).send_queue_bytes(32 << 10));
    let at = bed.address(&server);
    let clients: Vec<_> = (0..20).map(|_| Client::new(&host, at)).collect();
    let order = Order { count: 100, len: 1_000, per_turn: 3 };
    clients.iter().for_each(|client| client.ask(order));
    bed.until("the queue is full", |bed| bed.stats(&server).send_refused_full > 0);
    let most = (128 << 10) / (1_000 + 128);
    for _ in 0..20 {
        let waiting = bed.stats(&server).send_waiting;
        assert!(waiting <= most, "{waiting} wait of {most}");
        clients[0].receive();
    }
    set_rate(100_000);
    bed.until("all has left", |bed| {
        let stats = bed.stats(&server);
        stats.sent() + stats.send_failed_full == 2_000
    });
    let got: u32 = clients.iter().map(|client| client.rising(PAUSE / 5)).sum();
    let stats = bed.drain(server);
    // Where the socket is found full, more may have been queued in that turn than may wait.
    assert_eq!((u64::from(got) + 20, stats.send_waiting), (stats.sent(), 0), "{stats:?}");
    assert_eq!(stats.send_failed(), stats.send_failed_full);
    assert_eq!(stats.sent() + stats.send_failed_full, 2_000, "each was sent until it was taken: {stats:?}");
    assert!(stats.send_failed_full < 60, "no more than one turn's: {stats:?}");
    add_up(&stats);
}

fn many_refused_peers_hear_of_room_in_time(mut bed: Bed) {
    let host = slow_cable(100);
    let (server, seen) = serve(&mut bed, small().send_backlog_bytes(64 << 10));
    let at = bed.address(&server);
    // More than are looked at in one turn.
    let clients: Vec<_> = (0..2_000).map(|_| Client::new(&host, at)).collect();
    let order = Order { count: 3, len: 1_000, per_turn: 1 };
    clients.iter().for_each(|client| client.ask(order));
    bed.until("all have been refused", |bed| bed.stats(&server).send_refused_full > 1_900);
    let turns = bed.stats(&server).turns;
    // The time in which there are few turns, since little leaves.
    std::thread::sleep(Duration::from_millis(500));
    let turns = bed.stats(&server).turns - turns;
    assert!(turns < 100, "{turns} turns while next to nothing leaves");
    set_rate(200_000);
    for _ in 0..clients.len() {
        done(&seen);
    }
    bed.until("all has left", |bed| {
        let stats = bed.stats(&server);
        stats.sent() + stats.send_failed_full == 6_000
    });
    let stats = bed.drain(server);
    assert_eq!(stats.send_failed(), stats.send_failed_full);
    add_up(&stats);
}

fn answers_without_a_peer_fail_where_they_do_not_fit(mut bed: Bed) {
    let host = slow_cable(1_000);
    let (server, _seen) = serve(&mut bed, small());
    let client = Client::new(&host, bed.address(&server));
    const ASKED: u64 = 300;
    for _ in 0..ASKED {
        client.socket.send_to(&[0xff; 1_000], client.at).unwrap();
    }
    bed.until("all have been answered", |bed| bed.stats(&server).submitted == ASKED);
    set_rate(100_000);
    let mut came = 0;
    while client.try_receive(PAUSE).is_some() {
        came += 1;
    }
    let stats = bed.drain(server);
    assert!(stats.send_failed_full > 0, "the test is of no use if all fit");
    assert_eq!((stats.sent(), stats.sent() + stats.send_failed_full), (came, ASKED), "{stats:?}");
    add_up(&stats);
}

fn a_drain_waits_for_what_waits(mut bed: Bed) {
    let host = slow_cable(10_000);
    for tier in bed.tiers() {
        let (server, seen) = serve(&mut bed, small().tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        let order = Order { count: 200, len: 1_000, per_turn: 200 };
        client.ask(order);
        bed.until("something waits", |bed| bed.stats(&server).send_waiting > 0);
        let stats = bed.drain(server);
        assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (200, 0, 0), "{stats:?}");
        client.expect_all(order);
        add_up(&stats);
    }
}

fn at_the_deadline_what_waits_has_failed(mut bed: Bed) {
    let host = slow_cable(300);
    for tier in bed.tiers() {
        set_rate(300);
        let (server, seen) = serve(&mut bed, small().tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        client.ask(Order { count: 200, len: 1_000, per_turn: 200 });
        bed.until("something waits", |bed| bed.stats(&server).send_waiting > 0);
        let Served::Real(handle) = server else { unreachable!("a real server") };
        let began = Instant::now();
        let report = handle.drain(Duration::from_millis(200)).expect("it ends");
        assert!(matches!(report.shards[0].ending, Ending::DrainDeadline));
        assert!(began.elapsed() >= Duration::from_millis(200));
        let stats = report.total;
        set_rate(100_000);
        assert_eq!(u64::from(client.rising(PAUSE)), stats.sent(), "what the sockets had taken still leaves");
        assert!(stats.send_failed_full > 50);
        assert_eq!((stats.sent() + stats.send_failed_full, stats.send_waiting), (200, 0), "{stats:?}");
        add_up(&stats);
    }
}

fn what_waits_for_a_peer_that_is_closed_or_demoted_still_leaves(mut bed: Bed) {
    let host = slow_cable(2_000);
    let uring = bed.tiers().len() == 2;
    for (tier, tell) in [
        (TierPolicy::Listener, Tell::ClosePeers),
        (TierPolicy::Listener, Tell::Promote),
        (TierPolicy::Connected, Tell::ClosePeers),
        (TierPolicy::Connected, Tell::Demote),
    ] {
        if !uring && (tier == TierPolicy::Connected || tell == Tell::Promote) {
            continue;
        }
        set_rate(2_000);
        let (server, seen) = serve(&mut bed, small().tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        let order = Order { count: 200, len: 1_000, per_turn: 200 };
        client.ask(order);
        bed.until("something waits", |bed| bed.stats(&server).send_waiting > 50);
        bed.tell(&server, 0, tell);
        set_rate(100_000);
        client.expect_all(order);
        let stats = bed.stats(&server);
        assert_eq!((stats.sent(), stats.send_failed(), stats.send_waiting), (200, 0, 0), "{stats:?}");
        if tell != Tell::ClosePeers {
            client.ask(order);
            client.expect_all(order);
        }
        let stats = bed.drain(server);
        let (promoted, demoted) = (stats.promoted, stats.demoted);
        let connected = tier == TierPolicy::Connected || tell == Tell::Promote;
        assert_eq!((promoted, demoted), if connected { (1, 1) } else { (0, 0) });
        let why = if tell == Tell::ClosePeers { CloseReason::Asked } else { CloseReason::Drained };
        assert!(seen.try_iter().any(|seen| seen == Seen::Closed(why)));
        add_up(&stats);
    }
}

fn what_waits_at_an_endpoint_fails_with_it(mut bed: Bed) {
    let host = slow_cable(300);
    let friend = host.inside(|| roomy((THERE[0].parse::<std::net::IpAddr>().unwrap(), 9_000).into()));
    let to = friend.local_addr().unwrap();
    let (sender, seen) = channel();
    let server = bed.serve(Config::new().send_socket_bytes(16 << 10), move |_| {
        Source::greeting(sender.clone(), vec![to])
    });
    let (_, at) = friend.recv_from(&mut [0; 16]).expect("a greeting");
    let client = Client::of(friend, at);
    client.ask(Order { count: 200, len: 1_000, per_turn: 200 });
    bed.until("something waits", |bed| bed.stats(&server).send_waiting > 50);
    bed.tell(&server, 0, Tell::CloseEndpoints);
    bed.until("it is closed", |_| {
        seen.try_iter().any(|seen| seen == Seen::Closed(CloseReason::EndpointClosed))
    });
    let again = std::net::UdpSocket::bind((HERE[0], at.port()));
    assert!(again.is_ok(), "its port is free at once: {again:?}");
    set_rate(100_000);
    let came = u64::from(client.rising(PAUSE));
    let stats = bed.drain(server);
    assert_eq!((stats.sent(), stats.send_waiting), (came + 1, 0), "{stats:?}");
    assert_eq!(stats.send_failed_other, 200 - came, "{stats:?}");
    add_up(&stats);
}

fn room_in_the_outbox_is_told_in_the_next_turn(mut bed: Bed) {
    let host = slow_cable(1_000_000);
    let config =
        Config::new().listen(HERE[0].parse::<std::net::IpAddr>().map(|ip| (ip, 7_000).into()).unwrap());
    let (server, seen) = serve(&mut bed, config.outbox_datagrams(10).idle_timeout(None));
    let client = Client::new(&host, bed.address(&server));
    let order = Order { count: 1_000, len: 100, per_turn: u32::MAX };
    client.ask(order);
    client.expect_all(order);
    let (refused, writable) = done(&seen);
    assert_eq!((refused, writable), (99, 99), "once a turn, though nothing arrives");
    let stats = bed.drain(server);
    assert_eq!((stats.send_deferred, stats.send_refused_full, stats.sent()), (0, 99, 1_000), "{stats:?}");
}

fn a_shard_with_a_full_socket_sleeps(mut bed: Bed) {
    let host = slow_cable(100);
    for tier in bed.tiers() {
        set_rate(100);
        let (server, seen) = serve(&mut bed, small().tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        client.ask(Order { count: 1_000, len: 1_000, per_turn: u32::MAX });
        bed.until("something waits", |bed| bed.stats(&server).send_waiting > 100);
        // The time in which it must make little use of its core.
        let (cpu, turns) = (shard_cpu(0), bed.stats(&server).turns);
        std::thread::sleep(Duration::from_secs(1));
        let (cpu, turns) = (shard_cpu(0) - cpu, bed.stats(&server).turns - turns);
        assert!(cpu < 50_000_000 && turns < 100, "it ran for {cpu} ns in {turns} turns");
        let Served::Real(handle) = server else { unreachable!("a real server") };
        add_up(&handle.drain(Duration::from_millis(1)).expect("it ends").total);
        set_rate(100_000);
        client.rising(PAUSE);
    }
}

/// The cable is pulled while something waits.
fn what_waits_for_a_link_that_goes_down_fails(mut bed: Bed) {
    let host = slow_cable(300);
    for tier in bed.tiers() {
        let config = Config::new().listen(format!("{}:7000", HERE[0]).parse().unwrap());
        let (server, seen) = serve(&mut bed, config.send_socket_bytes(16 << 10).tier(tier));
        let client = Client::new(&host, bed.address(&server));
        let client = known(&mut bed, &server, &seen, client, tier);
        client.ask(Order { count: 200, len: 1_000, per_turn: 200 });
        bed.until("something waits", |bed| bed.stats(&server).send_waiting > 50);
        crate::common::namespace::run("ip link set v0 down");
        bed.until("nothing waits", |bed| bed.stats(&server).send_waiting == 0);
        let told = seen.try_iter().filter(|seen| *seen == Seen::Error(PeerError::Unreachable)).count() as u64;
        let stats = bed.stats(&server);
        let failed = stats.send_failed_unreachable;
        assert!(failed > 50 && stats.send_failed() == failed, "{stats:?}");
        assert!((1..=failed).contains(&told), "once for each train at least: {told}, {stats:?}");
        add_up(&stats);
        crate::common::namespace::run("ip link set v0 up");
        crate::common::namespace::run(
            "ip neigh replace 10.77.0.2 lladdr 02:00:00:00:00:02 dev v0 nud permanent",
        );
        set_rate(300);
        client.ask(Order { count: 1, len: 1_000, per_turn: 1 });
        while crate::common::source::number_of(&client.receive()) != 0 {}
        bed.drain(server);
    }
}

/// What arrives meanwhile and takes all receive buffers, so that sends go before anything is waited for, does
/// not hide that there is room.
fn room_is_not_missed_among_arrivals(mut bed: Bed) {
    let host = slow_cable(50_000);
    let config = small().listen("127.0.0.1:7000".parse().unwrap()).receive_buffers(8);
    let (server, _seen) = serve(&mut bed, config.idle_timeout(None));
    let client = Client::new(&host, bed.address(&server));
    let stranger = roomy("127.0.0.1:0".parse().unwrap());
    let order = Order { count: 60, len: 1_000, per_turn: 60 };
    for round in 0..150 {
        client.ask(order);
        // Somewhere in the middle; the rest leaves without help.
        let pause = Duration::from_micros(1_000 + 40 * round);
        std::thread::sleep(pause);
        for _ in 0..8 {
            stranger.send_to(&[0xff; 1_000], bed.addresses(&server)[2]).unwrap();
        }
        client.expect_all(order);
    }
    let stats = bed.drain(server);
    assert_eq!((stats.sent(), stats.send_failed()), (150 * 68, 0), "{stats:?}");
}

/// Where one shard receives, all of them send by its socket, and each waits for room in it by itself.
fn shards_that_share_a_socket_each_wait_for_room(mut bed: Bed) {
    const SHARDS: u16 = 3;
    let host = slow_cable(50_000);
    let (server, seen) = serve(&mut bed, small().shards(SHARDS).receivers(Receivers::One).idle_timeout(None));
    for at in bed.addresses(&server) {
        let client_of = |shard| {
            let candidates = std::iter::repeat_with(|| Client::new(&host, at));
            let owned = |client: &Client| flow_shard(client.socket.local_addr().unwrap(), SHARDS) == shard;
            candidates.take(1_000).find(owned).expect("a port whose flow that shard owns")
        };
        let clients: Vec<_> = (0..SHARDS).map(client_of).collect();
        for order in [
            Order { count: 1_500, len: 1_000, per_turn: 1_500 },
            Order { count: 1_500, len: 1_000, per_turn: 7 },
            Order { count: 30, len: 20_000, per_turn: 30 },
        ] {
            clients.iter().for_each(|client| client.ask(order));
            clients.iter().for_each(|client| client.expect_all(order));
            for _ in &clients {
                let (refused, writable) = done(&seen);
                assert_eq!(refused, writable, "whoever was refused heard of room");
            }
        }
    }
    // Nobody goes on looking for room, or at what arrives for others.
    let before = bed.stats(&server).turns;
    bed.pass(PAUSE);
    assert!(bed.stats(&server).turns - before < 20, "shards that have nothing to do sleep");
    let stats = bed.drain(server);
    assert!(stats.send_deferred > 2_000, "the test is of no use if no socket is full: {stats:?}");
    assert_eq!((stats.send_waiting, stats.send_failed()), (0, 0), "{stats:?}");
    assert_eq!(stats.forwarded_in, stats.forwarded_out, "{stats:?}");
    add_up(&stats);
}

mod one_receiver {
    use crate::common::{Bed, namespace};

    #[test]
    fn shards_that_share_a_socket_each_wait_for_room() {
        let test = concat!(module_path!(), "::shards_that_share_a_socket_each_wait_for_room");
        namespace::alone(test, || super::shards_that_share_a_socket_each_wait_for_room(Bed::mio()));
    }
}

in_namespaces!(
    room_is_not_missed_among_arrivals,
    one_peer_gets_all_in_order,
    many_peers_take_turns,
    endpoints_get_all_in_order,
    a_peer_s_bound_is_told_and_nothing_is_lost,
    a_peer_s_bound_is_kept,
    the_bound_of_all_is_kept,
    many_refused_peers_hear_of_room_in_time,
    answers_without_a_peer_fail_where_they_do_not_fit,
    a_drain_waits_for_what_waits,
    at_the_deadline_what_waits_has_failed,
    what_waits_for_a_peer_that_is_closed_or_demoted_still_leaves,
    what_waits_at_an_endpoint_fails_with_it,
    what_waits_for_a_link_that_goes_down_fails,
    room_in_the_outbox_is_told_in_the_next_turn,
    a_shard_with_a_full_socket_sleeps,
);
