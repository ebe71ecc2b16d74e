//! The search for the highest rate.

use std::net::UdpSocket;
use std::time::Instant;

use super::*;

/// The server answers no more than a hundred datagrams in a tenth of a second.
#[test]
fn a_search_brackets_what_the_server_bears() {
    let (server, target) = socket(Duration::from_millis(50));
    let (mut bytes, mut begin, mut answered) = ([0; 64], Instant::now(), 0);
    let limited = Until::stopped((), move |()| {
        let Ok((len, from)) = server.recv_from(&mut bytes) else { return };
        if begin.elapsed() >= Duration::from_millis(100) {
            (begin, answered) = (Instant::now(), 0);
        }
        answered += 1;
        if answered <= 100 {
            server.send_to(&bytes[..len], from).expect("loopback takes it");
        }
    });
    let (code, json, err) = run_json(&format!(
        "{target} --search 0,50% --rate 200 --trial 300ms --warmup 0s --timeout 300ms --flows 4 --resolution 30% \
         --max-trials 10"
    ));
    limited.stop();
    assert_eq!(code, 0, "{err}");
    let found = json["found"].as_array().expect("what was found");
    assert_eq!(found.len(), 2, "{json}");
    let trials = json["trials"].as_array().expect("trials");
    assert!(trials.len() <= 20, "{json}");
    for found in found {
        let rate = count(found, "rate_pps");
        let allowed = found["loss_percent"].as_f64().expect("a number");
        let passed = trials.iter().find(|trial| count(trial, "rate_pps") == rate).expect("its trial");
        assert!(passed["loss_percent"].as_f64().is_some_and(|lost| lost <= allowed), "{passed}");
        // Those that failed are above it, so the found rate is the highest below all of them.
        let failed = trials.iter().filter(|trial| {
            trial["loss_percent"].as_f64() > Some(allowed) || trial["generator_kept_up"] == false
        });
        assert!(failed.clone().count() > 0, "{json}");
        assert!(failed.map(|trial| count(trial, "rate_pps")).min() > Some(rate), "{json}");
        let percents: Vec<_> =
            found["latency"].as_array().expect("latencies").iter().map(|at| count(at, "percent")).collect();
        assert_eq!(percents, [10, 50, 90], "{json}");
    }
    let [none, half] = [0, 1].map(|at| count(&found[at], "rate_pps"));
    assert!(none <= half, "no less gets through if half may be lost: {json}");
}

#[test]
fn people_see_trials_and_what_they_came_to() {
    // So few trials that it ends before any limit is met.
    let output = run("--search 0 --rate 100 --trial 100ms --warmup 0s --flows 2 --max-trials 2");
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    let rates: Vec<_> =
        out.lines().take(3).map(|line| line.split_whitespace().next().unwrap_or("")).collect();
    // A generator that gets no core for long goes down instead of up.
    assert!(rates == ["rate", "100", "200"] || rates == ["rate", "100", "50"], "{out}");
    let found = out.lines().find(|line| line.starts_with("highest rate with no loss: ")).expect("a result");
    assert!(found.contains("there were not enough trials to be sure"), "{out}");
    for percent in ["  10 % of ", "  50 % of ", "  90 % of "] {
        assert!(found.contains("none") || out.contains(percent), "{out}");
    }
}

#[test]
fn nothing_found_is_a_failure() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = silent.local_addr().expect("its address");
    let output = run(&format!(
        "{target} --search 0 --rate 2 --trial 1s --warmup 0s --flows 1 --timeout 10ms --max-trials 4"
    ));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("no rate was found at which 0 % or less is lost"), "{err}");
}
