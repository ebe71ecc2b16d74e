//! The floods, each in its smallest form: they run, and say all that they are to say. Nothing is said of the figures.

use std::process::Command;
use std::sync::{Mutex, PoisonError};

#[path = "../../tests/common/skip.rs"]
#[allow(unreachable_pub, reason = "it is a module of other tests too")]
mod skip;

/// All use the same two cores: one test at a time.
static CORES: Mutex<()> = Mutex::new(());

/// Runs a scenario with a driver; what it said.
fn rehearse(scenario: &str, backend: &str) -> Option<String> {
    let _alone = CORES.lock().unwrap_or_else(PoisonError::into_inner);
    let allowed = Command::new("unshare").args(["-r", "-n", "ip", "link", "set", "lo", "up"]).output();
    if !allowed.is_ok_and(|output| output.status.success()) {
        skip::record("unshare and ip make no network namespace");
        return None;
    }
    if backend == "uring" && io_uring::IoUring::new(8).is_err() {
        skip::record("io_uring is refused");
        return None;
    }
    let mut floods = Command::new(env!("CARGO_BIN_EXE_floods"));
    let output = floods.args([scenario, "--quick", "--backend", backend]).output().expect("it runs");
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{errors}");
    Some(said.into_owned())
}

/// A scenario says all this, with either driver.
fn expect(scenario: &str, backend: &str, figures: &[&str]) {
    let Some(said) = rehearse(scenario, backend) else { return };
    for figure in figures {
        assert!(said.contains(&format!("| {figure} |")), "{figure} is missing:\n{said}");
    }
}

#[test]
fn newcomers() {
    for backend in ["uring", "mio"] {
        let figures = [
            "newcomers during answered within a second",
            "newcomers right after whose handshake succeeded within two tries",
            "established peers' loss beyond that",
            "resident memory grew by",
        ];
        expect("newcomers", backend, &figures);
    }
}

#[test]
fn ports_that_keep_alive() {
    for backend in ["uring", "mio"] {
        expect(
            "keepalive",
            backend,
            &["newcomers answered within a second", "newcomers that the server forgot"],
        );
    }
}

#[test]
fn a_slow_handler() {
    let half = "p99 flooded over quiet, median";
    expect("slow", "uring", &[half, "connected peers' answers, in the worst round"]);
    expect("slow", "mio", &[half]);
}

#[test]
fn a_connected_peer_that_floods() {
    expect("connected-flood", "uring", &["lost by the others, in all rounds"]);
}

#[test]
fn idle_peers() {
    for backend in ["uring", "mio"] {
        expect("reap", backend, &["peers that are left", "longest turn meanwhile, of CPU"]);
    }
}
