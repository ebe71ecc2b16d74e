//! Network namespaces a test makes for itself: a host with several addresses, and another host that
//! writes to it. The test runs its own executable again inside, so nothing outlives it.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

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

fn ip(arguments: &str) {
    let output = Command::new("ip").args(arguments.split(' ')).output().expect("ip runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "ip {arguments}: {error}");
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
