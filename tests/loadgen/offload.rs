//! Trains, and none.

use super::*;

#[test]
#[cfg(target_os = "linux")]
fn trains_leave_if_they_may_and_nothing_is_lost_by_them() {
    for backend in if has_uring() { &["uring", "mio"][..] } else { &["mio"][..] } {
        let load = format!(
            "--backend {backend} --server-backend {backend} --flows 2 --window 16 --duration 200ms --warmup 0s"
        );
        let (code, json, err) = run_json(&format!("{load} --offload on"));
        assert_eq!((code, count(&json, "lost"), count(&json, "reordered")), (0, 0, 0), "{json}{err}");
        assert!(count(&json["client_counters"], "trains_sent") > 0, "{json}");
        let (code, json, err) = run_json(&format!("{load} --offload off --server-offload off"));
        assert_eq!((code, count(&json, "lost")), (0, 0), "{err}");
        for counters in ["client_counters", "server_counters"] {
            for name in ["trains_sent", "trains_received"] {
                assert_eq!(count(&json[counters], name), 0, "{name} of {counters} in {json}");
            }
        }
    }
}

#[test]
fn trains_that_were_demanded_and_did_not_form_are_a_failure() {
    let output = run("--offload on --flows 1 --rate 20 --duration 200ms --warmup 0s");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("no train was sent, as --offload on demands"), "{err}");
}

#[test]
#[cfg(target_os = "linux")]
fn bursts_of_an_open_loop_leave_as_trains() {
    let (code, json, err) =
        run_json("--rate 3200 --burst 16 --flows 4 --shards 2 --duration 300ms --warmup 0s --offload on");
    assert_eq!((code, count(&json, "lost")), (0, 0), "{err}");
    assert_asked(&json, 960, 32);
    assert_eq!(count(&json, "burst"), 16, "{json}");
    let output = run("--burst 4");
    assert!(text(&output.stderr).contains("--burst is for open loops"), "{}", text(&output.stderr));
}
