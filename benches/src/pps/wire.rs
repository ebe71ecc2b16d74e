//! What a datagram of the client says: 16 bytes, then filling that both ends know.

/// Bytes of the header, and the least a datagram can have.
pub const HEADER: usize = 16;

/// What a datagram is for. A server looks at it only when it fans out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Load, to be counted or sent back.
    Load,
    /// Who sends this wants what is published. It is sent back.
    Register,
    /// To be sent to all that registered.
    Publish,
}

impl Kind {
    /// That of a datagram.
    #[must_use]
    pub fn of(datagram: &[u8]) -> Self {
        match datagram.first() {
            Some(1) => Self::Register,
            Some(2) => Self::Publish,
            _ => Self::Load,
        }
    }
}

/// What stands at the start of a datagram.
///
/// ```
/// use shardgram_benches::pps::wire::{Head, Kind};
/// let head = Head { kind: Kind::Load, slot: 3, flow: 7, number: 1 << 40 };
/// assert_eq!(Head::read(&head.bytes()), Some(head));
/// assert_eq!(Head::read(b"short"), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is for.
    pub kind: Kind,
    /// Which of its flow's places in flight it takes.
    pub slot: u16,
    /// Its flow.
    pub flow: u32,
    /// Its number in the flow.
    pub number: u64,
}

impl Head {
    /// As it is sent.
    #[must_use]
    pub fn bytes(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[0] = match self.kind {
            Kind::Load => 0,
            Kind::Register => 1,
            Kind::Publish => 2,
        };
        bytes[2..4].copy_from_slice(&self.slot.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.flow.to_le_bytes());
        bytes[8..].copy_from_slice(&self.number.to_le_bytes());
        bytes
    }

    /// Reads what [`Head::bytes`] wrote; `None` if there is less of it.
    #[must_use]
    pub fn read(datagram: &[u8]) -> Option<Self> {
        let head: &[u8; HEADER] = datagram.first_chunk()?;
        Some(Self {
            kind: Kind::of(head),
            slot: u16::from_le_bytes([head[2], head[3]]),
            flow: u32::from_le_bytes([head[4], head[5], head[6], head[7]]),
            number: u64::from_le_bytes(*head[8..].first_chunk()?),
        })
    }
}

/// The byte at this place of a datagram, behind the header.
#[must_use]
pub fn filling(at: usize) -> u8 {
    (at as u8).wrapping_mul(37) ^ 0x5a
}
