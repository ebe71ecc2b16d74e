//! What keeps a node from starting is said, and nothing of it is left.

mod support;

use shardgram_conformance::Echo;
use shardgram_core::Config;
use shardgram_sim::Sim;
use support::{SECOND, addr, echo, ip, listening};

#[test]
fn what_cannot_be_bound_is_said() {
    use shardgram_sim::SimError;
    let mut sim = Sim::new(5);
    let first = echo(&mut sim, &listening("10.0.0.1:7"));
    let config = Config::new().listen(addr("10.0.0.1:8")).listen(addr("10.0.0.1:7"));
    let again = sim.server(&[ip("10.0.0.1")], &config, |_| Echo);
    assert_eq!(again.err(), Some(SimError::InUse(addr("10.0.0.1:7"))));
    let config = listening("10.0.0.9:7");
    let foreign = sim.server(&[ip("10.0.0.1")], &config, |_| Echo);
    assert_eq!(foreign.err(), Some(SimError::NotLocal(addr("10.0.0.9:7"))));
    let config = Config::new().shards(0);
    assert!(matches!(sim.server(&[], &config, |_| Echo), Err(SimError::Config(_))));
    echo(&mut sim, &listening("10.0.0.1:8")); // the failed attempt let go of it
    sim.stop(&first);
    sim.run_for(SECOND);
    echo(&mut sim, &listening("10.0.0.1:7")); // as did the one that ended
}
