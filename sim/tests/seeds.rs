//! A test that fails says with which seed, and that seed fails again.

use std::process::{Command, Output};
use std::time::Duration;

use shardgram_sim::{LinkConfig, Sim, seeds};

const ROLE: &str = "SHARDGRAM_TEST_ROLE";

/// Fails when something is lost, which is a matter of luck. Only run by the test below.
#[test]
fn unlucky() {
    if std::env::var(ROLE).as_deref() != Ok("unlucky") {
        return;
    }
    for seed in seeds(1_000) {
        let mut sim = Sim::new(seed);
        sim.link(LinkConfig::new().loss(0.01).expect("in range"));
        let to = "10.0.0.2:9".parse().expect("an address");
        let (from, there) = (sim.socket("10.0.0.1:9".parse().expect("an address")), sim.socket(to));
        sim.send(from, to, b"x");
        sim.run_for(Duration::from_secs(1));
        assert!(sim.receive(there).is_some(), "it was lost");
    }
}

fn run(seed: Option<&str>) -> Output {
    let mut test = Command::new(std::env::current_exe().expect("the path of this test"));
    test.args(["--exact", "unlucky", "--nocapture"]).env(ROLE, "unlucky");
    test.env_remove("SHARDGRAM_SEED").env_remove("SHARDGRAM_TRACE");
    if let Some(seed) = seed {
        test.env("SHARDGRAM_SEED", seed).env("SHARDGRAM_TRACE", "1");
    }
    test.output().expect("it runs")
}

fn seed_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stderr);
    let rest = text.split_once("simulation of seed ").expect("it says the seed").1;
    rest.chars().take_while(char::is_ascii_digit).collect()
}

#[test]
fn the_seed_that_failed_fails_again() {
    if std::env::var_os(ROLE).is_some() {
        return;
    }
    let first = run(None);
    assert!(!first.status.success());
    let (seed, text) = (seed_of(&first), String::from_utf8_lossy(&first.stderr));
    assert!(text.contains(&format!("SHARDGRAM_SEED={seed}")) && !text.contains("Lost"), "{text}");
    let again = run(Some(&seed));
    assert!(!again.status.success());
    assert_eq!(seed_of(&again), seed);
    let text = String::from_utf8_lossy(&again.stderr);
    assert!(text.contains("Sent 10.0.0.1:9 > 10.0.0.2:9") && text.contains("Lost"), "{text}");
    let lucky = if seed == "0" { "1" } else { "0" };
    assert!(run(Some(lucky)).status.success());
}
