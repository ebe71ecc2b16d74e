//! What it prints and how it ends.

use super::*;

#[test]
fn the_embedded_server_answers_everything_on_both_backends() {
    let backends = if has_uring() { &["uring", "mio"][..] } else { &["mio"][..] };
    for client in backends {
        for server in backends {
            let (code, json, err) = run_json(&format!(
                "--backend {client} --server-backend {server} --flows 16 --window 4 --duration 300ms --warmup 50ms"
            ));
            assert_eq!((code, err.as_str()), (0, ""), "{json}");
            assert_adds_up(&json);
            assert!(count(&json, "received") > 100, "{json}");
            for name in ["lost", "late", "failed", "duplicated", "reordered", "corrupted", "strange"] {
                assert_eq!(count(&json, name), 0, "{name} in {json}");
            }
            assert!(json["client"].as_str().is_some_and(|text| text.ends_with(client)), "{json}");
            assert!(json["server"].as_str().is_some_and(|text| text.ends_with(server)), "{json}");
            let (echoed, sent) = (&json["server_counters"]["delivered"], &json["client_counters"]["queued"]);
            assert_eq!(echoed, sent, "warm-up included");
        }
    }
}

#[test]
fn an_open_loop_keeps_its_rate_and_shows_both_latencies() {
    let (code, json, _) = run_json("--rate 2000 --flows 8 --shards 2 --duration 500ms --warmup 100ms");
    assert_eq!(code, 0);
    assert_adds_up(&json);
    assert_asked(&json, 1_000, 4);
    for at in ["p50", "max"] {
        let [intended, sent] = ["latency_ns", "latency_from_sent_ns"].map(|name| count(&json[name], at));
        assert!(intended >= sent, "the schedule's latency includes the generator's own: {json}");
    }
    assert!(json["send_lag_ns"]["p99"].is_u64() && json["window"].is_null(), "{json}");
}

#[test]
fn the_table_says_what_was_run_and_what_came_of_it() {
    let output = run("--duration 200ms --warmup 0s --flows 2 --window 1 --size 100");
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    assert_eq!((output.status.code(), err.as_str()), (Some(0), ""));
    for part in ["embedded echo server 127.0.0.1:", "closed loop: 2 flows x 1 in flight, 100 bytes each"] {
        assert!(out.contains(part), "{out}");
    }
    for row in ["sent ", "received ", "lost ", "duplicated ", "reordered ", "corrupted ", "pps "] {
        assert!(out.lines().any(|line| line.starts_with(row)), "{row} in {out}");
    }
    let heading = out.lines().find(|line| line.starts_with("latency")).expect("latencies");
    let columns: Vec<_> = heading.split_whitespace().skip(1).collect();
    assert_eq!(columns, ["p50", "p90", "p99", "p99.9", "p99.99", "max"]);
}

#[test]
fn the_largest_datagram_makes_the_round() {
    let (code, json, _) = run_json("--size 65507 --flows 2 --window 1 --duration 200ms --warmup 0s");
    assert_eq!((code, count(&json, "lost"), count(&json, "corrupted")), (0, 0, 0), "{json}");
    assert!(count(&json, "received") > 0);
}

#[test]
fn conditions_set_the_exit_code() {
    let short = "--duration 100ms --warmup 0s --flows 2 --fail-if";
    let output = run(&format!("{short} lost>0,p99>10s,received==0"));
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""));
    let output = run(&format!("{short} sent>0,lost>0,p50<1s"));
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.starts_with("loadgen: failed: sent>0 (") && err.contains("p50<1s ("), "{err}");
    assert!(err.lines().count() == 1 && !err.contains("lost"), "{err}");
    assert!(!output.stdout.is_empty(), "the table is there all the same");
}

#[test]
fn bad_input_is_one_line_with_a_remedy_and_exit_code_2() {
    let cases = [
        ("--no-such-flag", "--no-such-flag"),
        ("one two", "two"),
        ("127.0.0.1", "host:port"),
        ("nobody.invalid:9", "nobody.invalid"),
        ("239.1.2.3:9", "multicast"),
        ("255.255.255.255:9", "broadcast"),
        ("0.0.0.0:9", "to listen on"),
        ("--cores 9999", "core 9999"),
        ("--cores 0,0", "one core per shard"),
        ("--server-cores 9999", "core 9999"),
        ("--shards 0", "1 to 1024"),
        ("--server-shards 0", "1 to 1024"),
        ("--flows 0", "1..=1000000"),
        ("--window 0", "1..=65536"),
        ("--rate 0", "--rate"),
        ("--rate 10 --window 4", "--window"),
        ("--ramp 10..20", "10000..200000/20s"),
        ("--ramp 1..2/1s --rate 4", "--rate"),
        ("--size 31", "take 32"),
        ("--server-offload on", "auto or off"),
        ("--size 64-65528", "65527"),
        ("--size 1200-64", "smaller one first"),
        ("--size 64:0", "share"),
        ("--size 65508", "65507"),
        ("[::1]:9 --size 65528", "65527"),
        ("--duration soon", "500ms"),
        ("--backend dpdk", "auto, uring or mio"),
        ("--fail-if p98>1ms", "p99.9"),
        ("--fail-if p99>1", "2ms"),
        ("--flows 2 --shards 3", "--flows 3"),
    ];
    for (arguments, part) in cases {
        let output = run(arguments);
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments}: {err}");
        assert!(err.starts_with("loadgen: ") && err.contains(part), "{arguments}: {err}");
        assert!(err.lines().count() == 1 && output.stdout.is_empty(), "{arguments}: {err}");
    }
    for arguments in ["--help", "--version"] {
        let output = run(arguments);
        assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0), "{arguments}");
    }
}

#[test]
#[cfg(target_os = "linux")]
fn more_flows_than_descriptors_name_the_limit() {
    let path = program().get_program().to_owned();
    let limited = format!("ulimit -n 100; exec '{}' --flows 200", path.to_string_lossy());
    let output = Command::new("sh").args(["-c", &limited]).output().expect("a shell");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{err}");
    assert!(err.contains("200 flows") && err.contains("ulimit -n") && err.lines().count() == 1, "{err}");
}

#[test]
fn silence_is_told_from_loss() {
    let silent = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = silent.local_addr().expect("its address");
    // With the second, all windows are stuck before the warm-up is over.
    for times in
        ["--duration 100ms --warmup 0s --timeout 50ms", "--duration 50ms --warmup 100ms --timeout 300ms"]
    {
        let output = run(&format!("{target} --flows 2 {times}"));
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{err}");
        assert!(err.contains(&format!("nothing came back from {target}")), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_it_early_with_what_was_measured() {
    use std::process::Stdio;
    let arguments = ["--duration", "60s", "--warmup", "0s", "--flows", "4", "--rate", "1000", "--json"];
    let child = program().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let child = child.expect("it starts");
    std::thread::sleep(Duration::from_millis(1_500));
    let interrupted = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(interrupted.expect("kill").success());
    let output = child.wait_with_output().expect("it ends");
    let json: Value = serde_json::from_slice(&output.stdout).expect("a result");
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{json}");
    assert!(count(&json, "elapsed_ns") < 10_000_000_000, "{json}");
    assert!(count(&json, "received") > 0 && count(&json, "lost") == 0, "{json}");
    assert_adds_up(&json);
}
