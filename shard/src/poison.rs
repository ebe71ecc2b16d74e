//! Debug builds make a buffer unreadable before the kernel gets it back.
//!
//! Whoever goes on looking at bytes that are no longer theirs sees [`POISON`] at once, instead of the right
//! bytes until some later datagram overwrites them. Only what was looked at is overwritten, so that a small
//! datagram in a large buffer costs little. Release builds do nothing of this.

/// What a byte becomes.
pub(crate) const POISON: u8 = 0xA5;

/// How many bytes of each buffer have been looked at since it was taken. Empty in release builds.
#[derive(Debug)]
pub(crate) struct Seen(Box<[u32]>);

impl Seen {
    pub(crate) fn new(buffers: u16) -> Self {
        let buffers = if cfg!(debug_assertions) { usize::from(buffers) } else { 0 };
        Self(vec![0; buffers].into())
    }

    /// The first `len` bytes of a buffer are looked at.
    #[inline]
    pub(crate) fn note(&mut self, id: u16, len: usize) {
        if cfg!(debug_assertions)
            && let Some(seen) = self.0.get_mut(usize::from(id))
        {
            *seen = (*seen).max(u32::try_from(len).unwrap_or(u32::MAX));
        }
    }

    /// How many bytes have to be poisoned, from the buffer's beginning. Asked once.
    #[inline]
    pub(crate) fn take(&mut self, id: u16) -> usize {
        if !cfg!(debug_assertions) {
            return 0;
        }
        self.0.get_mut(usize::from(id)).map_or(0, |seen| std::mem::take(seen) as usize)
    }
}
