//! The load generator as people run it: what it prints, how it ends, and that it counts right.

// Its own unit tests run here, since `cargo test` only builds examples.
#[allow(dead_code)]
#[path = "../../examples/loadgen/main.rs"]
mod loadgen;

mod basics;
mod churn;
mod intervals;
mod meddler;
mod offload;
mod patterns;
mod ramp;
mod refusals;
mod report;
mod search;
mod sizes;
#[cfg(target_os = "linux")]
#[allow(unreachable_pub, reason = "other test programs have it too")]
#[path = "../common/skip.rs"]
mod skip;
mod sources;
mod verdicts;

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

/// A server of the test's own, which runs until it is told to stop.
struct Until<T> {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<T>,
}

impl<T: Send + 'static> Until<T> {
    /// `serve` is called again and again and comes back soon; what it gathered is what [`Until::stop`] gives.
    fn stopped(mut gathered: T, mut serve: impl FnMut(&mut T) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                serve(&mut gathered);
            }
            gathered
        });
        Self { stop, thread }
    }

    fn stop(self) -> T {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("the server lives")
    }
}

/// A socket that waits no longer than so for a datagram, and its address.
fn socket(patience: Duration) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    socket.set_read_timeout(Some(patience)).expect("a timeout");
    let address = socket.local_addr().expect("its address");
    (socket, address)
}

fn count(json: &Value, name: &str) -> u64 {
    json[name].as_u64().unwrap_or_else(|| panic!("{name} in {json}"))
}

/// An open loop was asked for so many, give or take a few for each shard, and sent what it got round to.
fn assert_asked(json: &Value, expected: u64, few: u64) {
    let (asked, sent) = (count(json, "asked"), count(json, "sent"));
    assert!(asked.abs_diff(expected) <= few && sent <= asked && sent > 0, "{asked} of {expected}: {json}");
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
