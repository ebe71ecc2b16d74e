//! What this process uses, as `proc(5)` says.

use std::fs;
use std::net::{IpAddr, SocketAddr};

/// Nanoseconds that the shards' threads of this process have spent on a core.
#[must_use]
pub fn shards_cpu_ns() -> u64 {
    let Ok(tasks) = fs::read_dir("/proc/self/task") else { return 0 };
    tasks
        .flatten()
        .filter(|task| {
            let name = fs::read_to_string(task.path().join("comm"));
            name.is_ok_and(|name| name.starts_with("shardgram-"))
        })
        .filter_map(|task| spent(&fs::read_to_string(task.path().join("schedstat")).ok()?))
        .sum()
}

/// Nanoseconds that the calling thread has spent on a core.
#[must_use]
pub fn my_cpu_ns() -> u64 {
    fs::read_to_string("/proc/thread-self/schedstat").ok().and_then(|text| spent(&text)).unwrap_or(0)
}

fn spent(schedstat: &str) -> Option<u64> {
    schedstat.split_whitespace().next()?.parse().ok()
}

/// Memory that is resident, in KiB.
#[must_use]
pub fn resident_kib() -> u64 {
    resident_kib_of("self")
}

/// Memory of a process that is resident, in KiB; 0 if there is none of that id.
#[must_use]
pub fn resident_kib_of(process: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).unwrap_or(0)
}

/// Descriptors that are open.
#[must_use]
pub fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

/// UDP sockets of this host at that address and port, listeners and connected ones.
#[must_use]
pub fn sockets_at(local: SocketAddr) -> usize {
    let table = if local.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    // Words of the host's byte order, each in hexadecimal.
    let words = |bytes: &[u8]| -> String {
        let word = |bytes: &[u8]| u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        bytes.chunks_exact(4).map(|bytes| format!("{:08X}", word(bytes))).collect()
    };
    let ip = match local.ip() {
        IpAddr::V4(ip) => words(&ip.octets()),
        IpAddr::V6(ip) => words(&ip.octets()),
    };
    let name = format!("{ip}:{:04X}", local.port());
    let text = fs::read_to_string(table).unwrap_or_default();
    text.lines().filter(|line| line.split_whitespace().nth(1) == Some(&name)).count()
}
