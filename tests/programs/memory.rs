//! Two shards with the default configuration stay under 96 MiB resident, whatever they received.

use std::net::UdpSocket;
use std::time::Duration;

use crate::common::program::Echo;

const LIMIT_KIB: u64 = 96 * 1024;
const FLOWS: usize = 400;

fn resident_kib(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn two_shards_stay_under_96_mib() {
    for backend in ["auto", "mio"] {
        let echo = Echo::start(&["--listen", "127.0.0.1:0", "--shards", "2", "--backend", backend]);
        let to = echo.addresses()[0];
        let idle = resident_kib(echo.id());
        let flows: Vec<_> = (0..FLOWS).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let (mut buffer, big) = (vec![0; 70_000], vec![7; 65_507]);
        for flow in &flows {
            flow.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
            // Bursts of the longest datagrams touch every page of the receive buffers.
            for _ in 0..8 {
                flow.send_to(&big, to).unwrap();
            }
            flow.send_to(b"small", to).unwrap();
            assert!(flow.recv(&mut buffer).expect("an answer") > 0);
        }
        let peak = resident_kib(echo.id());
        println!("{}: {idle} KiB idle, {peak} KiB at most", echo.ready);
        assert!(peak < LIMIT_KIB, "{backend}: {peak} KiB");
        echo.signal("TERM");
        assert_eq!(echo.finish().0.code(), Some(0));
    }
}
