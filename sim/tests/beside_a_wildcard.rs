//! A listener on one address beside that on all takes what is for it.

mod support;

use shardgram_conformance::Echo;
use shardgram_core::Config;
use shardgram_sim::{LinkConfig, Sim};
use support::{SECOND, addr, all, ip};

#[test]
fn a_specific_listener_beside_a_wildcard_keeps_its_own() {
    let mut sim = Sim::new(2);
    sim.link(LinkConfig::new().trains(true));
    let config = Config::new().listen(addr("0.0.0.0:7")).listen(addr("10.0.0.1:7"));
    let server = sim.server(&[ip("10.0.0.1"), ip("10.0.0.99")], &config, |_| Echo).expect("starts");
    assert_eq!(sim.local_addrs(&server), [addr("0.0.0.0:7"), addr("10.0.0.1:7")]);
    let client = sim.socket(addr("10.0.0.2:5000"));
    for to in ["10.0.0.1:7", "10.0.0.99:7"] {
        sim.send_train(client, addr(to), b"aabb", 2);
        assert!(sim.run_until_quiet(SECOND));
        let froms: Vec<_> = all(&mut sim, client).into_iter().map(|r| r.from).collect();
        assert_eq!(froms, [addr(to); 2]);
    }
}
