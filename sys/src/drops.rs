//! What the kernel dropped at a socket, where its own counter wraps.

/// What the kernel dropped at one socket since it was made, from a counter of 32 bits that wraps.
///
/// It is right as long as it is asked once in every 4,294,967,296 drops.
///
/// ```
/// use shardgram_sys::Drops;
/// let mut drops = Drops::default();
/// assert_eq!(drops.advance(u64::from(u32::MAX) - 1), 4_294_967_294);
/// assert_eq!(drops.advance(3), 4_294_967_299); // it wrapped
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Drops {
    last: u32,
    total: u64,
}

impl Drops {
    /// The counter says this now ([`crate::socket::drop_count`]); how many drops that are in all.
    ///
    /// ```
    /// use shardgram_sys::Drops;
    /// use shardgram_sys::socket::drop_count;
    /// fn dropped(drops: &mut Drops, socket: &std::net::UdpSocket) -> u64 {
    ///     drop_count(socket).map_or(drops.total(), |now| drops.advance(now))
    /// }
    /// ```
    pub fn advance(&mut self, now: u64) -> u64 {
        let now = now as u32;
        self.total += u64::from(now.wrapping_sub(self.last));
        self.last = now;
        self.total
    }

    /// As of when it was asked last.
    ///
    /// ```
    /// assert_eq!(shardgram_sys::Drops::default().total(), 0);
    /// ```
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }
}
