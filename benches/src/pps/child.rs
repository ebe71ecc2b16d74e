//! A server in a process of its own.

use std::io::{self, BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::thread::JoinHandle;
use std::time::Duration;

use super::servers::Task;
use super::system;
use super::tally::Counted;

/// How long a server may take to start.
const START: Duration = Duration::from_secs(10);
/// How much of what it complains about is kept.
const COMPLAINTS: u64 = 4096;

/// A running server; killed, by its process id, when dropped.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
    counted: Counted,
    complaints: Option<JoinHandle<String>>,
}

impl Server {
    /// Runs `program serve` with this task, and waits until it says where it listens.
    ///
    /// # Errors
    /// If it cannot be started, ends, or says nothing for ten seconds.
    pub fn start(program: &Path, task: &Task) -> io::Result<Self> {
        let counted = Counted::new()?;
        let mut command = Command::new(program);
        command.arg("serve").args(["--contender", &task.contender]);
        command.args(["--mode", &task.mode.to_string(), "--wait", &task.wait.to_string()]);
        command.args(["--core", &task.core.to_string(), "--peers", &task.peers.to_string()]);
        command.args(["--size", &task.size.to_string()]).arg("--tally").arg(counted.path());
        if task.no_trains {
            command.arg("--no-trains");
        }
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn()?;
        let stderr = child.stderr.take().map(|stderr| stderr.take(COMPLAINTS));
        let complaints = std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _ = stderr.map(|mut stderr| stderr.read_to_end(&mut bytes)); // what was read counts
            String::from_utf8_lossy(&bytes).trim().to_owned()
        });
        let stdout = child.stdout.take().map(BufReader::new);
        let (said, hears) = channel();
        std::thread::spawn(move || {
            let mut line = String::new();
            let _ = stdout.map(|mut stdout| stdout.read_line(&mut line)); // nothing is an answer too
            let _ = said.send(line); // nobody may wait any more
        });
        let unspecified = SocketAddr::from(([0, 0, 0, 0], 0));
        let mut server = Self { child, address: unspecified, counted, complaints: Some(complaints) };
        let line = hears.recv_timeout(START).unwrap_or_default();
        match line.trim().strip_prefix("listening on ").and_then(|address| address.parse().ok()) {
            Some(address) => server.address = address,
            None => return Err(io::Error::other(format!("did not start: {}", server.complaints()))),
        }
        Ok(server)
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Nanoseconds its threads have spent on a core.
    ///
    /// # Errors
    /// If it has ended.
    pub fn cpu_ns(&self) -> io::Result<u64> {
        system::process_cpu_ns(self.child.id())
    }

    /// Descriptors it has open; 0 if it has ended.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.child.id())).map_or(0, Iterator::count)
    }

    /// Datagrams it says it has received.
    #[must_use]
    pub fn counted(&self) -> u64 {
        self.counted.get()
    }

    /// Whether it runs.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Ends it; what it wrote to standard error, if anything.
    pub fn complaints(&mut self) -> String {
        let _ = self.child.kill(); // it may have ended by itself
        let _ = self.child.wait();
        self.complaints.take().and_then(|thread| thread.join().ok()).unwrap_or_default()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.complaints();
    }
}
