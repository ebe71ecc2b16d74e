//! What is in a datagram: the number it is known by, and then bytes that follow from it. So every part of one, from
//! its beginning on, can be told to be whole.

/// Bytes of the number. Shorter datagrams are zeros, and known by their length only.
pub(crate) const NUMBER: usize = 8;

pub(crate) fn fill(number: u64, bytes: &mut [u8]) {
    if bytes.len() < NUMBER {
        return bytes.fill(0);
    }
    let mut word = number;
    for chunk in bytes.chunks_mut(NUMBER) {
        chunk.copy_from_slice(&word.to_le_bytes()[..chunk.len()]);
        word = next(word);
    }
}

pub(crate) fn of(number: u64, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    fill(number, &mut bytes);
    bytes
}

pub(crate) fn number_of(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(..NUMBER)?.try_into().ok()?))
}

/// Whether these are the first bytes of that datagram.
pub(crate) fn is_of(number: u64, bytes: &[u8]) -> bool {
    let mut word = number;
    bytes.chunks(NUMBER).all(|chunk| {
        let same = chunk == &word.to_le_bytes()[..chunk.len()];
        word = next(word);
        same
    })
}

fn next(word: u64) -> u64 {
    word.rotate_left(23).wrapping_mul(0xD129_0B26_89B5_1C4D).wrapping_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_noticed() {
        for len in [8, 9, 15, 16, 100] {
            let mut bytes = of(77, len);
            assert_eq!(number_of(&bytes), Some(77));
            assert!(is_of(77, &bytes) && is_of(77, &bytes[..len / 2]));
            bytes[len - 1] ^= 1;
            assert!(!is_of(77, &bytes));
        }
        assert_eq!(number_of(&of(77, 7)), None);
    }
}
