//! That it counts right.

use super::meddler::Meddler;
use super::*;

/// What the generator counts is what the server did. One flow, so that the order is known.
fn assert_counts_are_exact(arguments: &str) {
    let server = Meddler::start();
    let (_, json, _) = run_json(&format!(
        "{} --flows 1 --duration 1200ms --warmup 0s --timeout 400ms {arguments}",
        server.address
    ));
    let deeds = server.end();
    let held_to_the_end = u64::from(deeds.received % 10 == 8);
    let deed_and_count = [
        ("sent", deeds.received),
        ("lost", deeds.dropped + deeds.corrupted + held_to_the_end),
        ("duplicated", deeds.duplicated),
        ("reordered", deeds.swapped),
        ("corrupted", deeds.corrupted),
        ("late", 0),
    ];
    for (name, deeds) in deed_and_count {
        assert_eq!(count(&json, name), deeds, "{name} in {json}");
    }
    assert!(deeds.received > 100 && deeds.swapped > 10, "{deeds:?}");
    assert_adds_up(&json);
}

#[test]
fn a_closed_loop_counts_what_a_bad_server_does() {
    assert_counts_are_exact("--window 64");
}

#[test]
fn an_open_loop_counts_what_a_bad_server_does() {
    assert_counts_are_exact("--rate 400");
}

#[test]
fn replies_after_the_timeout_are_late_and_lost() {
    let (server, target) = socket(Duration::from_millis(50));
    let mut bytes = [0; 64];
    let slow = Until::stopped((), move |()| {
        if let Ok((len, from)) = server.recv_from(&mut bytes) {
            std::thread::sleep(Duration::from_millis(60));
            server.send_to(&bytes[..len], from).expect("loopback takes it");
        }
    });
    let (_, json, _) =
        run_json(&format!("{target} --flows 1 --window 2 --duration 500ms --warmup 0s --timeout 90ms"));
    assert!(count(&json, "late") > 0 && count(&json, "late") <= count(&json, "lost"), "{json}");
    assert_eq!(count(&json, "sent"), count(&json, "received") + count(&json, "lost"), "{json}");
    slow.stop();
}
