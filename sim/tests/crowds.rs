//! A flood that fills the table of peers keeps nobody out, and a host with many ports holds no more than its share.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use shardgram_core::{Accept, Config, Context, Datagram, Handler, PeerId};
use shardgram_sim::{Flood, NodeId, Sim, SocketKey};
use support::{SECOND, addr, ip, listening, payloads};

const AT: &str = "10.0.0.1:7";

/// Answers everybody with the number of datagrams that it had from them, and proves nobody.
struct Counter;

impl Handler for Counter {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Peer(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        let count = cx.peers.get_mut(from).expect("it is open");
        *count += 1;
        let answer = count.to_be_bytes();
        let _ = cx.io.send(from, &answer);
    }
}

/// Asks for a cookie while the table is crowded, and counts like [`Counter`].
struct Careful;

impl Handler for Careful {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, cx: &mut Context<'_, Self>, first: &mut Datagram<'_>) -> Accept<u32> {
        let path = first.path();
        if cx.io.verify(path, first) || !cx.io.pressure(path).wants_proof() {
            return Accept::Peer(0);
        }
        let cookie = cx.io.cookie(path);
        let _ = cx.io.answer(path, &cookie);
        Accept::Done
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, datagram: Datagram<'_>) {
        if datagram.starts_with(b"done") {
            cx.io.validated(from);
        }
        let count = cx.peers.get_mut(from).expect("it is open");
        *count += 1;
        let answer = count.to_be_bytes();
        let _ = cx.io.send(from, &answer);
    }
}

fn serve<H: Handler>(sim: &mut Sim, config: &Config, make: fn() -> H) -> NodeId<H::Message> {
    sim.server(&[ip("10.0.0.1")], config, move |_| make()).expect("starts")
}

/// The last answer to what is said now, if one comes within the time.
fn ask(sim: &mut Sim, client: SocketKey, bytes: &[u8], within: Duration) -> Option<Vec<u8>> {
    sim.send(client, addr(AT), bytes);
    sim.run_for(within);
    payloads(sim, client).pop()
}

fn client(sim: &mut Sim, n: u32) -> SocketKey {
    sim.socket(SocketAddr::new([20, n as u8, (n >> 8) as u8, 1].into(), 5_000))
}

#[test]
fn newcomers_are_answered_during_a_flood_and_after_it() {
    for per_source in [1_u64, 2] {
        let mut sim = Sim::new(1);
        let server = serve(&mut sim, &listening(AT).max_peers(128).shards(2), || Counter);
        // Twice as many sources as places, each of which comes back: that proves nothing.
        let flood = Flood::new(addr(AT), 20_000)
            .and_then(|f| f.sources(ip("198.18.0.0"), 32 - 11))
            .expect("in range");
        let flood = sim.flood(flood.count(per_source * 20_000));
        for n in 0..100 {
            let newcomer = client(&mut sim, n);
            let came = ask(&mut sim, newcomer, b"hello", Duration::from_millis(100));
            assert_eq!(came, Some(1_u32.to_be_bytes().to_vec()), "newcomer {n}");
        }
        assert!(sim.run_until_quiet(60 * SECOND));
        let newcomer = client(&mut sim, 100);
        assert!(ask(&mut sim, newcomer, b"hello", Duration::from_millis(100)).is_some(), "right after");
        let stats = sim.stats(&server);
        assert_eq!(sim.flood_sent(flood), per_source * 20_000);
        assert_eq!((stats.dropped_peers_full, stats.unaccounted()), (0, 0));
        assert!(stats.peers_displaced > 5_000, "{stats:?}");
    }
}

#[test]
fn who_has_proven_its_address_stays_and_a_handshake_succeeds() {
    let mut sim = Sim::new(2);
    let server = serve(&mut sim, &listening(AT).max_peers(512), || Careful);
    let established: Vec<_> = (0..100).map(|n| client(&mut sim, n)).collect();
    for client in &established {
        assert!(ask(&mut sim, *client, b"done", Duration::from_millis(1)).is_some());
    }
    let flood = sim.flood(Flood::new(addr(AT), 10_000).expect("in range").count(10_000));
    sim.run_for(Duration::from_millis(100));
    for round in 0..3 {
        // A handshake whose parts are 100 ms apart.
        let newcomer = client(&mut sim, 1_000 + round);
        let apart = Duration::from_millis(100);
        let cookie = ask(&mut sim, newcomer, b"hello", apart).expect("the cookie");
        assert_eq!(cookie.len(), 16);
        assert_eq!(ask(&mut sim, newcomer, &cookie, apart), Some(1_u32.to_be_bytes().to_vec()));
        assert_eq!(ask(&mut sim, newcomer, b"done", apart), Some(2_u32.to_be_bytes().to_vec()));
        for client in &established {
            let count = ask(&mut sim, *client, b"tick", Duration::from_millis(1));
            assert_eq!(count, Some((round + 2).to_be_bytes().to_vec()), "nothing is forgotten");
        }
    }
    assert!(sim.run_until_quiet(60 * SECOND));
    assert_eq!((sim.flood_sent(flood), sim.stats(&server).unaccounted()), (10_000, 0));
}

#[test]
fn a_host_with_many_ports_holds_no_more_than_its_share() {
    let mut sim = Sim::new(3);
    // It could fill the table several times, and keeps all of its ports alive.
    let server = serve(&mut sim, &listening(AT).max_peers(256), || Counter);
    let ports: Vec<_> = (0..1_000).map(|n| sim.socket(SocketAddr::new(ip("30.1.1.1"), 1_000 + n))).collect();
    let keep_alive = |sim: &mut Sim| {
        for (n, port) in ports.iter().enumerate() {
            sim.send(*port, addr(AT), b"still here");
            if n % 50 == 49 {
                sim.run_for(Duration::from_millis(50));
            }
        }
        ports.iter().for_each(|port| drop(payloads(sim, *port)));
    };
    (0..10).for_each(|_| keep_alive(&mut sim));
    assert!(sim.stats(&server).peers() > 240, "it has all of it");
    let clients: Vec<_> = (0..20).map(|n| client(&mut sim, n)).collect();
    let mut counts = vec![0; clients.len()];
    for _ in 0..30 {
        keep_alive(&mut sim);
        for (client, count) in clients.iter().zip(&mut counts) {
            let answer = ask(&mut sim, *client, b"hello", Duration::from_millis(1)).expect("an answer");
            *count = u32::from_be_bytes(answer.try_into().expect("a count"));
        }
    }
    let kept = counts.iter().filter(|count| **count >= 20).count();
    assert!(kept >= 18, "{kept} of 20 newcomers are peers that stay: {counts:?}");
    assert_eq!(sim.stats(&server).dropped_peers_full, 0);
}
