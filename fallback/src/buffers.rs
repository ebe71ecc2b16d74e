//! Receive buffers.
//!
//! quinn-udp does not say that a datagram was cut (its recvmmsg path ignores MSG_TRUNC, and on the BSD
//! family a cut datagram vanishes), so every buffer holds the longest datagram and the longest train
//! there are: 64 KiB. Neither IPv4, IPv6 without jumbograms, nor the kernel's merging of UDP exceeds that
//! (`skb_gro_receive` in net/core/gro.c refuses to go beyond GRO_LEGACY_MAX_SIZE for UDP).
//!
//! Memory: a shard has at most [`LIMIT`] buffers, 64 on every system, so 64 x 64 KiB = 4 MiB; two shards
//! have 8 MiB of the 96 MiB that a server of two may take. Buffers are made when first needed, and the
//! one used last is used first, so a shard that never had more than three datagrams at once touches
//! three times what those were long.

use quinn_udp::BATCH_SIZE;

/// Bytes of a buffer.
const SIZE: usize = 1 << 16;

/// Most buffers of a shard: one batch on its way in while another waits for its answers to leave.
pub(crate) const LIMIT: usize = if BATCH_SIZE > 32 { 2 * BATCH_SIZE } else { 64 };

const _: () = assert!(SIZE > shardgram_core::datagram::MAX_PAYLOAD_V6);
const _: () = assert!(2 * LIMIT * SIZE <= 16 << 20, "two shards stay far below 96 MiB");

/// The buffers of a shard, named by number.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    /// A buffer that receives is moved out of here and leaves an empty one.
    all: Vec<Vec<u8>>,
    /// Last in, first out.
    free: Vec<u32>,
    /// Handed over, and answers that wait to be sent refer to them.
    kept: Vec<u32>,
}

impl Buffers {
    /// How many may be taken.
    pub(crate) fn available(&self) -> usize {
        self.free.len() + (LIMIT - self.all.len())
    }

    /// Takes one, the most recently used that is free.
    pub(crate) fn take(&mut self) -> Option<(u32, Vec<u8>)> {
        if let Some(number) = self.free.pop() {
            return Some((number, std::mem::take(&mut self.all[number as usize])));
        }
        if self.all.len() == LIMIT {
            return None;
        }
        self.all.push(Vec::new());
        Some((self.all.len() as u32 - 1, vec![0; SIZE]))
    }

    /// Puts the bytes of a taken one back in their place; it is in use until it is released or kept.
    pub(crate) fn fill(&mut self, number: u32, bytes: Vec<u8>) {
        self.all[number as usize] = bytes;
    }

    /// Its bytes.
    pub(crate) fn bytes(&self, number: u32) -> &[u8] {
        &self.all[number as usize]
    }

    /// Its bytes, to change.
    pub(crate) fn bytes_mut(&mut self, number: u32) -> &mut [u8] {
        &mut self.all[number as usize]
    }

    /// It may be used again.
    pub(crate) fn release(&mut self, number: u32) {
        self.free.push(number);
    }

    /// It may be used again once the next turn has sent what refers to it.
    pub(crate) fn keep(&mut self, number: u32) {
        self.kept.push(number);
    }

    /// All sends are carried out: what was kept for them is free. The first that was kept was the hottest,
    /// so it comes out first again.
    pub(crate) fn sent(&mut self) {
        self.free.extend(self.kept.drain(..).rev());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_released_is_taken_first_and_the_limit_holds() {
        let mut buffers = Buffers::default();
        let take = |buffers: &mut Buffers| {
            let (number, bytes) = buffers.take()?;
            buffers.fill(number, bytes);
            Some(number)
        };
        assert_eq!([take(&mut buffers), take(&mut buffers)], [Some(0), Some(1)]);
        buffers.release(0);
        assert_eq!(take(&mut buffers), Some(0));
        let taken = (0..).map_while(|_| take(&mut buffers)).count();
        assert_eq!(taken, LIMIT - 2);
        assert_eq!(buffers.available(), 0);
        buffers.keep(5);
        buffers.keep(6);
        assert_eq!(take(&mut buffers), None, "kept ones wait for their sends");
        buffers.sent();
        assert_eq!([take(&mut buffers), take(&mut buffers)], [Some(5), Some(6)]);
        assert_eq!(buffers.bytes(5).len(), SIZE);
    }
}
