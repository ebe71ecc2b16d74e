//! Many peers that go at once.

use std::net::SocketAddr;
use std::time::Instant;

use super::{Bed, CLOSE_PEERS, PATIENCE, PEERS, send};

/// Sockets of this host that are bound to an address (`/proc/net/udp`, proc_pid_net(5)).
fn sockets_at(at: SocketAddr) -> usize {
    let SocketAddr::V4(at) = at else { return 0 };
    let local = format!("{:08X}:{:04X}", u32::from_ne_bytes(at.ip().octets()), at.port());
    let table = std::fs::read_to_string("/proc/self/net/udp").expect("proc is mounted");
    table.lines().filter(|line| line.split_whitespace().nth(1) == Some(local.as_str())).count()
}

/// The grace period of all is over at once. A turn in which all were closed would be a long one, and listeners overflow.
#[test]
fn sockets_that_go_at_once_are_closed_over_several_turns() {
    /// Made, turned away and closed in a turn (`PER_TURN` of `retiring` and of `shardgram_core`).
    const PER_TURN: usize = 16;
    let Some(mut bed) = Bed::new(true) else { return };
    let at = bed.clients[0].peer_addr().expect("connected");
    let (mut open, end) = (sockets_at(at), Instant::now() + PATIENCE);
    assert_eq!(open, PEERS + 1, "the listener, and a socket a peer");
    send(&bed.clients[0], &[CLOSE_PEERS]);
    while open > 1 {
        assert!(Instant::now() < end, "{open} sockets are still there");
        bed.turn();
        let left = sockets_at(at);
        // Those whose receive was cancelled in the turn before, and those on which nothing is armed.
        assert!(open - left <= 2 * PER_TURN, "{} sockets were closed in one turn", open - left);
        open = left;
    }
    assert_eq!(bed.stats.snapshot().unaccounted(), 0);
}
