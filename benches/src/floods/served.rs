//! The server's process, seen from the generator.

use std::env;
use std::io::{self, BufRead, BufReader, Write};
use std::net::SocketAddrV4;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::handler::{Report, Serving};

/// A running server. It ends when this is dropped.
#[derive(Debug)]
pub struct Served {
    child: Child,
    input: Option<ChildStdin>,
    output: BufReader<ChildStdout>,
    address: SocketAddrV4,
}

impl Served {
    /// Starts this program again as that server.
    ///
    /// # Errors
    /// If it does not say where it listens; it has then said why.
    pub fn start(serving: &Serving) -> io::Result<Self> {
        let mut command = Command::new(env::current_exe()?);
        command.arg("serve").args(serving.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (input, output) = (child.stdin.take(), child.stdout.take().expect("piped"));
        let mut output = BufReader::new(output);
        let mut line = String::new();
        output.read_line(&mut line)?;
        match line.trim().parse() {
            Ok(address) => Ok(Self { child, input, output, address }),
            Err(_) => {
                child.wait()?;
                Err(io::Error::other("the server does not start"))
            }
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddrV4 {
        self.address
    }

    fn say(&mut self, word: &str) -> io::Result<()> {
        let ended = || io::Error::other("the server has ended");
        writeln!(self.input.as_mut().ok_or_else(ended)?, "{word}")
    }

    /// What it says of itself.
    ///
    /// # Errors
    /// If it has ended.
    pub fn report(&mut self) -> io::Result<Report> {
        self.say("report")?;
        let mut line = String::new();
        self.output.read_line(&mut line)?;
        serde_json::from_str(&line)
            .map_err(|error| io::Error::other(format!("the server has ended: {error}")))
    }

    /// Has it forget the longest turn.
    ///
    /// # Errors
    /// If it has ended.
    pub fn forget(&mut self) -> io::Result<()> {
        self.say("forget")
    }

    /// Memory of its process that is resident, in KiB.
    #[must_use]
    pub fn resident_kib(&self) -> u64 {
        crate::process::resident_kib_of(&self.child.id().to_string())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.child.wait();
    }
}
