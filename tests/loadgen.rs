//! The load generator as people run it: what it prints, how it ends, and that it counts right.

// Its own unit tests run here, since `cargo test` only builds examples.
#[allow(dead_code)]
#[path = "../examples/loadgen/main.rs"]
mod loadgen;

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use serde_json::Value;

/// The example, brought up to date: `cargo test` builds it, `cargo test --test loadgen` does not.
fn program() -> Command {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    Command::new(BUILT.get_or_init(|| {
        let test = std::env::current_exe().expect("this program has a path");
        let profile = test.ancestors().nth(2).expect("<target>/<profile>/deps/<test>");
        let name = match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => "dev",
            Some(name) => name,
        };
        let built = Command::new(env!("CARGO"))
            .args(["build", "--quiet", "--example", "loadgen", "--profile", name, "--target-dir"])
            .arg(profile.parent().expect("<target>"))
            .status();
        // Where there is no cargo any more, the tests were brought together with the example.
        assert!(built.is_err() || built.is_ok_and(|status| status.success()), "the example does not build");
        profile.join("examples").join("loadgen").with_extension(std::env::consts::EXE_EXTENSION)
    }))
}

/// Runs it. One at a time: measurements at once would be each other's noise.
fn run(arguments: &str) -> Output {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    program().args(arguments.split_whitespace()).output().expect("it starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs it with `--json`; gives the exit code, the object, and what went to standard error.
fn run_json(arguments: &str) -> (i32, Value, String) {
    let output = run(&format!("{arguments} --json"));
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    let json = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{arguments}: {e}: {out}{err}"));
    (output.status.code().expect("it exits"), json, err)
}

fn count(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("{name} in {json}"))
}

fn assert_adds_up(json: &Value) {
    let sum = count(json, "received") + count(json, "lost") + count(json, "unanswered");
    assert_eq!(count(json, "sent"), sum, "{json}");
    let latency = &json["latency_ns"];
    let ladder = ["min", "p50", "p90", "p99", "p99.9", "p99.99", "max"].map(|name| count(latency, name));
    assert!(ladder.is_sorted() && ladder[0] > 0, "{latency}");
}

fn has_uring() -> bool {
    let output = run("--backend uring --server-backend mio --duration 1ms --warmup 0s --flows 1");
    let refused = text(&output.stderr).contains("cannot be had");
    if refused {
        eprintln!("io_uring is refused here: {}", text(&output.stderr));
    }
    !refused
}

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
    let sent = count(&json, "sent");
    assert!(sent.abs_diff(1_000) <= 10, "{sent} sent");
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
        ("--size 31", "--size 32"),
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

/// A server that mistreats datagrams in ways it counts.
struct Meddler {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Deeds>,
}

#[derive(Debug, Default)]
struct Deeds {
    received: u64,
    dropped: u64,
    duplicated: u64,
    corrupted: u64,
    swapped: u64,
}

impl Meddler {
    fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("its address");
        socket.set_read_timeout(Some(Duration::from_millis(50))).expect("a timeout");
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || meddle(&socket, &stopped));
        Self { address, stop, thread }
    }

    fn end(self) -> Deeds {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server lives")
    }
}

/// Of every ten datagrams one is dropped, one sent back twice, one with a wrong byte, and one after its
/// successor.
fn meddle(socket: &UdpSocket, stop: &AtomicBool) -> Deeds {
    let mut deeds = Deeds::default();
    let mut held: Option<Vec<u8>> = None;
    let mut bytes = [0; 2_048];
    while !stop.load(Ordering::Relaxed) {
        let Ok((len, from)) = socket.recv_from(&mut bytes) else {
            continue;
        };
        let datagram = &mut bytes[..len];
        let echo = |datagram: &[u8]| socket.send_to(datagram, from).expect("loopback takes it");
        deeds.received += 1;
        match deeds.received % 10 {
            2 => deeds.dropped += 1,
            4 => {
                deeds.duplicated += 1;
                echo(datagram);
                echo(datagram);
            }
            6 => {
                deeds.corrupted += 1;
                datagram[deeds.received as usize / 10 % len] ^= 0x10;
                echo(datagram);
            }
            8 => held = Some(datagram.to_vec()),
            _ => {
                echo(datagram);
                if let Some(held) = held.take() {
                    deeds.swapped += 1;
                    echo(&held);
                }
            }
        }
    }
    deeds
}

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
    assert_counts_are_exact("--rate 1000");
}

#[test]
fn replies_after_the_timeout_are_late_and_lost() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = server.local_addr().expect("its address");
    let slow = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        server.set_read_timeout(Some(Duration::from_secs(3))).expect("a timeout");
        while let Ok((len, from)) = server.recv_from(&mut bytes) {
            std::thread::sleep(Duration::from_millis(60));
            server.send_to(&bytes[..len], from).expect("loopback takes it");
        }
    });
    let (_, json, _) =
        run_json(&format!("{target} --flows 1 --window 2 --duration 500ms --warmup 0s --timeout 90ms"));
    assert!(count(&json, "late") > 0 && count(&json, "late") <= count(&json, "lost"), "{json}");
    assert_eq!(count(&json, "sent"), count(&json, "received") + count(&json, "lost"), "{json}");
    slow.join().expect("the server lives");
}
