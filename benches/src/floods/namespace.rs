//! A network of this program's own.

use std::env;
use std::error::Error;
use std::net::Ipv4Addr;
use std::process::{Command, ExitCode};

/// Says that this process is in it.
const INSIDE: &str = "SHARDGRAM_FLOODS_INSIDE";
/// Where servers listen.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
/// How many addresses clients may have.
const CLIENTS: u32 = 1 << 14;

/// What is done inside. Replies from an address of 127.0.0.0/8 would not leave the host, so the server has another.
const COMMANDS: [&str; 4] = [
    "link set lo up",
    "addr add 10.77.0.1/32 dev lo",
    // All of them are this host's: clients bind to any.
    "route add local 10.128.0.0/9 dev lo",
    // To any other: out by the loopback interface, which throws away what is not for this host.
    "route add default dev lo",
];

/// Runs this program again with the same arguments, in a network namespace of its own; `None` if this is there already.
///
/// # Errors
/// If there can be none.
pub fn outside() -> Result<Option<ExitCode>, Box<dyn Error>> {
    if env::var_os(INSIDE).is_some() {
        for command in COMMANDS {
            ip(command)?;
        }
        return Ok(None);
    }
    let mut again = Command::new("unshare");
    again.args(["-r", "-n"]).arg(env::current_exe()?).args(env::args_os().skip(1)).env(INSIDE, "yes");
    let status = again.status().map_err(|error| format!("unshare (util-linux): {error}"))?;
    let code = status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(2);
    Ok(Some(ExitCode::from(code)))
}

fn ip(command: &str) -> Result<(), Box<dyn Error>> {
    let output = Command::new("ip").args(command.split(' ')).output();
    let output = output.map_err(|error| format!("ip (iproute2): {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {command}: {}", String::from_utf8_lossy(&output.stderr).trim()).into())
}

/// The address of an honest client, each in a /24 of its own, the first 128 in a /16 of their own.
///
/// ```
/// use shardgram_benches::floods::namespace::client;
/// assert_eq!(client(0).to_string(), "10.128.1.7");
/// assert_eq!(client(129).to_string(), "10.129.2.7");
/// ```
#[must_use]
pub fn client(number: u32) -> Ipv4Addr {
    let number = number % CLIENTS;
    Ipv4Addr::new(10, 128 + (number % 128) as u8, 1 + (number / 128) as u8, 7)
}
