//! Who is measured.

/// A way to write a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Contender {
    /// Its name on the command line and in `bars.toml`.
    pub name: &'static str,
    /// Its name in tables.
    pub label: &'static str,
    /// Whether it can spin instead of sleeping.
    pub spins: bool,
    /// Whether it is only there with the feature `rivals`.
    pub rival: bool,
}

const fn contender(name: &'static str, label: &'static str, spins: bool, rival: bool) -> Contender {
    Contender { name, label, spins, rival }
}

/// All of them.
pub const ALL: [Contender; 15] = [
    contender("shardgram-uring-listener", "shardgram uring listener", true, false),
    contender("shardgram-uring-connected", "shardgram uring connected", true, false),
    contender("shardgram-uring-adaptive", "shardgram uring adaptive", true, false),
    contender("shardgram-mio", "shardgram mio", true, false),
    contender("bare-uring", "bare io_uring", true, false),
    contender("bare-uring-patient", "bare io_uring, patient", false, false),
    contender("recvmmsg", "recvmmsg+sendmmsg", true, false),
    contender("recvfrom", "recvfrom+sendto", true, false),
    contender("quinn-udp", "quinn-udp", true, true),
    contender("tokio-quinn-udp", "tokio + quinn-udp", false, true),
    contender("tokio", "tokio", false, true),
    contender("mio", "mio", true, true),
    contender("monoio", "monoio", false, true),
    contender("glommio", "glommio", true, true),
    contender("compio", "compio", false, true),
];

impl Contender {
    /// The one of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        ALL.into_iter().find(|contender| contender.name == name)
    }

    /// Whether this program was built with it.
    #[must_use]
    pub fn is_built(&self) -> bool {
        !self.rival || cfg!(feature = "rivals")
    }

    /// Those that were built.
    #[must_use]
    pub fn built() -> Vec<Self> {
        ALL.into_iter().filter(Self::is_built).collect()
    }

    /// Whether it is shardgram.
    #[must_use]
    pub fn is_shardgram(&self) -> bool {
        self.name.starts_with("shardgram-")
    }
}

#[cfg(test)]
mod tests {
    use super::{ALL, Contender};

    #[test]
    fn names_are_different_and_found() {
        for contender in ALL {
            assert_eq!(Contender::named(contender.name), Some(contender));
        }
        assert_eq!(Contender::named("nobody"), None);
    }
}
