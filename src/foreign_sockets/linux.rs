//! Sockets of other processes where a server listens, on Linux.
//!
//! A listening port was free when it was bound, but any process of the same user may bind a socket to it afterwards, with
//! `SO_REUSEPORT` (`socket(7)`). In the port group of the listeners it may exchange or detach the program that divides the
//! flows, and the indexes of the listeners move when it goes; at an address under a wildcard it gets what is sent there. No
//! call on a listener says so. So a thread looks at the kernel's list of sockets from time to time, and what it finds is
//! counted and warned of; it cannot be prevented.
//!
//! Sockets that are connected are passed over: most are those of peers, and one that is not takes a single flow. Sockets of
//! this process are never foreign, whoever made them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use shardgram_core::Stats;
use shardgram_core::seldom::Seldom;
use shardgram_sys::bound_sockets::{self, BoundSocket};
use shardgram_sys::clocks::this_thread;

/// The least time between two looks.
const LOOKS: Duration = Duration::from_secs(10);
/// The least time after which it is looked again for a socket that was not there before. A peer's own socket that is being
/// closed may stay so long without a descriptor, since the kernel ends requests of a ring later.
const AGAIN: Duration = Duration::from_secs(3);
/// How many times as long as a look takes of a processor the rest after it is. The kernel holds the lock of the port's
/// sockets while it lists them, some 0.2 ms for every thousand (Linux 6.18), and the binds of peers' own sockets wait for it.
const REST_PER_LOOK: u32 = 2_000;
/// Sockets looked at in one go that were not known to be this process's.
const MOST: usize = 4_096;

/// The thread. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct ForeignSockets {
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl ForeignSockets {
    /// Looks for sockets of others where a server listens, and begins to do so at intervals; nothing if it listens nowhere,
    /// or where they cannot be seen: the kernel lacks the list or `/proc`, or a sandbox forbids it. `stats` are those of one
    /// shard, which counts for all.
    ///
    /// # Errors
    /// The system has no thread left.
    pub(crate) fn follow(listen: &Arc<[SocketAddr]>, stats: &Arc<Stats>) -> io::Result<Option<Self>> {
        if listen.is_empty() {
            return Ok(None);
        }
        let (mut known, begin) = (Known::default(), this_thread());
        // What cannot be had now is not asked for again: the kernel would look for a module each time.
        if let Err(error) = look(listen, &mut known) {
            tracing::debug!(%error, "sockets of others where the server listens are not looked for");
            return Ok(None);
        }
        let rest = known.rest_after(this_thread().saturating_sub(begin));
        let (listen, stats) = (Arc::clone(listen), Arc::clone(stats));
        let (stop, stopped) = channel();
        let thread = Builder::new()
            .name("shardgram-foreign".to_owned())
            .spawn(move || run(&listen, known, rest, &stats, &stopped))?;
        Ok(Some(Self { stop: Some(stop), thread: Some(thread) }))
    }
}

impl Drop for ForeignSockets {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // It ends after a look at most, and has nothing to say.
            let _ = thread.join();
        }
    }
}

fn run(listen: &[SocketAddr], mut known: Known, mut rest: Duration, stats: &Stats, stopped: &Receiver<()>) {
    let mut warned = Seldom::default();
    while stopped.recv_timeout(rest) == Err(RecvTimeoutError::Timeout) {
        let begin = this_thread();
        match look(listen, &mut known) {
            Ok(foreign) => {
                stats.set_foreign_sockets(foreign.len() as u64);
                warn(&foreign, &mut known, &mut warned);
            }
            // A shortage, which ends.
            Err(error) => {
                tracing::debug!(%error, "sockets of others where the server listens cannot be seen");
            }
        }
        rest = known.rest_after(this_thread().saturating_sub(begin));
    }
}

/// Looks where the server listens, and gives the foreign sockets there are.
fn look(listen: &[SocketAddr], known: &mut Known) -> io::Result<BTreeMap<u64, BoundSocket>> {
    let port = listen[0].port();
    let only_port = if listen.iter().all(|at| at.port() == port) { port } else { 0 };
    let (mut own, mut unknown) = (Vec::new(), BTreeMap::new());
    // An IPv6 socket may be bound to an address of IPv4.
    for ipv6 in [false, true] {
        if !ipv6 && listen.iter().all(SocketAddr::is_ipv6) {
            continue;
        }
        bound_sockets::list(ipv6, only_port, |socket| {
            let is_here = listen.iter().any(|at| is_at(&socket, *at));
            if is_here && known.own.contains(&socket.inode) {
                own.push(socket);
            } else if is_here && unknown.len() < MOST {
                unknown.insert(socket.inode, socket);
            }
        })?;
    }
    // After the list, so that a socket made in between is not in it.
    if unknown.keys().any(|inode| !known.is_foreign(*inode)) {
        own.extend(bound_sockets::take_own(&mut unknown)?);
    }
    Ok(known.update(&own, unknown))
}

/// Whether a socket is bound where it is listened, or to an address under that.
fn is_at(socket: &BoundSocket, listen: SocketAddr) -> bool {
    let (ip, same_family) = (listen.ip(), listen.is_ipv4() == socket.ip.is_ipv4());
    socket.port == listen.port() && (ip == socket.ip || (ip.is_unspecified() && same_family))
}

/// How much is known of a socket that is not this process's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Standing {
    /// It was seen once: it may be closing, or a descriptor of it may have been moved while they were looked at.
    Suspect,
    /// It was seen again.
    Foreign,
    /// It was warned of.
    Told,
}

/// What the last look has left, by inodes.
#[derive(Debug, Default)]
struct Known {
    own: BTreeSet<u64>,
    others: BTreeMap<u64, Standing>,
}

impl Known {
    fn is_foreign(&self, inode: u64) -> bool {
        self.others.get(&inode).is_some_and(|standing| *standing != Standing::Suspect)
    }

    /// How long to leave it after a look that took so long.
    fn rest_after(&self, look: Duration) -> Duration {
        let suspects = self.others.values().any(|standing| *standing == Standing::Suspect);
        let least = if suspects { AGAIN } else { LOOKS };
        least.max(look.saturating_mul(REST_PER_LOOK))
    }

    /// Takes what was seen. Gives the foreign sockets among `others`: those that take from a socket of this process. If none
    /// of its own was seen, the list was that of another network namespace, and says nothing.
    fn update(
        &mut self,
        own: &[BoundSocket],
        mut others: BTreeMap<u64, BoundSocket>,
    ) -> BTreeMap<u64, BoundSocket> {
        others.retain(|_, socket| own.iter().any(|listener| socket.takes_from(listener)));
        self.own = own.iter().map(|socket| socket.inode).collect();
        let now = |inode: &u64| match self.others.get(inode) {
            None => Standing::Suspect,
            Some(Standing::Suspect) => Standing::Foreign,
            Some(before) => *before,
        };
        self.others = others.keys().map(|inode| (*inode, now(inode))).collect();
        others.retain(|inode, _| self.is_foreign(*inode));
        others
    }
}

/// Warns of those that were not warned of, naming the first.
fn warn(foreign: &BTreeMap<u64, BoundSocket>, known: &mut Known, warned: &mut Seldom) {
    let is_new = |inode: &u64| known.others.get(inode) == Some(&Standing::Foreign);
    let Some(socket) = foreign.values().find(|socket| is_new(&socket.inode)) else { return };
    if warned.due(Instant::now()).is_none() {
        return;
    }
    let (address, holder, others) =
        (SocketAddr::new(socket.ip, socket.port), socket.holder(), foreign.len() - 1);
    tracing::warn!(
        %address, uid = socket.uid, inode = socket.inode, %holder, others,
        "a socket of another process is bound where this server listens: it takes flows, or may change which shard gets \
         which (forwarded_out grows then); end that process, and run the server as a user of its own"
    );
    known.others.values_mut().filter(|standing| **standing == Standing::Foreign).for_each(|standing| {
        *standing = Standing::Told;
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(ip: &str, inode: u64) -> BoundSocket {
        BoundSocket { ip: ip.parse().expect(ip), port: 9, interface: 0, uid: 998, inode }
    }

    fn by_inode(sockets: &[BoundSocket]) -> BTreeMap<u64, BoundSocket> {
        sockets.iter().map(|socket| (socket.inode, *socket)).collect()
    }

    #[test]
    fn a_socket_is_foreign_when_it_was_seen_twice_in_a_row() {
        let (listener, foreign) = (socket("192.0.2.1", 1), socket("192.0.2.1", 2));
        let mut known = Known::default();
        let mut seen = |others: &[BoundSocket]| {
            let foreign = known.update(&[listener], by_inode(others)).len();
            (foreign, known.rest_after(Duration::ZERO))
        };
        assert_eq!(seen(&[foreign]), (0, AGAIN));
        assert_eq!(seen(&[]), (0, LOOKS), "it was closing");
        assert_eq!(seen(&[foreign]), (0, AGAIN));
        assert_eq!(seen(&[foreign]), (1, LOOKS));
        assert_eq!(seen(&[foreign, socket("192.0.2.1", 3)]), (1, AGAIN));
        assert_eq!(seen(&[socket("192.0.2.1", 3)]), (1, LOOKS));
        assert_eq!(seen(&[]), (0, LOOKS), "it has gone");
    }

    #[test]
    fn looking_takes_a_two_thousandth_of_a_core_at_most() {
        let known = Known::default();
        for (look_ms, rest) in [(0, 10), (5, 10), (10, 20), (250, 500)] {
            assert_eq!(
                known.rest_after(Duration::from_millis(look_ms)),
                Duration::from_secs(rest),
                "{look_ms}"
            );
        }
    }

    #[test]
    fn only_what_takes_from_a_socket_of_this_process_is_foreign() {
        let (elsewhere, beside) = (socket("192.0.2.2", 2), socket("192.0.2.1", 3));
        let mut known = Known::default();
        for _ in 0..2 {
            assert!(known.update(&[], by_inode(&[beside])).is_empty(), "another namespace's list");
        }
        for (listener, foreign) in [("192.0.2.1", 1), ("0.0.0.0", 2), ("::", 0), ("192.0.2.3", 0)] {
            let mut known = Known::default();
            let mut update = || known.update(&[socket(listener, 1)], by_inode(&[elsewhere, beside])).len();
            assert_eq!([update(), update()], [0, foreign], "{listener}");
        }
    }

    #[test]
    fn what_was_warned_of_is_foreign_still() {
        let (listener, foreign) = (socket("192.0.2.1", 1), by_inode(&[socket("192.0.2.1", 2)]));
        let (mut known, mut warned) = (Known::default(), Seldom::default());
        for expected in [Standing::Suspect, Standing::Told, Standing::Told] {
            let found = known.update(&[listener], foreign.clone());
            warn(&found, &mut known, &mut warned);
            assert_eq!(known.others[&2], expected);
        }
        // A minute has not passed: the next one waits for its warning.
        let both = by_inode(&[socket("192.0.2.1", 2), socket("192.0.2.1", 3)]);
        for expected in [Standing::Suspect, Standing::Foreign, Standing::Foreign] {
            let found = known.update(&[listener], both.clone());
            warn(&found, &mut known, &mut warned);
            assert_eq!((known.others[&2], known.others[&3]), (Standing::Told, expected));
        }
    }
}
