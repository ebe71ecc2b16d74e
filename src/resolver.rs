//! Names looked up by the system, on threads of its own.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded};
use dns_lookup::{AddrInfoHints, LookupErrorKind, SockType, getaddrinfo};
use shardgram_core::{Lookup, LookupError, Resolver};

/// Lookups done at once: names whose servers are silent for half a minute hold up this many threads before they hold
/// up other names.
const THREADS: usize = 4;
/// Lookups that wait for a thread, at most.
const WAITING: usize = 4_096;

/// Asks the system (getaddrinfo(3)): its hosts file, its name servers, and whatever else it is set up with. The
/// resolver of a server, unless [`crate::Server::resolver`] names another.
///
/// The first lookup starts two threads, one for it and one that waits for the next, and of further ones each that leaves
/// none waiting starts another, up to four. Where shards are pinned to cores ([`crate::Config::cores`]) the first thread
/// is there from the start and sleeps: all of them may run where the thread might that started the server. 4,096 lookups
/// wait for one at most; beyond that they fail as [`LookupError::Busy`]. A call of getaddrinfo cannot be broken off and may
/// take half a minute, so nobody waits for these threads: they end by themselves once the server has ended and
/// what they are at is done.
///
/// ```
/// use shardgram::{Config, Server, SystemResolver};
/// # fn main() -> Result<(), shardgram::StartError> {
/// let server = Server::bind(Config::new())?.resolver(SystemResolver::new()); // as without it
/// # drop(server);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct SystemResolver {
    waiting: Sender<Lookup>,
    threads: Threads,
}

impl SystemResolver {
    /// One that has no threads yet.
    ///
    /// ```
    /// let resolver = shardgram::SystemResolver::new();
    /// # drop(resolver);
    /// ```
    pub fn new() -> Self {
        let (waiting, taken) = bounded(WAITING);
        Self { waiting, threads: Threads { taken, counts: Arc::default() } }
    }
}

impl Default for SystemResolver {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolver for SystemResolver {
    fn look_up(&self, lookup: Lookup) {
        match self.waiting.try_send(lookup) {
            Ok(()) => self.threads.have_the_first(),
            Err(TrySendError::Full(lookup) | TrySendError::Disconnected(lookup)) => {
                lookup.answer::<[SocketAddr; 0]>(Err(LookupError::Busy));
            }
        }
    }

    fn before_pinning(&self) {
        self.threads.have_the_first();
    }
}

/// The threads. All but the first are started by one of them, since a thread may run on the cores of the one that
/// started it (sched_setaffinity(2)): from a shard's it would have that shard's core.
#[derive(Clone, Debug)]
struct Threads {
    taken: Receiver<Lookup>,
    counts: Arc<Mutex<Counts>>,
}

#[derive(Default, Debug)]
struct Counts {
    all: usize,
    /// Those that wait for a lookup.
    idle: usize,
}

impl Threads {
    fn have_the_first(&self) {
        self.change(|counts| {
            if counts.all == 0 {
                self.start(counts);
            }
        });
    }

    fn start(&self, counts: &mut Counts) {
        let threads = self.clone();
        match std::thread::Builder::new().name("shardgram-names".to_owned()).spawn(move || threads.serve()) {
            Ok(_) => {
                counts.all += 1;
                counts.idle += 1;
            }
            Err(error) => tracing::warn!(%error, "no thread to look names up on; lookups wait for one"),
        }
    }

    /// What each of them does.
    fn serve(&self) {
        for lookup in &self.taken {
            self.change(|counts| {
                counts.idle -= 1;
                if counts.idle == 0 && counts.all < THREADS {
                    self.start(counts);
                }
            });
            look_up(lookup);
            self.change(|counts| counts.idle += 1);
        }
    }

    fn change(&self, change: impl FnOnce(&mut Counts)) {
        change(&mut self.counts.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

fn look_up(lookup: Lookup) {
    // Nobody waits any more: its time is over, or the server has ended.
    if lookup.is_wanted() {
        let found = ask_the_system(lookup.name(), lookup.port());
        lookup.answer(found);
    }
}

fn ask_the_system(name: &str, port: u16) -> Result<Vec<SocketAddr>, LookupError> {
    // One kind of socket, or each address would come once for each kind.
    let hints = AddrInfoHints { socktype: SockType::DGram.into(), ..AddrInfoHints::default() };
    let found = getaddrinfo(Some(name), None, Some(hints)).map_err(|error| {
        tracing::debug!(name, %error, "a name was not resolved");
        match error.kind() {
            LookupErrorKind::NoName => LookupError::NotFound,
            LookupErrorKind::NoData => LookupError::NoAddress,
            LookupErrorKind::Again => LookupError::Temporary,
            _ => LookupError::Failed { code: error.error_num() },
        }
    })?;
    let with_port = |mut address: SocketAddr| {
        address.set_port(port);
        address
    };
    // Addresses of other families than the internet's are none to write to.
    Ok(found.filter_map(|info| info.ok().map(|info| with_port(info.sockaddr))).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn localhost_is_this_host() {
        let found = ask_the_system("localhost", 53).expect("every hosts file has it");
        assert!(!found.is_empty());
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 53), "{found:?}");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_scope_of_an_address_may_be_named() {
        let found = ask_the_system("fe80::1%lo", 53).expect("the loopback interface");
        let SocketAddr::V6(address) = found[0] else { panic!("{found:?}") };
        assert_eq!((found.len(), address.scope_id(), address.port()), (1, 1, 53));
        assert_eq!(ask_the_system("fe80::1%no-such-one", 53), Err(LookupError::NotFound));
    }
}
