//! What a completion is about, in the 64 bits the kernel gives back.
//!
//! Eight bits of kind, 24 of generation, 32 of index. A completion of a generation that is over belongs
//! to a socket that was closed: its buffer is returned and that is all.

/// What kind of operation completed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
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

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct UserData {
    pub(crate) kind: Kind,
    pub(crate) generation: u32,
    pub(crate) index: u32,
}

impl UserData {
    pub(crate) fn new(kind: Kind, index: u32) -> Self {
        Self { kind, generation: 0, index }
    }

    pub(crate) fn receive(slot: u32, generation: u32) -> Self {
        Self::on_slot(Kind::Receive, slot, generation)
    }

    /// Of an operation on the socket in a slot.
    pub(crate) fn on_slot(kind: Kind, slot: u32, generation: u32) -> Self {
        Self { kind, generation: generation & GENERATION_MASK, index: slot }
    }

    pub(crate) fn send(train: u32, turn: u32) -> Self {
        Self { kind: Kind::Send, generation: turn & GENERATION_MASK, index: train }
    }

    #[inline]
    pub(crate) fn bits(self) -> u64 {
        (self.kind as u64) << 56 | u64::from(self.generation) << 32 | u64::from(self.index)
    }

    /// `None` for bits this driver never made.
    #[inline]
    pub(crate) fn from_bits(bits: u64) -> Option<Self> {
        let kind = *KINDS.get((bits >> 56) as usize)?;
        Some(Self { kind, generation: (bits >> 32) as u32 & GENERATION_MASK, index: bits as u32 })
    }
}

/// The next generation of a slot.
pub(crate) fn next_generation(generation: u32) -> u32 {
    (generation + 1) & GENERATION_MASK
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
        assert_eq!(UserData::from_bits(u64::MAX), None);
        assert_eq!(next_generation(GENERATION_MASK), 0);
    }
}
