//! What clients and the server of a flood say to each other.

use crate::flows;

/// Bytes of what a client asks, and of what a flood is made of: [`flows::bytes`], and room for the answer.
pub const LENGTH: usize = flows::LENGTH + 8;
/// A question: it is counted and answered.
pub const ASK: u8 = b'a';
/// The same, from whom no handler is to give a socket of its own.
pub const NOISE: u8 = b'n';
/// Its answer, with how many of this peer's questions have been counted.
pub const ANSWER: u8 = b'r';
/// Asks for a cookie.
pub const HELLO: u8 = b'?';
/// The cookie.
pub const COOKIE: u8 = b'c';
/// The cookie comes back.
pub const PROOF: u8 = b'!';
/// It was the right one.
pub const WELCOME: u8 = b'w';

/// A datagram of a client.
#[must_use]
pub fn request(kind: u8, flow: u32, number: u64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..flows::LENGTH].copy_from_slice(&flows::bytes(kind, flow, number));
    bytes
}

/// Makes the answer of a question, in place, if it is one.
pub fn answer(request: &mut [u8], counted: u64) {
    if let Some(bytes) = request.first_chunk_mut::<LENGTH>() {
        bytes[0] = ANSWER;
        bytes[flows::LENGTH..].copy_from_slice(&counted.to_be_bytes());
    }
}

/// What an answer says: flow, number, and how many were counted.
///
/// ```
/// use shardgram_benches::floods::wire::{answer, answered, request, ASK};
/// let mut bytes = request(ASK, 7, 3);
/// assert_eq!(answered(&bytes), None);
/// answer(&mut bytes, 2);
/// assert_eq!(answered(&bytes), Some((7, 3, 2)));
/// ```
#[must_use]
pub fn answered(bytes: &[u8]) -> Option<(u32, u64, u64)> {
    let (head, counted) = bytes.split_at_checked(flows::LENGTH)?;
    match flows::parse(head)? {
        (ANSWER, flow, number) => Some((flow, number, u64::from_be_bytes(counted.try_into().ok()?))),
        _ => None,
    }
}
