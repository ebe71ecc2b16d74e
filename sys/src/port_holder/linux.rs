//! Linux: the tables of UDP sockets, and the descriptors of processes (proc(5)).

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use super::PortHolder;

/// How long a port may stay taken that no process has. The kernel ends the rings of a process after the process, and
/// so long their sockets stay bound: 20 to 60 ms were seen, 340 ms for 200 rings, and more than a second for 64 where
/// other programs kept all cores busy (Linux 6.18).
pub(crate) const RELEASE: Duration = Duration::from_secs(3);

/// A socket that keeps `address` from being bound: one that a process has, if there is one. Looks at the descriptors of
/// all processes it may look at.
pub(crate) fn of(address: SocketAddr) -> Option<PortHolder> {
    let mut holders = in_tables(address);
    for holder in &mut holders {
        holder.process = process_of(holder.inode);
        if holder.process.is_some() {
            return Some(holder.clone());
        }
    }
    holders.into_iter().next()
}

/// Those of its family, else those of the other: an IPv6 socket may have the port in both.
fn in_tables(address: SocketAddr) -> Vec<PortHolder> {
    // Of the thread, which may be in another network namespace than its process.
    let [same, other] = if address.is_ipv4() { ["udp", "udp6"] } else { ["udp6", "udp"] };
    let of_table = |table: &str| -> Vec<PortHolder> {
        let text = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        text.lines().filter_map(|line| holder(line, address)).collect()
    };
    Some(of_table(same)).filter(|found| !found.is_empty()).unwrap_or_else(|| of_table(other))
}

/// What a line of a table says, if its socket has the port at that address or at all.
fn holder(line: &str, wanted: SocketAddr) -> Option<PortHolder> {
    // sl local_address rem_address st queues timer retrnsmt uid timeout inode ...
    let mut columns = line.split_ascii_whitespace().skip(1);
    let local = socket_address(columns.next()?)?;
    let uid = columns.nth(5)?.parse().ok()?;
    let inode = columns.nth(1)?.parse().ok()?;
    let any = local.ip().is_unspecified() || wanted.ip().is_unspecified();
    let same = local.ip().to_canonical() == wanted.ip();
    (local.port() == wanted.port() && (any || same)).then_some(PortHolder { uid, inode, process: None })
}

/// `0100007F:2328`: words in the byte order of the host that hold the address in that of the network, then the port.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| {
        let digits = ip.get(8 * at..8 * at + 8)?;
        Some(u32::from_str_radix(digits, 16).ok()?.to_ne_bytes())
    };
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let mut bytes = [0; 16];
            for (at, four) in bytes.chunks_exact_mut(4).enumerate() {
                four.copy_from_slice(&word(at)?);
            }
            Ipv6Addr::from(bytes).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// The process that has a socket open, and its name.
pub(crate) fn process_of(inode: u64) -> Option<(u32, String)> {
    let has_it = |id: &u32| {
        // Those of other users are refused (EACCES), those that end meanwhile are gone.
        let mut descriptors = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        descriptors.any(|one| socket_inode(&one.path()) == Some(inode))
    };
    let all = fs::read_dir("/proc").ok()?.flatten();
    let mut ids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let id = ids.find(has_it)?;
    let name = fs::read_to_string(format!("/proc/{id}/comm")).unwrap_or_default();
    // A process may call itself anything.
    Some((id, name.trim_end().escape_debug().to_string()))
}

/// The inode of the socket that a link in a process's `fd` leads to: `socket:[4711]`.
pub(crate) fn socket_inode(link: &Path) -> Option<u64> {
    let to = fs::read_link(link).ok()?;
    to.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().expect(text)
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn a_line_tells_whose_a_port_is() {
        let line = " 1033: 0100007F:2328 00000000:0000 07 00000000:00000000 00:00000000 00000000   998        0 \
                    4711 2 ffff8880 0";
        let expected = Some(PortHolder { uid: 998, inode: 4711, process: None });
        for wanted in ["127.0.0.1:9000", "0.0.0.0:9000"] {
            assert_eq!(holder(line, address(wanted)), expected, "{wanted}");
        }
        for wanted in ["127.0.0.1:9001", "127.0.0.2:9000"] {
            assert_eq!(holder(line, address(wanted)), None, "{wanted}");
        }
        let cut = (0..line.len()).map(|end| &line[..end]);
        cut.for_each(|line| drop(holder(line, address("127.0.0.1:9000"))));
        for (text, ip) in [
            ("00000000000000000000000001000000:0035", "[::1]:53"),
            ("0000000000000000FFFF00000100007F:0035", "[::ffff:127.0.0.1]:53"),
        ] {
            assert_eq!(socket_address(text), Some(address(ip)));
        }
        for bad in ["", ":", "0100007F", "0100007G:0035", "0100007F:10000", "01:0035", "é100007:0035"] {
            assert_eq!(socket_address(bad), None, "{bad}");
        }
    }

    #[test]
    fn the_process_that_has_a_port_is_found() {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
        let holder = of(socket.local_addr().expect("an address")).expect("somebody has it");
        assert_eq!(holder.process.as_ref().map(|(id, _)| *id), Some(std::process::id()), "{holder}");
    }

    #[test]
    fn a_socket_of_both_families_has_the_port_in_each() {
        let socket = socket2::Socket::new(socket2::Domain::IPV6, socket2::Type::DGRAM, None);
        let Ok(socket) = socket else { return };
        socket.set_only_v6(false).expect("both families");
        socket.bind(&address("[::]:0").into()).expect("a port");
        let port = socket.local_addr().expect("a name").as_socket().expect("an address").port();
        let holder = of(SocketAddr::from(([127, 0, 0, 1], port))).expect("somebody has it");
        assert!(holder.process.is_some(), "{holder}");
    }
}
