//! The pps harness as a program: what runs without other libraries, one short round each. Nothing is said of times.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

const OURS: &str = "shardgram-uring-listener,shardgram-uring-connected,shardgram-mio,bare-uring,bare-uring-patient,recvmmsg,recvfrom";

fn pps(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pps")).args(arguments).output().expect("pps runs")
}

/// All use the same two cores, and a server that spins leaves the others little: one test at a time.
static CORES: Mutex<()> = Mutex::new(());

/// Runs a scenario with all contenders that are always there; what each did in the only round.
fn round(scenario: &[&str], folder: &Path) -> Vec<(String, Value)> {
    let json = folder.join("rounds.json");
    let json = json.to_str().expect("a path");
    let mut arguments = vec!["--contenders", OURS, "--rounds", "1", "--seconds", "0.3", "--json", json];
    arguments.extend(scenario);
    let output = pps(&arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let text = std::fs::read_to_string(json).expect("it was written");
    let value: Value = serde_json::from_str(&text).expect("it is JSON");
    let rows = value["scenarios"][0]["rows"].as_array().expect("rows").clone();
    let rounds = rows.iter().map(|row| {
        let name = row["contender"].as_str().expect("a name").to_owned();
        (name, row["rounds"][0].clone())
    });
    rounds.collect()
}

/// Where there is no io_uring its contenders fail, and say so.
fn has_io_uring() -> bool {
    io_uring::IoUring::new(8).is_ok()
}

fn expect_all_work(scenario: &[&str]) -> Vec<(String, Value)> {
    let _alone = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = tempfile::tempdir().expect("a folder");
    let rounds = round(scenario, folder.path());
    let spins = |name: &&str| *name != "bare-uring-patient" || !scenario.contains(&"spin");
    assert_eq!(rounds.len(), OURS.split(',').filter(spins).count());
    for (name, round) in &rounds {
        if name.contains("uring") && !has_io_uring() {
            assert!(round["Err"].is_string(), "{name}: {round}");
            continue;
        }
        let outcome = &round["Ok"];
        assert!(outcome["datagrams"].as_u64() > Some(0), "{name}: {round}");
        assert_eq!(outcome["corrupted"], 0, "{name}: {round}");
        assert!(outcome["cpu_ns"].as_f64() > Some(0.0), "{name}: {round}");
    }
    rounds
}

#[test]
fn plain_clients_are_echoed() {
    for (_, round) in expect_all_work(&["--scenario", "16x8"]) {
        let latency = &round["Ok"]["latency"];
        assert!(latency["p50"].as_u64() <= latency["p999"].as_u64(), "{round}");
    }
}

#[test]
fn offloading_clients_are_echoed() {
    expect_all_work(&["--scenario", "4x64", "--client", "offload"]);
    expect_all_work(&["--scenario", "4x16", "--client", "offload", "--size", "8192"]);
}

#[test]
fn one_flow_is_echoed_by_those_that_spin() {
    expect_all_work(&["--scenario", "1x1", "--wait", "spin"]);
}

#[test]
fn sinks_count() {
    for (_, round) in expect_all_work(&["--scenario", "16x8", "--mode", "sink"]) {
        assert!(round["Ok"]["latency"].is_null(), "{round}");
    }
}

#[test]
fn publications_reach_everybody() {
    expect_all_work(&["--scenario", "50x1", "--mode", "fanout", "--size", "1200"]);
}

#[test]
fn a_rate_is_the_same_for_all() {
    expect_all_work(&["--scenario", "8x4", "--half-rate"]);
}

#[test]
fn a_server_that_does_not_start_is_a_failure_that_is_shown() {
    // Trains of a fan-out make no sense, and a core that is not there is one more word of warning only.
    let output = pps(&["--scenario", "4x1", "--mode", "fanout", "--client", "offload"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("a fan-out sends no trains"));
    let output = pps(&["serve", "--contender", "nobody"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("nobody"));
}

#[test]
fn contenders_are_listed() {
    let output = pps(&["--list"]);
    let text = String::from_utf8_lossy(&output.stdout);
    for name in ["shardgram-uring-adaptive", "tokio-quinn-udp", "16x64-offload", "15000x1"] {
        assert!(text.contains(name), "{text}");
    }
}
