//! Kills the echo example and starts it again at once, many times: whether every start gets its port and io_uring, and
//! how long it takes.
//!
//! `cargo run --release -p shardgram-benches --bin restarts`, as root
//!
//! Each row is a number of shards and a user: root, and an ordinary one who may lock as much memory as one server needs,
//! so that the next one has to wait until the kernel has given back that of the killed one. Fails unless all starts are
//! as the first.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::time::Instant;

use clap::Parser;
use shardgram_benches::figures::Quartiles;

/// Kills and starts the echo example again and again.
#[derive(Parser)]
struct Options {
    /// Kills for each number of shards and each user.
    #[arg(long, default_value_t = 100)]
    rounds: usize,
    /// Numbers of shards.
    #[arg(long, value_delimiter = ',', default_value = "1,2,64")]
    shards: Vec<u16>,
    /// Where it listens.
    #[arg(long, default_value = "127.0.0.1:9019")]
    listen: String,
    /// KiB of memory that a shard locks; the ordinary user may lock no more than that for each shard.
    #[arg(long, default_value_t = 40)]
    locked: u64,
    /// The ordinary user, whose processes should be this program's alone.
    #[arg(long, default_value_t = 61_234)]
    user: u32,
    /// The echo example, if it is not to be built.
    #[arg(long)]
    echo: Option<PathBuf>,
}

/// Builds the echo example, and finds it beside this program.
fn build() -> PathBuf {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let build = ["build", "--release", "--quiet", "-p", "shardgram", "--example", "echo"];
    let status = Command::new(cargo).args(build).status();
    assert!(status.is_ok_and(|status| status.success()), "the echo example does not build");
    std::env::current_exe().expect("a path").with_file_name("examples").join("echo")
}

/// A copy that every user may run; the folder is removed with it.
struct Program(PathBuf);

impl Program {
    fn copy(echo: &Path) -> Self {
        let folder = std::env::temp_dir().join(format!("shardgram-restarts-{}", std::process::id()));
        fs::create_dir(&folder).expect("a folder");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).expect("a folder for all");
        fs::copy(echo, folder.join("echo")).expect("a copy");
        Self(folder)
    }

    /// The server, as root or as that user who may lock so many bytes.
    fn command(&self, user: Option<(u32, u64)>) -> Command {
        let echo = self.0.join("echo");
        let Some((user, bytes)) = user else { return Command::new(echo) };
        let (user, limit) = (user.to_string(), format!("--memlock={bytes}"));
        let mut command = Command::new("prlimit");
        command.args([&limit, "setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"]);
        command.args(["--inh-caps=-all", "--bounding-set=-all"]).arg(echo).current_dir("/");
        command
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Starts a server; milliseconds until it is ready, and what it said, warnings included.
fn start(command: &mut Command) -> (Child, f64, String) {
    let begin = Instant::now();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut said = String::new();
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    out.read_line(&mut said).expect("it speaks");
    let took = begin.elapsed().as_secs_f64() * 1_000.0;
    // SIGKILL (kill(2)) is what `Child::kill` sends.
    child.kill().expect("it is killed");
    let mut errors = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut errors).expect("it speaks");
    (child, took, format!("{}{}", errors, said.trim_end()))
}

/// Kills so many servers. Milliseconds of each start, and what those said that were not as they should be.
fn row(options: &Options, program: &Program, shards: u16, ordinary: bool) -> (Vec<f64>, Vec<String>) {
    let user = ordinary.then_some((options.user, options.locked * 1024 * u64::from(shards)));
    let (mut times, mut wrong) = (Vec::new(), Vec::new());
    for _ in 0..=options.rounds {
        let mut command = program.command(user);
        command.args(["--listen", &options.listen, "--shards", &shards.to_string()]);
        let (mut child, took, said) = start(&mut command);
        child.wait().expect("it ends");
        times.push(took);
        if !said.starts_with("listening on ") || !said.contains(" backend=uring ") {
            wrong.push(said);
        }
    }
    (times, wrong)
}

fn main() -> ExitCode {
    let options = Options::parse();
    let program = Program::copy(&options.echo.clone().unwrap_or_else(build));
    let mut all_well = true;
    for &shards in &options.shards {
        for (who, ordinary) in [("root", false), ("ordinary user", true)] {
            let (times, wrong) = row(&options, &program, shards, ordinary);
            let (well, of) = (times.len() - wrong.len(), times.len());
            println!(
                "{who}, {shards} shards: {well} of {of} starts as they should be, ms until ready: {:.0}",
                Quartiles::of(&times)
            );
            wrong.first().iter().for_each(|said| println!("  {said}"));
            all_well &= wrong.is_empty();
        }
    }
    if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
