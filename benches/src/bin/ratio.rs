//! CPU per datagram of the echo example against the bare ring loop, interleaved in one run.
//!
//! `cargo run --release -p shardgram-benches --bin ratio -- --rounds 9`
//!
//! Each round starts a fresh server of each kind, pinned to one core, lets the load generator drive it
//! from another, and divides the CPU time of all its threads (`/proc/PID/task/*/schedstat`, nanoseconds
//! on a core) by the datagrams it says it received. Ratios are taken round by round, so that a processor
//! that changes its speed changes both sides alike.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use clap::Parser;
use shardgram_benches::figures::Quartiles;

/// Compares the echo example with the bare ring loop.
#[derive(Parser)]
struct Options {
    /// Interleaved rounds.
    #[arg(long, default_value_t = 9)]
    rounds: usize,
    /// Flows of the client.
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Datagrams each flow keeps outstanding.
    #[arg(long, default_value_t = 1)]
    window: u32,
    /// Bytes of a datagram.
    #[arg(long, default_value_t = 64)]
    size: u32,
    /// Seconds of load in each round.
    #[arg(long, default_value_t = 3)]
    seconds: u32,
    /// Fail if the median ratio is above this.
    #[arg(long, default_value_t = 1.05)]
    bar: f64,
    /// The server's core; the client's is 0.
    #[arg(long, default_value_t = 1)]
    core: usize,
    /// The tier of the echo example's peers: listener, or connected. The bare loop is what it is.
    #[arg(long, default_value = "listener")]
    tier: String,
    /// Arguments of the echo example beside the usual ones.
    #[arg(long, allow_hyphen_values = true)]
    echo_args: Option<String>,
}

/// A server under measurement; ended by its process id when dropped.
struct Server {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
    address: String,
}

impl Server {
    fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut out = BufReader::new(child.stdout.take().expect("its output is ours"));
        let mut line = String::new();
        out.read_line(&mut line).expect("it says where it listens");
        let address = line.split_whitespace().nth(2).expect("an address").to_owned();
        Self { child, out, address }
    }

    /// Nanoseconds its threads have spent on a core.
    fn cpu(&self) -> u64 {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("it runs");
        tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("schedstat")).ok())
            .filter_map(|text| text.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    /// Ends it and says how many datagrams it received.
    fn finish(mut self) -> u64 {
        let id = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &id]).status().expect("kill runs");
        let received = self
            .out
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("received=")?.split_whitespace().next()?.parse().ok());
        self.child.wait().expect("it ends");
        received.expect("it says how many datagrams it received")
    }
}

struct Programs {
    echo: PathBuf,
    loadgen: PathBuf,
    bare: PathBuf,
}

impl Programs {
    /// Builds them, and finds them beside this one.
    fn build() -> Self {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        for what in [
            &["-p", "shardgram", "--example", "echo", "--example", "loadgen"][..],
            &["-p", "shardgram-benches", "--bin", "bare_uring"],
        ] {
            let status = Command::new(&cargo).args(["build", "--release", "--quiet"]).args(what).status();
            assert!(status.is_ok_and(|status| status.success()), "{what:?} does not build");
        }
        let here = std::env::current_exe().expect("a path");
        let folder = here.parent().expect("a folder");
        let examples = folder.join("examples");
        Self {
            echo: examples.join("echo"),
            loadgen: examples.join("loadgen"),
            bare: folder.join("bare_uring"),
        }
    }
}

fn load(program: &Path, options: &Options, address: &str) {
    let output = Command::new(program)
        .arg(address)
        .args(["--cores", "0", "--json", "--offload", "off"])
        .args(["--flows", &options.flows.to_string(), "--window", &options.window.to_string()])
        .args(["--size", &options.size.to_string(), "--duration", &options.seconds.to_string()])
        .stderr(Stdio::inherit())
        .output()
        .expect("the load generator runs");
    assert!(output.status.success(), "the load generator failed");
}

/// Nanoseconds of CPU per datagram.
fn measure(server: Server, programs: &Programs, options: &Options) -> f64 {
    let before = server.cpu();
    load(&programs.loadgen, options, &server.address);
    let spent = server.cpu() - before;
    let received = server.finish();
    spent as f64 / received as f64
}

fn bare(programs: &Programs, options: &Options) -> Server {
    let mut command = Command::new(&programs.bare);
    command.arg("127.0.0.1:0").arg(options.core.to_string());
    Server::start(command)
}

fn echo(programs: &Programs, options: &Options) -> Server {
    let mut command = Command::new(&programs.echo);
    command.args(["--listen", "127.0.0.1:0", "--backend", "uring", "--cores", &options.core.to_string()]);
    command.args(["--tier", &options.tier]);
    if options.tier != "listener" {
        command.args(["--max-connected", &options.flows.to_string()]);
    }
    command.args(options.echo_args.iter().flat_map(|text| text.split_whitespace()));
    Server::start(command)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let programs = Programs::build();
    let (mut bares, mut echoes, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..options.rounds {
        // Which goes first alternates, so that a drift of the machine favours neither.
        let (a, b) = if round % 2 == 0 {
            let a = measure(bare(&programs, &options), &programs, &options);
            (a, measure(echo(&programs, &options), &programs, &options))
        } else {
            let b = measure(echo(&programs, &options), &programs, &options);
            (measure(bare(&programs, &options), &programs, &options), b)
        };
        println!("round {round}: bare {a:.0} ns, echo {b:.0} ns, ratio {:.3}", b / a);
        bares.push(a);
        echoes.push(b);
        ratios.push(b / a);
    }
    let (flows, window, size) = (options.flows, options.window, options.size);
    let tier = &options.tier;
    println!("{flows} flows x {window}, {size} bytes, tier {tier}, CPU of the server per datagram:");
    println!("bare ring loop  {:.0}", Quartiles::of(&bares));
    println!("shardgram echo  {:.0}", Quartiles::of(&echoes));
    let ratio = Quartiles::of(&ratios);
    println!("ratio           {ratio:.3}");
    let met = ratio.median() <= options.bar;
    println!("bar {}: {}", options.bar, if met { "met" } else { "missed" });
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
