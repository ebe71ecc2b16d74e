//! Where this process listens, by which its shards know datagrams that claim to come from themselves.
//!
//! All servers of a process know each other's listeners, since two that answer each other never stop. Servers in different
//! network namespaces do not meet, and have the addresses of different hosts, so each namespace is kept by itself.

#[cfg_attr(target_os = "linux", path = "own_addresses/linux.rs")]
#[cfg_attr(not(target_os = "linux"), path = "own_addresses/other.rs")]
mod platform;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use shardgram_core::own_addresses::OwnAddresses;

use crate::host_addresses::list;
use crate::random::random_key;
use platform::{Follower, Namespace, namespace};

/// What this process knows of each network namespace in which it listens.
static PROCESS: Mutex<Vec<Known>> = Mutex::new(Vec::new());

struct Known {
    namespace: Namespace,
    own: Arc<OwnAddresses>,
    /// Servers that are bound, and those of them that run.
    bound: usize,
    running: usize,
    follower: Option<Follower>,
}

fn process() -> MutexGuard<'static, Vec<Known>> {
    // Whoever panicked had not begun to change it.
    PROCESS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That a server listens. It does so no longer when this is dropped.
#[derive(Debug)]
pub(crate) struct Listening {
    own: Arc<OwnAddresses>,
    addresses: Arc<[SocketAddr]>,
    running: bool,
}

impl Listening {
    /// A server of the calling thread's network namespace is bound to these addresses.
    pub(crate) fn at(addresses: Arc<[SocketAddr]>) -> Self {
        let (mut process, namespace) = (process(), namespace());
        let at = process.iter().position(|known| known.namespace == namespace).unwrap_or_else(|| {
            let own = OwnAddresses::new(random_key()).lister(Box::new(list));
            process.push(Known { namespace, own: Arc::new(own), bound: 0, running: 0, follower: None });
            process.len() - 1
        });
        process[at].bound += 1;
        let own = Arc::clone(&process[at].own);
        own.listen(&addresses);
        Self { own, addresses, running: false }
    }

    /// What the server's shards are to know, which begin to run: from here on the host's addresses are followed. Not from
    /// the bind on, since a process may fork in between, and threads do not come along.
    pub(crate) fn follow(&mut self) -> Arc<OwnAddresses> {
        if !self.addresses.is_empty() && !std::mem::replace(&mut self.running, true) {
            let mut process = process();
            if let Some(known) = process.iter_mut().find(|known| Arc::ptr_eq(&known.own, &self.own)) {
                known.running += 1;
                if known.follower.is_none() {
                    known.follower = Follower::start(&known.own);
                }
            }
        }
        Arc::clone(&self.own)
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.own.leave(&self.addresses);
        let mut process = process();
        let Some(at) = process.iter().position(|known| Arc::ptr_eq(&known.own, &self.own)) else { return };
        let known = &mut process[at];
        known.bound -= 1;
        known.running -= usize::from(self.running);
        let follower = if known.running == 0 { known.follower.take() } else { None };
        if known.bound == 0 {
            process.swap_remove(at);
        }
        drop(process);
        // Waits for its thread, which never takes the lock.
        drop(follower);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_process_know_each_other_until_they_end() {
        let at = |port: u16| -> Arc<[SocketAddr]> { Arc::new([([127, 7, 7, 7], port).into()]) };
        let (first, mut second) = (Listening::at(at(41)), Listening::at(at(42)));
        let own = second.follow();
        assert!(own.has(at(41)[0]) && own.has(at(42)[0]));
        drop(first);
        assert!(!own.has(at(41)[0]) && own.has(at(42)[0]));
        drop(second);
        assert!(!own.has(at(42)[0]));
    }

    #[test]
    fn a_wildcard_stands_for_every_address_of_the_host() {
        let mut listening = Listening::at(Arc::new([([0, 0, 0, 0], 43).into()]));
        let own = listening.follow();
        assert!(own.has(([127, 0, 0, 1], 43).into()) && own.has(([127, 1, 2, 3], 43).into()));
        assert!(!own.has(([192, 0, 2, 1], 43).into()) && !own.has("[::1]:43".parse().expect("an address")));
    }
}
