//! Servers that take what comes, and servers that pass it on to subscribers.

use std::net::UdpSocket;

use super::*;

#[test]
fn a_sink_of_ones_own_tells_what_arrived() {
    let (code, json, err) = run_json(
        "--mode sink --rate 2000 --flows 8 --shards 2 --server-shards 2 --new-flows 20 --duration 400ms \
         --warmup 100ms --interval 100ms --size 64-200",
    );
    assert_eq!(code, 0, "{err}");
    assert_adds_up(&json);
    assert_eq!((count(&json, "lost"), count(&json, "strange")), (0, 0), "{json}");
    assert_eq!(count(&json, "bytes_sent"), count(&json, "bytes_received"), "{json}");
    assert_asked(&json, 800, 4);
    assert_eq!(json["mode"], "sink", "{json}");
    assert_eq!(count(&json["server_counters"], "queued"), 0, "it answers nothing");
    let intervals = json["intervals"].as_array().expect("intervals");
    for name in ["sent", "received", "lost"] {
        let sum: u64 = intervals.iter().map(|interval| count(interval, name)).sum();
        assert_eq!(sum, count(&json, name), "{name} in {json}");
    }
}

#[test]
fn what_arrives_at_another_process_is_unknown() {
    let sink = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = sink.local_addr().expect("its address");
    let load =
        format!("{target} --mode sink --rate 500 --flows 2 --duration 200ms --warmup 0s --timeout 100ms");
    let (code, json, err) = run_json(&load);
    assert_eq!((code, err.as_str()), (0, ""), "{json}");
    assert_asked(&json, 100, 2);
    for name in ["received", "lost", "pps", "latency_ns"] {
        assert!(json[name].is_null(), "{name} in {json}");
    }
    let output = run(&format!("{load} --interval 100ms"));
    let out = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(out.contains("received             unknown"), "{out}");
}

#[test]
fn every_subscriber_gets_everything() {
    let (code, json, err) = run_json(
        "--mode fan-out --publishers 2 --flows 7 --rate 500 --shards 2 --server-shards 2 --duration 400ms \
         --warmup 50ms --interval 100ms",
    );
    assert_eq!(code, 0, "{err}");
    let sent = count(&json, "sent");
    assert_asked(&json, 200, 4);
    assert_eq!(count(&json, "subscribers"), 5, "{json}");
    assert_eq!((count(&json, "due"), count(&json, "received")), (5 * sent, 5 * sent), "{json}");
    for name in ["lost", "late", "duplicated", "strange", "corrupted"] {
        assert_eq!(count(&json, name), 0, "{name} in {json}");
    }
    let intervals = json["intervals"].as_array().expect("intervals");
    for name in ["sent", "received", "lost"] {
        let sum: u64 = intervals.iter().map(|interval| count(interval, name)).sum();
        assert_eq!(sum, count(&json, name), "{name} in {json}");
    }
}

/// Of ten deliveries the server forgets one and makes another twice.
#[test]
fn deliveries_are_counted_exactly() {
    let (server, target) = socket(Duration::from_millis(50));
    let (mut bytes, mut subscribers, mut deliveries) = ([0; 2_048], Vec::new(), 0_u64);
    let server = Until::stopped((0_u64, 0_u64), move |(forgotten, twice)| {
        let Ok((len, from)) = server.recv_from(&mut bytes) else { return };
        let send = |to| server.send_to(&bytes[..len], to).expect("loopback takes it");
        if bytes[30] == 1 {
            if !subscribers.contains(&from) {
                subscribers.push(from);
            }
            send(from);
            return;
        }
        for subscriber in &subscribers {
            deliveries += 1;
            match deliveries % 10 {
                3 => *forgotten += 1,
                7 => {
                    *twice += 1;
                    send(*subscriber);
                    send(*subscriber);
                }
                _ => {
                    send(*subscriber);
                }
            }
        }
    });
    let (_, json, _) = run_json(&format!(
        "{target} --mode fan-out --flows 4 --rate 400 --duration 500ms --warmup 0s --timeout 500ms"
    ));
    let (forgotten, twice) = server.stop();
    assert_eq!(count(&json, "due"), 3 * count(&json, "sent"), "{json}");
    assert_eq!((count(&json, "lost"), count(&json, "duplicated")), (forgotten, twice), "{json}");
    assert_eq!(count(&json, "received"), count(&json, "due") - forgotten, "{json}");
    assert!(forgotten > 5, "{forgotten}");
}

#[test]
fn a_server_that_knows_no_subscriptions_is_named() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = silent.local_addr().expect("its address");
    let output = run(&format!("{target} --mode fan-out --flows 3 --rate 10 --timeout 10ms"));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains(&format!("{target} did not send back 2 of 2 subscriptions")), "{err}");
    assert_eq!(err.lines().count(), 1, "{err}");
}

#[test]
fn modes_that_make_no_sense_are_refused() {
    for (arguments, part) in [
        ("--mode loud", "echo, sink or fan-out"),
        ("--mode sink", "take --rate"),
        ("--mode fan-out --window 2", "take --rate"),
        ("--mode fan-out --rate 9 --flows 1", "more --flows"),
        ("--mode fan-out --rate 9 --new-flows 1", "not replaced"),
        ("127.0.0.1:9 --mode sink --rate 9 --fail-if lost>0", "unknown"),
        ("127.0.0.1:9 --mode sink --search 0", "unknown"),
    ] {
        let output = run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert!(err.contains(part) && err.lines().count() == 1, "{arguments}: {err}");
    }
}
