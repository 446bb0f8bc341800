//! Finding the few bytes of a JSON string that do not stand for themselves, eight bytes at a time.
//!
//! The texts of a conversation are long and nearly always plain: looking at single bytes took a sixth of
//! all instructions of a read.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// The offset, from `start` on, of the first quote, backslash or control character; the length of `bytes`
/// if there is none.
#[inline]
pub fn special(bytes: &[u8], start: usize) -> usize {
    find::<false>(bytes, start)
}

/// As [`special`], and also stops at 0xEF, with which U+FDD0 begins in UTF-8 ([`crate::escape::LEAD`]).
#[inline]
pub fn special_or_lead(bytes: &[u8], start: usize) -> usize {
    find::<true>(bytes, start)
}

#[inline]
fn find<const LEAD: bool>(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        let mut found = below_0x20(word) | equal(word, b'"') | equal(word, b'\\');
        if LEAD {
            found |= equal(word, 0xef);
        }
        if found != 0 {
            // A borrow can mark bytes behind a marked one, never before it: the first one is right.
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
    }
    let is_special = |byte: &u8| matches!(byte, 0..0x20 | b'"' | b'\\') || (LEAD && *byte == 0xef);
    bytes.get(at..).and_then(|rest| rest.iter().position(is_special)).map_or(bytes.len(), |found| at + found)
}

#[inline]
fn below_0x20(word: u64) -> u64 {
    word.wrapping_sub(ONES * 0x20) & !word & HIGH_BITS
}

#[inline]
fn equal(word: u64, byte: u8) -> u64 {
    let zero_where_equal = word ^ (ONES * u64::from(byte));
    zero_where_equal.wrapping_sub(ONES) & !zero_where_equal & HIGH_BITS
}
