//! Example programs as a user runs them.

use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Output, Stdio};

/// An example, built by the `cargo test` that runs this.
pub fn example(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let path =
        here.parent().and_then(|deps| deps.parent()).expect("target/PROFILE").join("examples").join(name);
    assert!(path.exists(), "{} is not built: run all tests, or `cargo build --examples`", path.display());
    path
}

/// Another test program, built by the `cargo test` that runs this: the newest, since its name has a hash in it.
pub fn test_program(name: &str) -> PathBuf {
    let here = std::env::current_exe().expect("a path");
    let folder = here.parent().expect("target/PROFILE/deps");
    let is_it = |path: &PathBuf| {
        let file = path.file_name().and_then(|file| file.to_str()).unwrap_or_default();
        file.strip_prefix(name).is_some_and(|rest| rest.starts_with('-') && !rest.contains('.'))
    };
    let all = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    let newest = all.filter(is_it).max_by_key(|path| path.metadata().and_then(|m| m.modified()).ok());
    newest.unwrap_or_else(|| panic!("{name} is not built: run all tests"))
}

/// Runs the echo example with bad input and gives its error, which is one line.
pub fn refused(arguments: &[&str]) -> String {
    let output = Command::new(example("echo")).args(arguments).output().expect("it runs");
    check_refusal(&output)
}

pub fn check_refusal(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(output.stdout.is_empty(), "nothing is said to be ready");
    assert_eq!(error.trim_end().lines().count(), 1, "one line: {error}");
    error
}

/// A running echo example.
pub struct Echo {
    child: Child,
    /// `None` once nobody reads it any more.
    out: Option<BufReader<ChildStdout>>,
    err: ChildStderr,
    pub ready: String,
}

impl Echo {
    pub fn start(arguments: &[&str]) -> Self {
        Self::spawn(Command::new(example("echo")).args(arguments))
    }

    pub fn spawn(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut err = child.stderr.take().expect("piped");
        let mut ready = String::new();
        out.read_line(&mut ready).expect("it speaks");
        if ready.is_empty() {
            let mut error = String::new();
            err.read_to_string(&mut error).expect("it speaks");
            panic!("it did not start: {error}");
        }
        Self { child, out: Some(out), err, ready: ready.trim_end().to_owned() }
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        let list = self.ready.split(' ').nth(2).expect("addresses");
        list.split(',').map(|address| address.parse().expect("an address")).collect()
    }

    pub fn signal(&self, name: &str) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &id]).status().expect("kill").success());
    }

    /// The next line it says.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        let out = self.out.as_mut().expect("somebody reads");
        assert_ne!(out.read_line(&mut line).expect("it speaks"), 0, "it has ended");
        line.trim_end().to_owned()
    }

    /// Whoever reads what it says goes away.
    pub fn close_output(&mut self) {
        self.out = None;
    }

    /// Waits for the end; what it said since it was ready, and its errors.
    pub fn finish(mut self) -> (ExitStatus, String, String) {
        let (mut said, mut errors) = (String::new(), String::new());
        if let Some(out) = &mut self.out {
            out.read_to_string(&mut said).expect("it speaks");
        }
        self.err.read_to_string(&mut errors).expect("it speaks");
        let status = self.child.wait().expect("it ends");
        (status, said, errors)
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // Only a failing test comes here with a child that still runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
