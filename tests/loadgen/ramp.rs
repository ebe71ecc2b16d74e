//! A rate that rises.

use super::*;

#[test]
fn a_ramp_sends_what_is_due_on_all_shards() {
    let (code, json, err) =
        run_json("--ramp 1000..5000/1s --flows 6 --shards 2 --warmup 100ms --interval 250ms");
    assert_eq!((code, count(&json, "lost")), (0, 0), "{err}");
    assert_adds_up(&json);
    let sent = count(&json, "sent");
    assert_asked(&json, 3_000, 4);
    assert_eq!(count(&json["ramp"], "to_pps"), 5_000, "{json}");
    let intervals = json["intervals"].as_array().expect("intervals");
    assert_eq!(err.lines().count(), intervals.len(), "{err}");
    let of: Vec<_> = intervals.iter().map(|interval| count(interval, "sent")).collect();
    assert_eq!(of.iter().sum::<u64>(), sent, "{of:?}");
}

#[test]
fn people_see_the_intervals_of_a_ramp() {
    let output = run("--ramp 200..100/200ms --flows 2 --warmup 0s --interval 100ms");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(out.contains("open loop: 200 to 100 datagrams a second over 2 flows"), "{out}");
    assert!(out.lines().any(|line| line.trim_start().starts_with("200ms ")), "{out}");
}
