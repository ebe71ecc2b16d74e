//! Cookies that prove an address: a keyed hash of the path and of the time.
//!
//! Source addresses may be forged, so `accept` can keep nothing of a stranger and ask for a proof first. Keys and start
//! are the same for all shards of a server, so a cookie is good on each of them.

use std::hash::{Hash, Hasher};
use std::time::{Duration, Instant};

use siphasher::sip128::{Hasher128, SipHasher24};

use crate::types::datagram::Path;

/// How long a cookie is made before the next kind; it is accepted for one such time more.
const EPOCH: Duration = Duration::from_secs(60);

#[derive(Clone, Copy)]
pub(crate) struct CookieJar {
    key: (u64, u64),
    start: Instant,
}

impl CookieJar {
    pub(crate) fn new(key: (u64, u64), start: Instant) -> Self {
        Self { key, start }
    }

    fn epoch(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.start).as_secs() / EPOCH.as_secs()
    }

    fn seal(&self, path: &Path, epoch: u64) -> [u8; 16] {
        let mut hasher = SipHasher24::new_with_keys(self.key.0, self.key.1);
        // An endpoint's port may not be known yet when a cookie for it is made.
        let port = path.socket.as_listener().map(|_| path.local.port());
        (path.local.ip(), port, path.remote).hash(&mut hasher);
        hasher.write_u64(epoch);
        hasher.finish128().as_bytes()
    }

    pub(crate) fn bake(&self, path: &Path, now: Instant) -> [u8; 16] {
        self.seal(path, self.epoch(now))
    }

    pub(crate) fn verify(&self, path: &Path, cookie: &[u8], now: Instant) -> bool {
        let epoch = self.epoch(now);
        let fresh = same(&self.seal(path, epoch), cookie);
        let previous = epoch.checked_sub(1).is_some_and(|e| same(&self.seal(path, e), cookie));
        fresh | previous
    }
}

/// Compares without stopping at the first difference, so the time taken tells nothing.
fn same(a: &[u8; 16], b: &[u8]) -> bool {
    b.len() == a.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::datagram::SocketId;

    #[test]
    fn a_cookie_holds_for_its_path_and_its_time() {
        let path = |port: u16| Path {
            local: ([10, 0, 0, 1], 9).into(),
            remote: ([10, 0, 0, 2], port).into(),
            socket: SocketId::listener(0),
        };
        let start = Instant::now();
        let jar = CookieJar::new((1, 2), start);
        let cookie = jar.bake(&path(5), start);
        assert!(jar.verify(&path(5), &cookie, start + EPOCH));
        assert!(!jar.verify(&path(5), &cookie, start + 2 * EPOCH), "too old");
        assert!(!jar.verify(&path(6), &cookie, start), "another port");
        assert!(!jar.verify(&path(5), &cookie[..15], start), "cut short");
        assert!(!CookieJar::new((1, 3), start).verify(&path(5), &cookie, start), "another key");
    }
}
