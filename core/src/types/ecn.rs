//! Explicit congestion notification.

/// What the two congestion bits of an IP header say (RFC 3168 section 5).
///
/// ```
/// use shardgram_core::Ecn;
/// assert_eq!(Ecn::from_bits(0xb8 | 2), Ecn::Ect0); // a byte with a DSCP
/// assert_eq!(Ecn::default(), Ecn::NotEct);
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[repr(u8)]
pub enum Ecn {
    /// 00: whoever sends it does not know of marks, so a router that is congested drops it.
    #[default]
    NotEct = 0b00,
    /// 01: it may be marked. For senders that react to each mark as L4S does (RFC 9331).
    Ect1 = 0b01,
    /// 10: it may be marked. What QUIC sends (RFC 9000 section 13.4).
    Ect0 = 0b10,
    /// 11: a router on the way was congested and marked it instead of dropping it.
    Ce = 0b11,
}

impl Ecn {
    /// What the lowest two bits of a byte say; the other six are the DSCP (RFC 2474).
    ///
    /// ```
    /// use shardgram_core::Ecn;
    /// assert_eq!([0, 1, 2, 3].map(Ecn::from_bits), [Ecn::NotEct, Ecn::Ect1, Ecn::Ect0, Ecn::Ce]);
    /// ```
    #[inline]
    #[must_use]
    pub const fn from_bits(byte: u8) -> Self {
        match byte & 3 {
            0b00 => Self::NotEct,
            0b01 => Self::Ect1,
            0b10 => Self::Ect0,
            _ => Self::Ce,
        }
    }

    /// The bits, 0 to 3.
    ///
    /// ```
    /// assert_eq!(shardgram_core::Ecn::Ect0.bits(), 0b10);
    /// ```
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u8 {
        self as u8
    }

    /// The whole byte (IPv4 TOS, IPv6 traffic class) of what is sent with this mark by a socket that has `own` for
    /// it: the DSCP stays. With [`Ecn::NotEct`] it is the socket's byte as it is.
    ///
    /// ```
    /// use shardgram_core::Ecn;
    /// assert_eq!(Ecn::Ect0.on(0xb8), 0xb8 | 2);
    /// assert_eq!(Ecn::Ce.on(0xb8 | 1), 0xb8 | 3);
    /// ```
    #[inline]
    #[must_use]
    pub const fn on(self, own: u8) -> u8 {
        match self {
            Self::NotEct => own,
            mark => own & !3 | mark.bits(),
        }
    }
}
