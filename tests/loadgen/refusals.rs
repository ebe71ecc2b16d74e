//! Targets and paths that refuse.
#![cfg(target_os = "linux")]

use std::net::{SocketAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;

/// An address of this host at which nobody listens.
fn nobody() -> SocketAddr {
    UdpSocket::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port")
}

#[test]
fn a_port_where_nobody_listens_ends_the_run_and_is_named() {
    for load in [
        "--duration 60s",
        "--duration 60s --rate 100 --json",
        "--duration 60s --mode sink --rate 100",
        "--duration 60s --mode fan-out --rate 100",
        "--duration 50ms --warmup 0s --timeout 50ms",
        "--search 0",
    ] {
        let (target, begin) = (nobody(), Instant::now());
        let output = run(&format!("{target} --flows 4 {load}"));
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{load}: {err}");
        assert!(err.contains(&format!("nobody listens at {target}")), "{load}: {err}");
        assert!(
            err.lines().count() == 1 && out.lines().all(|line| !line.contains("lost  ")),
            "{load}: {out}"
        );
        assert!(begin.elapsed() < Duration::from_secs(40), "{load}");
    }
}

#[test]
fn a_server_that_goes_away_ends_the_run_with_what_was_measured() {
    let server = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let target = server.local_addr().expect("its address");
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        for _ in 0..200 {
            let (len, from) = server.recv_from(&mut bytes).expect("a datagram");
            server.send_to(&bytes[..len], from).expect("loopback takes it");
        }
    });
    let (code, json, err) = run_json(&format!("{target} --flows 2 --rate 400 --duration 60s --warmup 0s"));
    echo.join().expect("it lives");
    assert_eq!(code, 1, "{err}");
    assert!(err.contains(&format!("nobody listens at {target} any more")), "{err}");
    assert_eq!((count(&json, "received"), json["refused"].as_bool()), (200, Some(true)), "{json}");
    assert!(count(&json, "sent") > 200, "{json}");
}

/// Runs a script in a namespace of its own.
fn inside(script: &str) -> std::io::Result<Output> {
    Command::new("unshare").args(["-r", "-n", "sh", "-c", script]).output()
}

/// The name of the example, if a namespace can be made and set up so. If not, the test is recorded as skipped.
fn program_for(setup: &str) -> Option<String> {
    match inside(setup) {
        Ok(output) if output.status.success() => {
            return Some(program().get_program().to_string_lossy().into_owned());
        }
        Ok(output) => skip::record(text(&output.stderr).trim()),
        Err(error) => skip::record(&format!("unshare and ip (util-linux, iproute2): {error}")),
    }
    None
}

/// In a namespace with few local ports.
#[test]
fn ports_that_run_out_are_named_and_lose_nothing() {
    let few = "ip link set lo up; echo '40000 40049' > /proc/sys/net/ipv4/ip_local_port_range";
    let Some(program) = program_for(few) else { return };
    for backend in ["mio", "auto"] {
        // As many flows are replaced as cannot all have a port, so some are not.
        let load = "--rate 1000 --flows 40 --new-flows 500 --duration 1s --warmup 0s --timeout 4s --json";
        let output = inside(&format!("{few}; exec '{program}' {load} --backend {backend}")).expect("unshare");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        let json: Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}{err}"));
        assert!(count(&json, "new_flows") > 0 && count(&json, "new_flows_failed") > 0, "{json}");
        assert_eq!((count(&json, "lost"), count(&json, "failed")), (0, 0), "{json}");
        assert_adds_up(&json);
    }
    for (load, ports) in [("--flows 100", "40000 40049"), ("--flows 2 --source 127.0.0.1", "40000 40000")] {
        let few = format!("ip link set lo up; echo '{ports}' > /proc/sys/net/ipv4/ip_local_port_range");
        let script = format!("{few}; exec '{program}' 127.0.0.1:9 --duration 100ms {load}");
        let output = inside(&script).expect("unshare");
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{load}: {err}");
        assert!(err.contains("net.ipv4.ip_local_port_range") && err.lines().count() == 1, "{load}: {err}");
    }
}

/// In a namespace whose loopback has a link-local address. Whoever hears the refusal has sent from there to there.
#[test]
fn a_scope_may_be_an_interface() {
    let local = "ip link set lo up; ip addr add fe80::7/64 dev lo nodad";
    let Some(program) = program_for(local) else { return };
    let load = "'[fe80::7%lo]:9' --source fe80::7%lo --flows 1 --duration 50ms --warmup 0s --timeout 50ms";
    let output = inside(&format!("{local}; exec '{program}' {load}")).expect("unshare");
    let err = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("nobody listens at [fe80::7%"), "{err}");
}

/// In a namespace whose loopback carries no more than Ethernet does.
#[test]
fn datagrams_too_long_for_the_path_are_named() {
    let small = "ip link set lo mtu 1500 up";
    let Some(program) = program_for(small) else { return };
    let load = "--flows 2 --rate 200 --duration 200ms --warmup 0s --json";
    for (sizes, backend) in [("2000", "mio"), ("64:3,2000:1", "auto")] {
        let script = format!("{small}; exec '{program}' {load} --backend {backend} --size {sizes}");
        let output = inside(&script).expect("unshare");
        assert_eq!(output.status.code(), Some(0), "fragmented: {}", text(&output.stderr));
        let output = inside(&format!("{script} --path-mtu refuse")).expect("unshare");
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(1), "{backend}: {out}{err}");
        assert!(err.contains(" datagrams of up to 2000 bytes are too long for the path to"), "{err}");
        assert_eq!(err.lines().count(), 1, "{err}");
        let json: Value = serde_json::from_str(&out).expect("a result all the same");
        let lost = count(&json, "lost");
        assert!(lost > 0 && lost == count(&json, "failed"), "nothing is lost silently: {json}");
    }
}
