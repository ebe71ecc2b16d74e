//! Datagrams of many sizes.

use super::*;

#[test]
fn sizes_vary_by_the_seed_on_all_shards() {
    let load = "--flows 4 --shards 2 --rate 2000 --duration 300ms --warmup 0s";
    let (code, json, _) = run_json(&format!("{load} --size 100:1,300:1 --seed 9"));
    assert_eq!((code, count(&json, "lost"), count(&json, "corrupted")), (0, 0, 0), "{json}");
    let (sent, bytes) = (count(&json, "sent"), count(&json, "bytes_sent"));
    assert!(bytes > 120 * sent && bytes < 280 * sent && bytes.is_multiple_of(100), "{json}");
    assert_eq!(bytes, count(&json, "bytes_received"));
    assert_eq!((count(&json, "seed"), json["size_bytes"].is_null()), (9, true), "{json}");

    let (_, json, _) = run_json(&format!("{load} --size 64"));
    assert_eq!((count(&json, "size_bytes"), json["seed"].is_null()), (64, true), "{json}");
    assert_eq!(count(&json, "bytes_sent"), 64 * count(&json, "sent"), "{json}");
}

#[test]
fn a_seed_that_was_not_given_is_printed() {
    let output = run("--flows 2 --window 1 --duration 100ms --warmup 0s --size imix");
    let out = text(&output.stdout);
    assert!(out.contains("64:7,576:4,1452:1 bytes") && out.contains(", --seed "), "{out}");
}
