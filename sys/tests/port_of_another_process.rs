//! A port that another process of the same user holds is refused, though that process would share
//! it; once it is gone the port is free.
//!
//! Apart from the tests of `exclusive_port.rs`, since a process that is being started holds copies
//! of all their sockets for a moment.
#![cfg(target_os = "linux")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::process::{Command, Stdio};

use shardgram_sys::{BindError, ListenerGroup, SocketOptions};
use socket2::{Domain, Socket, Type};

/// Says which part a process of the test plays: `hold ADDRESS`, and not set in the process the test
/// runner started.
const ROLE: &str = "SHARDGRAM_TEST_ROLE";

#[test]
fn a_port_held_by_another_process_is_refused() {
    if let Ok(role) = std::env::var(ROLE) {
        return hold(role.strip_prefix("hold ").expect("a role of this test"));
    }
    // Where possible on a network of its own: the port that gets free here could otherwise be taken by
    // whatever else runs.
    support::enter_own_network();
    for held in ["127.0.0.1:0", "0.0.0.0:0"] {
        let mut child = holder_of(held).spawn().expect("child");
        let mut output = BufReader::new(child.stdout.take().expect("output"));
        let port = held_port(&mut output);
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        for shards in [1, 2] {
            let refused = ListenerGroup::bind(address, shards, &SocketOptions::default());
            assert!(matches!(refused, Err(BindError::AddressInUse { .. })), "{refused:?}");
        }

        // Closing its input ends the child, and with it the port is free.
        drop(child.stdin.take());
        let mut rest = String::new();
        std::io::Read::read_to_string(&mut output, &mut rest).expect("output");
        assert!(child.wait().expect("child").success(), "{rest}");
        ListenerGroup::bind(address, 2, &SocketOptions::default()).expect("a free port");
    }
}

/// This test in another process of the same user, to hold `address`.
fn holder_of(address: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().expect("this program"));
    command
        .args(["a_port_held_by_another_process_is_refused", "--exact", "--nocapture"])
        .env(ROLE, format!("hold {address}"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped());
    command
}

/// The port that the process says it holds. The test runner writes the test's name before it, on
/// the same line.
fn held_port(output: &mut impl BufRead) -> u16 {
    let mut lines = output.lines().map(|line| line.expect("output"));
    let said = lines.find_map(|line| line.split_once("holding ").map(|(_, port)| port.to_owned()));
    said.expect("the child holds a port").parse().expect("a port")
}

/// The part of the other process: shares a port until its input ends.
fn hold(address: &str) {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).expect("socket");
    socket.set_reuse_port(true).expect("SO_REUSEPORT");
    socket.bind(&address.parse::<SocketAddr>().expect("address").into()).expect("bind");
    let name = socket.local_addr().expect("name").as_socket().expect("address");
    println!("holding {}", name.port());
    std::io::stdout().flush().expect("output");
    std::io::copy(&mut std::io::stdin(), &mut std::io::sink()).expect("input");
}
