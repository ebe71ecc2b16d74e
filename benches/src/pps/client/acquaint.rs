//! Before the load: every flow sends a few datagrams, one after the other, and few flows at a time. A server that gives
//! peers sockets of their own may take half a millisecond for each, and would be thousands behind if all came at once.
//! Then it is waited until it has them all.

use std::io;
use std::time::{Duration, Instant};

use super::ledger::Ledger;
use super::link::Link;
use super::{LOST_AFTER, PATIENCE, silent};
use crate::pps::child::Server;

/// Datagrams of each flow.
const TIMES: usize = 4;
/// Flows at a time.
const AT_ONCE: usize = 64;

/// A server of more descriptors than that has sockets for its peers.
const FEW_DESCRIPTORS: usize = 64;
/// It has made them all when there are no more after this time.
const SETTLE: Duration = Duration::from_millis(30);
/// New flows until it is waited for their sockets: a server may remember only so many peers who are to have one.
const NEW: usize = 256;
/// How long it may take.
const LONGEST: Duration = Duration::from_secs(60);

/// Makes all flows known to the server; nothing is in flight afterwards.
pub(super) fn acquaint(
    link: &mut Link,
    ledger: &mut Ledger,
    flows: usize,
    server: &Server,
) -> io::Result<()> {
    for _ in 0..TIMES {
        let (mut next, mut last, mut heard) = (0, ledger.received, Instant::now());
        while next < flows || ledger.in_flight() > 0 {
            while next < flows && ledger.in_flight() < AT_ONCE {
                let now = ledger.ns(Instant::now());
                ledger.depart(next, now, link.outgoing.datagram(0));
                link.send(next, 1)?;
                next += 1;
                if next % NEW == 0 {
                    settle(server);
                }
            }
            link.collect(ledger, 1, true, |_| ())?;
            let now = Instant::now();
            if ledger.received != last {
                (last, heard) = (ledger.received, now);
            } else if now > heard + PATIENCE {
                return Err(silent());
            } else if now > heard + LOST_AFTER {
                // Lost, and the next time around has another.
                ledger.give_up(u64::MAX);
            }
        }
    }
    settle(server);
    Ok(())
}

/// Waits until the server has made the sockets it makes.
fn settle(server: &Server) {
    let (start, mut before) = (Instant::now(), FEW_DESCRIPTORS);
    while start.elapsed() < LONGEST {
        let now = server.descriptors();
        if now <= before {
            break;
        }
        before = now;
        std::thread::sleep(SETTLE);
    }
}
