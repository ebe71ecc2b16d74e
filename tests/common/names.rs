//! Names that a test gives to addresses, for handlers of every driver.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use shardgram::{Lookup, LookupError, Resolver};

use super::Bed;

type Addresses = Result<Vec<IpAddr>, LookupError>;

/// A table of names. With real sockets it is a resolver; the simulator has one of its own.
#[derive(Clone, Default)]
pub struct Names(Arc<Mutex<HashMap<String, (Addresses, Duration)>>>);

impl Names {
    /// What becomes of lookups of a name from now on, and how long each takes.
    pub fn set(&self, bed: &mut Bed, name: &str, addresses: Addresses, takes: Duration) {
        match bed {
            Bed::Sim(sim) => sim.name(name, addresses, takes),
            Bed::Real(_) => drop(self.0.lock().unwrap().insert(name.to_owned(), (addresses, takes))),
        }
    }
}

impl Resolver for Names {
    fn look_up(&self, lookup: Lookup) {
        let found = self.0.lock().unwrap().get(lookup.name()).cloned();
        let (addresses, takes) = found.unwrap_or((Err(LookupError::NotFound), Duration::ZERO));
        let port = lookup.port();
        let answer = move || {
            lookup.answer(addresses.map(|all| all.into_iter().map(move |ip| SocketAddr::new(ip, port))));
        };
        if takes.is_zero() {
            return answer();
        }
        std::thread::spawn(move || {
            std::thread::sleep(takes);
            answer();
        });
    }
}
