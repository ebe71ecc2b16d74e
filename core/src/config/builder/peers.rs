//! Peers: how many there are, who keeps a place, and which have a socket of their own.

use std::time::Duration;

use crate::config::{AcceptChoice, Config, TierPolicy};

impl Config {
    /// Peers per shard. Default 65,536, range 1 to 8,388,608. A peer costs at most 256 bytes beside the
    /// handler's state; the table is reserved at start and never moved, so filling it stalls nothing.
    #[must_use]
    pub fn max_peers(mut self, max_peers: u32) -> Self {
        self.settings.max_peers = max_peers;
        self
    }

    /// Peers per shard that strangers cannot displace: those whose address is proven ([`crate::Io::validated`],
    /// [`crate::Io::verify`]), and those that were heard again for several seconds after they had been answered.
    /// Default 0: three quarters of `max_peers`. Otherwise less than `max_peers`, range 0 to 8,388,608. When a table is full, a newcomer takes the
    /// place of a peer of which less is known, so a flood of forged sources keeps nobody out. Peers that are proven
    /// beyond this bound stay, and may be displaced: of the heaviest source prefix (/24 in /16, IPv6 /56 in /48) the one that was
    /// silent longest.
    #[must_use]
    pub fn max_proven_peers(mut self, max_proven_peers: u32) -> Self {
        self.settings.max_proven_peers = max_proven_peers;
        self
    }

    /// Peers of one prefix (/24, IPv6 /56) that may be proven, per shard: further ones may be displaced by strangers. Default
    /// 0: no such bound, which leaves carriers alone that have many customers behind few addresses. Range 0 to
    /// 8,388,608. It costs 8 bytes a peer.
    #[must_use]
    pub fn max_proven_per_prefix(mut self, max_proven_per_prefix: u32) -> Self {
        self.settings.max_proven_per_prefix = max_proven_per_prefix;
        self
    }

    /// New peers of unproven address that one prefix (/24, IPv6 /56) may have in about a second, per shard, and
    /// one /16 or /48 sixteen times as many. Beyond it none is refused, since who forges
    /// sources could lock a prefix out so: [`crate::Io::pressure`] says that a proof is wanted, and who comes without one takes the
    /// place of another of the same prefix, if one is found. Default 4,096, range 0 to 16,777,216; 0 turns it off.
    #[must_use]
    pub fn newcomers_per_prefix(mut self, newcomers_per_prefix: u32) -> Self {
        self.settings.newcomers_per_prefix = newcomers_per_prefix;
        self
    }

    /// Paths per peer: 4-tuples that [`crate::Accept::PathOf`] may add, with the first one. Default 4,
    /// range 1 to 64. Together the shard's peers may use an eighth more paths than there are peers. Where
    /// there is room for no more, a new path takes the place of the peer's oldest unused one.
    #[must_use]
    pub fn max_paths_per_peer(mut self, max_paths_per_peer: u8) -> Self {
        self.settings.max_paths_per_peer = max_paths_per_peer;
        self
    }

    /// How long a peer may say nothing before it is closed as [`crate::CloseReason::Idle`], to an eighth
    /// of that. Default 120 s, the least a NAT keeps a mapping (RFC 4787 REQ-5). `None`: for ever. Range 8 to
    /// 86,400,000 ms, which is a day.
    ///
    /// ```
    /// use std::time::Duration;
    /// use shardgram_core::Config;
    /// assert!(Config::new().idle_timeout(Some(Duration::from_secs(30))).validate().is_ok());
    /// assert!(Config::new().idle_timeout(None).validate().is_ok());
    /// assert!(Config::new().idle_timeout(Some(Duration::ZERO)).validate().is_err());
    /// ```
    #[must_use]
    pub fn idle_timeout(mut self, timeout: Option<Duration>) -> Self {
        self.settings.idle_timeout = timeout;
        self
    }

    /// Bytes that may be sent to an address for each byte that came from it, until the handler calls
    /// [`crate::Io::validated`] or [`crate::Io::validated_path`]. It holds for each path of a peer by itself, so a new path
    /// of a proven peer is limited too (RFC 9000 section 9.3.1). Default 0: no limit. Range 0 to 1,000,000. QUIC asks for 3
    /// (RFC 9000 section 8.1).
    #[must_use]
    pub fn amplification_limit(mut self, amplification_limit: u32) -> Self {
        self.settings.amplification_limit = amplification_limit;
        self
    }

    /// Stateless answers ([`crate::Accept::Reply`], [`crate::Io::answer`]) that one address gets of a shard in a second; an
    /// IPv6 network of 64 bits is one address. Default 200,000, range 0 to 4,294,967,295; 0 sets no bound. More are refused
    /// as [`crate::SendError::TooManyAnswers`] and counted ([`crate::Snapshot::send_refused_stateless`]).
    ///
    /// Two servers that both answer what they do not understand can be set upon each other by one forged datagram, and
    /// their answers are like a busy client's questions. What is refused is lost to such a loop, so no more than this goes
    /// round. The default lets a resolver ask 100,000 times a second and keeps a loop below half a core or so; where
    /// clients ask seldom, far less is enough. A network of addresses behind one translator is one address here. Costs
    /// 32 KiB per shard, and a hash per answer.
    #[must_use]
    pub fn stateless_answers_per_second(mut self, stateless_answers_per_second: u32) -> Self {
        self.settings.stateless_answers_per_second = stateless_answers_per_second;
        self
    }

    /// When peers get sockets of their own. Default [`TierPolicy::Listener`]: when the handler says so. Another
    /// policy is refused when the server is bound where peers cannot have sockets of their own.
    #[must_use]
    pub fn tier(mut self, tier: TierPolicy) -> Self {
        self.settings.tier = tier;
        self
    }

    /// How peers get sockets of their own. Default [`AcceptChoice::Auto`]: the better way that works. Another
    /// choice is refused when the server is bound if it cannot be had, by a driver that has no such
    /// sockets too.
    #[must_use]
    pub fn accept(mut self, accept: AcceptChoice) -> Self {
        self.settings.accept = accept;
        self
    }

    /// Peers with sockets of their own, in the whole process, divided evenly among the shards: ask for one
    /// a shard at least. Range 0 to 1,048,576. Each costs a descriptor, about 2 KiB of kernel memory, and 10 to 70 us to make. More than
    /// the limit of descriptors (`ulimit -n`) leaves room for is refused when the server is bound, with the
    /// number that fits. Default: 4,096, or as many as fit.
    #[must_use]
    pub fn max_connected(mut self, peers: u32) -> Self {
        self.settings.max_connected = Some(peers);
        self
    }

    /// Of those, at one local address, divided in the same way. Range 0 to 1,048,576. Making one takes about 10 ns longer for every
    /// socket its address has. Default: 4,096; 32 on systems where every connected socket makes the others'
    /// datagrams dearer (before Linux 6.13).
    #[must_use]
    pub fn max_connected_per_address(mut self, peers: u32) -> Self {
        self.settings.max_connected_per_address = Some(peers);
        self
    }
}
