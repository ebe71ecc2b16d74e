//! Names that are good for as long as what they name, and afterwards name nothing.

/// Names a peer: its shard, its slot there, and the slot's generation. A stale id finds nothing, never
/// another peer: a slot whose generations are used up is retired.
///
/// ```
/// fn log(peer: shardgram_core::PeerId) -> String { format!("{peer} lives on shard {}", peer.shard()) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PeerId {
    shard: u16,
    slot: u32,
    generation: u32,
}

impl PeerId {
    /// The shard it lives on.
    ///
    /// ```
    /// use shardgram_core::{Handler, Io, PeerId};
    /// fn forward<H: Handler<Message = PeerId>>(io: &mut Io<H>, peer: PeerId) -> bool {
    ///     io.tell(peer.shard(), peer).is_ok()
    /// }
    /// ```
    pub fn shard(self) -> u16 {
        self.shard
    }

    /// Its slot there, below [`crate::Config::max_peers`]: dense, so it may index a table of one's own.
    ///
    /// ```
    /// fn seen(bits: &mut [u64], peer: shardgram_core::PeerId) {
    ///     let slot = peer.slot() as usize;
    ///     bits[slot / 64] |= 1 << (slot % 64);
    /// }
    /// ```
    pub fn slot(self) -> u32 {
        self.slot
    }

    pub(crate) fn generation(self) -> u32 {
        self.generation
    }

    pub(crate) fn of(shard: u16, slot: u32, generation: u32) -> Self {
        Self { shard, slot, generation }
    }
}

impl std::fmt::Display for PeerId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{}.{}", self.shard, self.slot, self.generation)
    }
}

/// Who sent a message.
///
/// ```
/// use shardgram_core::Origin;
/// fn from_neighbour(origin: Origin) -> bool { matches!(origin, Origin::Shard(_)) }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Origin {
    /// A shard of the same server.
    Shard(u16),
    /// A handle of the server.
    Handle,
}

/// Which shard a handler is made for.
///
/// ```
/// use shardgram_core::ShardInfo;
/// fn first(info: ShardInfo) -> bool { info.shard == 0 }
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct ShardInfo {
    /// Its number, from 0.
    pub shard: u16,
    /// How many there are.
    pub shards: u16,
}

impl ShardInfo {
    /// Shard `shard` of `shards`.
    ///
    /// ```
    /// use shardgram_core::ShardInfo;
    /// let last = ShardInfo::new(3, 4);
    /// assert_eq!(last.shard + 1, last.shards);
    /// ```
    pub fn new(shard: u16, shards: u16) -> Self {
        Self { shard, shards }
    }
}
