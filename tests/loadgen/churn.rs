//! Flows that are closed and replaced while it runs.

use std::collections::{BTreeSet, VecDeque};
use std::time::Instant;

use super::*;

#[test]
fn flows_are_replaced_and_nothing_is_lost_by_it() {
    for load in ["--window 2", "--rate 4000"] {
        let (code, json, err) = run_json(&format!(
            "{load} --flows 16 --shards 2 --new-flows 200 --duration 500ms --warmup 0s --interval 100ms"
        ));
        assert_eq!(code, 0, "{err}");
        let new_flows = count(&json, "new_flows");
        assert!((1..=102).contains(&new_flows), "100 were to be replaced: {json}");
        for name in ["lost", "late", "strange", "duplicated", "failed", "new_flows_failed"] {
            assert_eq!(count(&json, name), 0, "{name} in {json}");
        }
        assert_adds_up(&json);
        // Each new flow that sent something is a peer of its own to the server, because it has another port.
        let peers = count(&json["server_counters"], "peers_opened");
        assert!(peers > 16 + new_flows / 2 && peers <= 16 + new_flows + 16, "{peers} peers: {json}");
    }
}

/// A server that takes its time, while most flows are replaced before its answers come.
#[test]
fn replies_to_flows_that_are_gone_are_received() {
    let (server, target) = socket(Duration::from_millis(5));
    let (mut bytes, mut held) = ([0; 64], VecDeque::new());
    let slow = Until::stopped(BTreeSet::new(), move |ports| {
        if let Ok((len, from)) = server.recv_from(&mut bytes) {
            ports.insert(from.port());
            held.push_back((Instant::now(), bytes[..len].to_vec(), from));
        }
        while held.front().is_some_and(|(at, ..): &(Instant, _, _)| at.elapsed() > Duration::from_millis(200))
            && let Some((_, bytes, from)) = held.pop_front()
        {
            server.send_to(&bytes, from).expect("loopback takes it");
        }
    });
    let (code, json, _) = run_json(&format!(
        "{target} --flows 2 --rate 200 --new-flows 20 --duration 600ms --warmup 0s --timeout 1500ms"
    ));
    let ports = slow.stop().len() as u64;
    assert_eq!((code, count(&json, "lost"), count(&json, "late")), (0, 0, 0), "{json}");
    assert_eq!(count(&json, "sent"), count(&json, "received"));
    assert!(count(&json, "new_flows") > 0, "{json}");
    assert!(ports > 2 && count(&json, "strange") == 0, "{ports} ports: {json}");
}

#[test]
fn more_new_flows_than_descriptors_are_refused_with_the_remedy() {
    let output = run("--flows 10 --new-flows 1000000 --timeout 60s");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("fewer --new-flows or a shorter --timeout") && err.lines().count() == 1, "{err}");
}
