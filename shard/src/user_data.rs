//! What a completion is about, in the 64 bits the kernel gives back.
//!
//! Eight bits of kind, 24 of generation, 32 of index. A completion of a generation that is over belongs
//! to a socket that was closed: its buffer is returned and that is all.

/// What kind of operation completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// A multishot receive; the index is the fixed-file slot.
    Receive,
    /// A send that failed; the index is the train's, the generation is that of the turn.
    Send,
    /// Another shard's wake-up, carried by MSG_RING.
    Wake,
    /// The read of this shard's event descriptor.
    Event,
    /// The wake-up of another shard failed; the index is that shard.
    WakeFailed,
    /// The timer that outlasts waits.
    Timer,
    /// Something can be received on a socket that is watched and not armed; the index is the slot.
    Watch,
    /// A socket whose send buffer was full has room; the index is the slot.
    Writable,
    /// The send of something that had waited failed; the generation is that of the attempt.
    Late,
    /// A cancellation found nothing.
    Cancel,
}

const KINDS: [Kind; 10] = [
    Kind::Receive,
    Kind::Send,
    Kind::Wake,
    Kind::Event,
    Kind::WakeFailed,
    Kind::Timer,
    Kind::Watch,
    Kind::Writable,
    Kind::Late,
    Kind::Cancel,
];
const GENERATION_MASK: u32 = (1 << 24) - 1;

/// What an operation is submitted with and its completion comes back with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct UserData {
    /// What the operation does.
    pub kind: Kind,
    /// Which of those that had this index in turn; 24 bits, 0 where it has no meaning.
    pub generation: u32,
    /// What it is about; its meaning depends on the kind.
    pub index: u32,
}

impl UserData {
    /// Of a kind that has no generations.
    #[must_use]
    pub fn new(kind: Kind, index: u32) -> Self {
        Self { kind, generation: 0, index }
    }

    /// The receive of a fixed-file slot; of the generation 24 bits count.
    #[must_use]
    pub fn receive(slot: u32, generation: u32) -> Self {
        Self::on_slot(Kind::Receive, slot, generation)
    }

    /// Of an operation on the socket in a slot.
    #[must_use]
    pub fn on_slot(kind: Kind, slot: u32, generation: u32) -> Self {
        Self { kind, generation: generation & GENERATION_MASK, index: slot }
    }

    /// The send of a train in a turn; of the turn 24 bits count.
    #[must_use]
    pub fn send(train: u32, turn: u32) -> Self {
        Self { kind: Kind::Send, generation: turn & GENERATION_MASK, index: train }
    }

    /// As the kernel is given it.
    ///
    /// ```
    /// use shardgram_shard::user_data::UserData;
    /// let receive = UserData::receive(3, 1);
    /// assert_eq!(UserData::from_bits(receive.bits()), Some(receive));
    /// ```
    #[inline]
    #[must_use]
    pub fn bits(self) -> u64 {
        let generation = u64::from(self.generation & GENERATION_MASK);
        (self.kind as u64) << 56 | generation << 32 | u64::from(self.index)
    }

    /// `None` for bits this driver never made.
    #[inline]
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let kind = *KINDS.get((bits >> 56) as usize)?;
        Some(Self { kind, generation: (bits >> 32) as u32 & GENERATION_MASK, index: bits as u32 })
    }
}

/// The next generation of a slot.
#[must_use]
pub fn next_generation(generation: u32) -> u32 {
    generation.wrapping_add(1) & GENERATION_MASK
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_come_back() {
        for kind in KINDS {
            for (generation, index) in [(0, 0), (1, u32::MAX), (GENERATION_MASK, 7)] {
                let data = UserData { kind, generation, index };
                assert_eq!(UserData::from_bits(data.bits()), Some(data));
            }
        }
        for byte in 0..=u8::MAX {
            let known = UserData::from_bits(u64::from(byte) << 56).is_some();
            assert_eq!(known, usize::from(byte) < KINDS.len(), "kind {byte}");
        }
        let wide = UserData { kind: Kind::Timer, generation: u32::MAX, index: 0 };
        assert_eq!(UserData::from_bits(wide.bits()).map(|data| data.kind), Some(Kind::Timer));
        assert_eq!(next_generation(GENERATION_MASK), 0);
    }
}
