//! Partitions part what they say, in the directions they say, until they are healed.

mod support;

use std::time::Duration;

use shardgram_sim::Sim;
use support::{SECOND, addr, all, ip, listening, payloads};

#[test]
fn both_directions_or_one() {
    let mut sim = Sim::new(1);
    let sockets = [1, 2, 3].map(|host| sim.socket(addr(&format!("10.0.0.{host}:5000"))));
    // Who reaches whom, as rows of those who send.
    let reached = |sim: &mut Sim| {
        for from in sockets {
            for to in sockets {
                let to = sim.socket_addr(to);
                sim.send(from, to, &[sim.socket_addr(from).ip().to_string().as_bytes()[7]]);
            }
        }
        assert!(sim.run_until_quiet(SECOND));
        sockets.map(|to| payloads(sim, to).concat()).map(|from| String::from_utf8(from).expect("digits"))
    };
    assert_eq!(reached(&mut sim), ["123", "123", "123"]);
    let split = sim.partition(&[ip("10.0.0.1")], &[ip("10.0.0.2"), ip("10.0.0.3")]);
    assert_eq!(reached(&mut sim), ["1", "23", "23"]);
    let deaf = sim.partition_towards(&[ip("10.0.0.2")], &[ip("10.0.0.3")]);
    assert_eq!(reached(&mut sim), ["1", "23", "3"]);
    assert!(sim.heal(split) && !sim.heal(split));
    assert_eq!(reached(&mut sim), ["123", "123", "13"]);
    assert!(sim.heal(deaf));
    sim.partition(&[ip("10.0.0.3")], &[ip("10.0.0.3")]);
    assert_eq!(reached(&mut sim), ["123", "123", "12"]);
    sim.heal_all();
    assert_eq!(reached(&mut sim), ["123", "123", "123"]);
    assert_eq!(sim.counts().unaccounted(), 0);
}

#[test]
fn nobody_is_told_and_what_is_on_its_way_arrives() {
    let mut sim = Sim::new(2);
    let server = support::echo(&mut sim, &listening("10.0.0.1:7"));
    let client = sim.socket(addr("10.0.0.2:5000"));
    sim.send(client, addr("10.0.0.1:7"), b"before");
    sim.partition(&[ip("10.0.0.1")], &[ip("10.0.0.2")]);
    sim.send(client, addr("10.0.0.1:7"), b"after");
    sim.run_for(Duration::from_millis(10));
    let stats = sim.stats(&server);
    assert_eq!((stats.received, stats.sent(), stats.send_failed()), (1, 1, 0));
    assert_eq!(all(&mut sim, client).len(), 0, "the echo is lost");
    assert_eq!((sim.counts().lost, sim.receive_error(client)), (2, None));
}
