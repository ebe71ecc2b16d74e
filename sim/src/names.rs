//! Names and their addresses, as the hosts of a simulation know them.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use shardgram_core::{Lookup, LookupError, Resolver};

/// What a lookup of a name that was never set takes, and of one that was set without saying so.
pub(crate) const USUAL: Duration = Duration::from_millis(1);

/// What a name comes to.
pub(crate) type Addresses = Result<Vec<IpAddr>, LookupError>;

struct Name {
    addresses: Addresses,
    takes: Duration,
}

/// The resolver of every host. It takes lookups down as they come, in the order in which shards run; the simulation
/// answers them when their time has come.
#[derive(Default)]
pub(crate) struct Clerk(Mutex<Vec<Lookup>>);

impl Resolver for Clerk {
    fn look_up(&self, lookup: Lookup) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(lookup);
    }
}

/// What names there are, and the lookups under way.
#[derive(Default)]
pub(crate) struct Names {
    clerk: Arc<Clerk>,
    /// Only ever asked for single names.
    names: HashMap<String, Name>,
    /// By the time of the answer, and the order in which they were asked.
    under_way: BTreeMap<(u64, u64), (Lookup, Addresses)>,
    asked: u64,
}

impl Names {
    pub(crate) fn resolver(&self) -> Arc<dyn Resolver> {
        Arc::clone(&self.clerk) as Arc<dyn Resolver>
    }

    pub(crate) fn set(&mut self, name: &str, addresses: Addresses, takes: Duration) {
        self.names.insert(name.to_owned(), Name { addresses, takes });
    }

    /// Takes in what was asked since, and answers what is due. A lookup gets the addresses that the name has when it
    /// is asked.
    pub(crate) fn answer(&mut self, now_ns: u64) {
        let asked = std::mem::take(&mut *self.clerk.0.lock().unwrap_or_else(PoisonError::into_inner));
        for lookup in asked {
            let (addresses, takes) = match self.names.get(lookup.name()) {
                Some(name) => (name.addresses.clone(), name.takes),
                None => (Err(LookupError::NotFound), USUAL),
            };
            let takes = u64::try_from(takes.as_nanos()).unwrap_or(u64::MAX);
            self.under_way.insert((now_ns.saturating_add(takes), self.asked), (lookup, addresses));
            self.asked += 1;
        }
        while let Some(first) = self.under_way.first_entry()
            && first.key().0 <= now_ns
        {
            let (lookup, addresses) = first.remove();
            let port = lookup.port();
            lookup.answer(addresses.map(|all| all.into_iter().map(move |ip| SocketAddr::new(ip, port))));
        }
    }

    /// When the next answer is due.
    pub(crate) fn next_answer(&self) -> Option<u64> {
        self.under_way.first_key_value().map(|(&(at, _), _)| at)
    }
}
