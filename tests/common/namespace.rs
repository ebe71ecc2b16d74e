//! Network namespaces a test makes for itself: a host with several addresses, and another host that
//! writes to it. The test runs its own executable again inside, so nothing outlives it.
//!
//! Either each host has a process of its own ([`two_hosts`]), or one process has the sockets of all hosts
//! ([`alone`] with [`Host`]).

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};

use super::role::{self, again};

/// Addresses of the server's host: several of each family on one interface.
pub const SERVER: [&str; 6] = ["10.77.0.1", "10.77.0.2", "10.77.0.3", "fd77::1", "fd77::2", "fd77::3"];
const CLIENT: [&str; 2] = ["10.77.0.100", "fd77::100"];

/// Runs `server` on a host with the addresses of [`SERVER`], and `client` on another that reaches it.
///
/// `server` gets a link to the client: what it writes, the client reads as a line, and the other way.
/// Where no namespaces can be made (no `unshare`, or user namespaces are forbidden) the test is recorded
/// as skipped.
pub fn two_hosts(test: &str, server: fn(&mut Link), client: fn(&mut Link)) {
    match role::mine().as_deref() {
        Some("server") => server(&mut Link::to_client(test)),
        Some("client") => client(&mut Link::to_server()),
        _ => outside(test),
    }
}

/// Runs a test in a process and a network namespace of its own, in which it may make others ([`Host`]).
/// `test` is its path as `module_path!` has it. Skipped where no namespaces can be made.
pub fn alone(test: &str, part: impl FnOnce()) {
    let (_crate, test) = test.split_once("::").expect("a path");
    match role::mine().as_deref() {
        Some(_) => {
            run("ip link set lo up");
            part();
        }
        None => outside(test),
    }
}

fn outside(test: &str) {
    let works = Command::new("unshare").args(["-r", "-n", "ip", "link", "set", "lo", "up"]).output();
    match works {
        Ok(output) if output.status.success() => {}
        Ok(output) => return super::skip::record(String::from_utf8_lossy(&output.stderr).trim()),
        Err(error) => return super::skip::record(&format!("unshare and ip (util-linux, iproute2): {error}")),
    }
    let status = again(Command::new("unshare").args(["-r", "-n"]), test, "server").status().expect("unshare");
    assert!(status.success(), "the part in the namespace failed");
}

/// Lines to and from the other host's process.
pub struct Link {
    child: Option<Child>,
    to: Box<dyn Write>,
    from: Box<dyn BufRead>,
}

pub fn ip(arguments: &str) {
    run(&format!("ip {arguments}"));
}

/// Runs a command of words without spaces, here; what it says.
pub fn run(command: &str) -> String {
    let mut words = command.split_whitespace();
    succeed(Command::new(words.next().expect("a program")).args(words), command)
}

fn succeed(command: &mut Command, text: &str) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{text}: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}: {error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until an interface carries something: until then what is sent by it is lost.
pub fn await_link(run: impl Fn(&str) -> String, device: &str) {
    let end = std::time::Instant::now() + super::PATIENCE;
    while !run(&format!("ip link show {device}")).contains("state UP") {
        assert!(std::time::Instant::now() < end, "{device} does not come up");
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Another host: a network namespace in which this process has sockets.
pub struct Host {
    /// Ends when its input does, and the namespace with it, unless sockets are left there.
    holder: Child,
    input: Option<ChildStdin>,
}

impl Host {
    pub fn new() -> Self {
        let mut command = Command::new("unshare");
        let command = command.args(["-n", "sh", "-c", "echo && exec cat"]);
        let mut holder = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("unshare");
        let mut line = String::new();
        let output = holder.stdout.as_mut().expect("piped");
        assert_eq!(BufReader::new(output).read_line(&mut line).expect("it speaks"), 1, "it is in there");
        let input = holder.stdin.take();
        let host = Self { holder, input };
        host.run("ip link set lo up");
        host
    }

    /// A cable from the interface `here` of this namespace to `there` of that host. The hardware addresses
    /// end in 1 and 2.
    pub fn cable(&self, here: &str, there: &str) {
        let id = self.holder.id();
        run(&format!(
            "ip link add {here} address 02:00:00:00:00:01 type veth peer name {there} \
             address 02:00:00:00:00:02 netns {id}"
        ));
    }

    /// A cable from the interface `here` of this host to `there` of another.
    pub fn cable_to(&self, here: &str, other: &Self, there: &str) {
        let id = other.holder.id();
        self.run(&format!("ip link add {here} type veth peer name {there} netns {id}"));
    }

    /// Runs a command of words without spaces on that host; what it says.
    pub fn run(&self, command: &str) -> String {
        let id = self.holder.id().to_string();
        let mut enter = Command::new("nsenter");
        succeed(enter.args(["-n", "-t", &id]).args(command.split_whitespace()), command)
    }

    /// Calls something on a thread that is on that host. The sockets it makes stay there.
    pub fn inside<R: Send>(&self, call: impl FnOnce() -> R + Send) -> R {
        let namespace =
            std::fs::File::open(format!("/proc/{}/ns/net", self.holder.id())).expect("a namespace");
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                enter(&namespace);
                call()
            });
            thread.join().expect("it does not panic")
        })
    }
}

/// Moves this thread to another network namespace.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "setns(2) has no safe wrapper among the dependencies")]
fn enter(namespace: &std::fs::File) {
    // SAFETY: the descriptor is open, and the call touches no memory.
    let result = unsafe { libc::setns(std::os::fd::AsRawFd::as_raw_fd(namespace), libc::CLONE_NEWNET) };
    assert_eq!(result, 0, "setns: {}", std::io::Error::last_os_error());
}

/// There are none: `unshare` is not there, so nothing comes so far.
#[cfg(not(target_os = "linux"))]
fn enter(_: &std::fs::File) {
    unreachable!("network namespaces are Linux's");
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.input.take());
        let _ = self.holder.wait();
    }
}

fn add_addresses(device: &str, addresses: &[&str]) {
    for address in addresses {
        // nodad: an address is usable at once, for nobody else can have it here.
        let (bits, nodad) = if address.contains(':') { (64, " nodad") } else { (24, "") };
        ip(&format!("addr add {address}/{bits} dev {device}{nodad}"));
    }
    ip(&format!("link set {device} up"));
    ip("link set lo up");
}

impl Link {
    fn to_client(test: &str) -> Self {
        let mut command = Command::new("unshare");
        let command = again(command.arg("-n"), test, "client").stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("unshare");
        let to = Box::new(child.stdin.take().expect("piped"));
        let from = Box::new(BufReader::new(child.stdout.take().expect("piped")));
        let id = child.id();
        let mut link = Self { child: Some(child), to, from };
        link.expect("in my namespace");
        ip("link add v0 type veth peer name v1");
        ip(&format!("link set v1 netns {id}"));
        add_addresses("v0", &SERVER);
        link.say("the cable is in");
        link.expect("I have addresses");
        link
    }

    fn to_server() -> Self {
        let from = Box::new(BufReader::new(std::io::stdin()));
        let mut link = Self { child: None, to: Box::new(std::io::stdout()), from };
        link.say("in my namespace");
        link.expect("the cable is in");
        add_addresses("v1", &CLIENT);
        link.say("I have addresses");
        link
    }

    pub fn say(&mut self, line: &str) {
        writeln!(self.to, "> {line}").expect("the other host listens");
        self.to.flush().expect("the other host listens");
    }

    /// The next line the other host says; what its test runner prints is passed over.
    pub fn hear(&mut self) -> String {
        loop {
            let mut line = String::new();
            let read = self.from.read_line(&mut line).expect("the other host speaks");
            assert_ne!(read, 0, "the other host has gone; its output is above");
            // The test runner prints the test's name before the first line, without a line break.
            if let Some((_, said)) = line.trim_end().split_once("> ") {
                return said.to_owned();
            }
        }
    }

    pub fn expect(&mut self, line: &str) {
        assert_eq!(self.hear(), line);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take()
            && !std::thread::panicking()
        {
            assert!(child.wait().expect("it ends").success(), "the other host's part failed");
        }
    }
}
