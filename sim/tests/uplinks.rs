//! A slow uplink fills send buffers: what does not fit waits in order, refusals are told of, nothing is lost.

mod support;

use std::time::Duration;

use shardgram_core::{Accept, Config, Context, Datagram, Endpoint, Handler, PeerId, SendError, Via};
use shardgram_sim::Sim;
use support::{SECOND, addr, ip, listening, payloads};

/// Sends so many numbered datagrams to whoever writes, as fast as it may.
struct Source {
    count: u32,
    refused: u64,
}

impl Source {
    fn fill(&mut self, cx: &mut Context<'_, Self>, to: PeerId) {
        let Some(next) = cx.peers.get_mut(to) else { return };
        while *next < self.count {
            let mut bytes = [0; 1_000];
            bytes[..4].copy_from_slice(&next.to_be_bytes());
            match cx.io.send(to, &bytes) {
                Ok(()) => *next += 1,
                Err(SendError::Full(_)) => {
                    self.refused += 1;
                    break;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }
}

impl Handler for Source {
    type Peer = u32;
    type Timer = ();
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<u32> {
        Accept::Peer(0)
    }

    fn on_datagram(&mut self, cx: &mut Context<'_, Self>, from: PeerId, _: Datagram<'_>) {
        self.fill(cx, from);
    }

    fn on_writable(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        self.fill(cx, peer);
    }
}

fn config() -> Config {
    // What a turn can queue has room in the backlog, so nothing that was taken is lost.
    listening("10.0.0.1:7")
        .outbox_datagrams(64)
        .send_socket_bytes(64 << 10)
        .send_backlog_bytes(256 << 10)
        .send_queue_bytes(64 << 10)
}

#[test]
fn all_arrives_in_order_at_the_rate_of_the_uplink() {
    const COUNT: u32 = 5_000;
    for (config, seed) in [(config(), 1), (config().trains(false), 2)] {
        let mut sim = Sim::new(seed);
        sim.uplink(ip("10.0.0.1"), Some(1_000_000)).expect("in range");
        let make = |_| Source { count: COUNT, refused: 0 };
        let server = sim.server(&[ip("10.0.0.1")], &config, make).expect("starts");
        let clients = ["10.0.0.2:5000", "10.0.0.3:5000"].map(|a| sim.socket(addr(a)));
        clients.iter().for_each(|client| sim.send(*client, addr("10.0.0.1:7"), b"go"));
        sim.run_for(SECOND);
        let stats = sim.stats(&server);
        assert!(stats.send_waiting > 0 && stats.send_refused_full > 0, "{stats:?}");
        assert!(stats.send_waiting <= 256 << 10 >> 7, "it is bounded");
        let passed = clients.map(|client| payloads(&mut sim, client));
        let bytes: usize = passed.iter().flatten().map(|datagram| datagram.len() + 28).sum();
        assert!((980_000..=1_000_000).contains(&bytes), "{bytes} bytes in a second");
        assert!(sim.run_until_quiet(20 * SECOND));
        for (client, passed) in clients.into_iter().zip(passed) {
            let all = passed.into_iter().chain(payloads(&mut sim, client));
            let numbers = all.map(|bytes| u32::from_be_bytes(bytes[..4].try_into().expect("a number")));
            assert_eq!(numbers.collect::<Vec<_>>(), (0..COUNT).collect::<Vec<_>>());
        }
        let stats = sim.stats(&server);
        assert_eq!((stats.send_failed(), stats.send_waiting), (0, 0));
        assert!(stats.send_deferred > 100, "{stats:?}");
        assert_eq!((stats.sent(), sim.buffers_out(&server)), (2 * u64::from(COUNT), 0));
    }
}

/// Opens an endpoint and asks the server through it.
struct Client;

impl Handler for Client {
    type Peer = ();
    type Timer = PeerId;
    type Message = ();

    fn accept(&mut self, _: &mut Context<'_, Self>, _: &mut Datagram<'_>) -> Accept<()> {
        Accept::Done
    }

    fn on_start(&mut self, cx: &mut Context<'_, Self>) {
        let socket = cx.io.endpoint(Endpoint::towards(addr("10.0.0.1:7"))).expect("room");
        let peer = cx.open(Via::Endpoint(socket), addr("10.0.0.1:7"), ()).expect("open");
        for _ in 0..100 {
            cx.io.send(peer, &[1; 1_000]).expect("room");
        }
        let at = cx.io.now() + Duration::from_millis(50);
        cx.io.set_timer(at, peer).expect("room");
    }

    fn on_timer(&mut self, cx: &mut Context<'_, Self>, peer: PeerId) {
        let path = cx.io.path(peer).expect("it is there");
        assert!(path.socket.as_endpoint().is_some());
        cx.io.close(peer);
    }
}

#[test]
fn endpoints_have_send_buffers_too() {
    let mut sim = Sim::new(3);
    sim.uplink(ip("10.0.0.9"), Some(100_000)).expect("in range");
    let server = support::echo(&mut sim, &listening("10.0.0.1:7"));
    let config = Config::new().send_socket_bytes(8 << 10).trains(false);
    let client = sim.server(&[ip("10.0.0.9")], &config, |_| Client).expect("starts");
    sim.run_for(Duration::from_millis(40));
    assert!(sim.stats(&client).send_waiting > 80, "{:?}", sim.stats(&client));
    assert!(sim.run_until_quiet(10 * SECOND));
    assert_eq!(sim.stats(&server).received, 100, "what waits for a peer that is closed leaves all the same");
    assert_eq!(sim.stats(&client).send_waiting, 0);
}

#[test]
fn what_could_not_leave_when_a_node_stops_has_failed() {
    let mut sim = Sim::new(4);
    sim.uplink(ip("10.0.0.1"), Some(10_000)).expect("in range");
    let make = |_| Source { count: 300, refused: 0 };
    let server = sim.server(&[ip("10.0.0.1")], &config(), make).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"go");
    sim.run_for(SECOND);
    sim.stop(&server);
    assert!(sim.run_until_quiet(60 * SECOND));
    let stats = sim.stats(&server);
    assert!(stats.send_failed_full > 0, "{stats:?}");
    assert_eq!((stats.send_waiting, sim.counts().unaccounted()), (0, 0));
    assert_eq!(stats.submitted, stats.sent() + stats.send_failed_full);
    assert_eq!(payloads(&mut sim, client).len() as u64, stats.sent());
}

#[test]
fn an_uplink_that_is_fast_again_empties_in_its_time() {
    let mut sim = Sim::new(5);
    sim.uplink(ip("10.0.0.1"), Some(10_000)).expect("in range");
    assert!(sim.uplink(ip("10.0.0.1"), Some(0)).is_err());
    let make = |_| Source { count: 500, refused: 0 };
    sim.server(&[ip("10.0.0.1")], &config(), make).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"go");
    sim.run_for(SECOND);
    let before = payloads(&mut sim, client).len();
    assert!(before < 12, "{before}");
    sim.uplink(ip("10.0.0.1"), None).expect("in range");
    assert!(sim.run_until_quiet(20 * SECOND));
    assert_eq!(before + payloads(&mut sim, client).len(), 500);
}

#[test]
fn a_drain_waits_for_what_waits_and_sleeps_meanwhile() {
    let mut sim = Sim::new(6);
    sim.uplink(ip("10.0.0.1"), Some(10_000)).expect("in range");
    let make = |_| Source { count: 200, refused: 0 };
    let server = sim.server(&[ip("10.0.0.1")], &config().trains(false), make).expect("starts");
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"go");
    sim.run_for(SECOND);
    assert!(sim.stats(&server).send_waiting > 0);
    let (began, turns) = (sim.elapsed(), sim.stats(&server).turns);
    sim.drain(&server, 60 * SECOND);
    assert!(sim.run_until(60 * SECOND, |sim| sim.ended(&server).is_some()));
    let took = sim.elapsed() - began;
    assert!(sim.run_until_quiet(60 * SECOND));
    assert_eq!((payloads(&mut sim, client).len(), sim.stats(&server).send_failed()), (200, 0));
    let turns = sim.stats(&server).turns - turns;
    assert!(took > 10 * SECOND, "{took:?}");
    assert!(u128::from(turns) < 2 * took.as_millis(), "{turns} turns in {took:?}");
}
