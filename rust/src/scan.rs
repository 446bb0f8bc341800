//! Finding the few bytes of a JSON string that have a special meaning, eight bytes at a time.
//!
//! The texts of a conversation are long and nearly always plain. Looking at single bytes took a sixth of all
//! instructions of a read. After 32 plain bytes, the next bytes are looked at 32 at a time, which the
//! compiler turns into vector instructions.

const ONES: u64 = u64::from_ne_bytes([1; 8]);
const HIGH_BITS: u64 = ONES << 7;

/// How many bytes are looked at together in long texts.
const WIDE: usize = 32;

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

/// Whether there are only ASCII characters, and no U+0000 among them.
#[cfg_attr(not(feature = "python"), expect(dead_code, reason = "for Python strings"))]
pub fn is_plain_ascii(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks();
    words.iter().all(|word| {
        let word = u64::from_le_bytes(*word);
        (word | word.wrapping_sub(ONES)) & HIGH_BITS == 0
    }) && rest.iter().all(|byte| (1..0x80).contains(byte))
}

#[inline]
fn find<const LEAD: bool>(bytes: &[u8], start: usize) -> usize {
    let mut at = start;
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let found = marked::<LEAD>(u64::from_le_bytes(*chunk));
        if found != 0 {
            return at + found.trailing_zeros() as usize / 8;
        }
        at += 8;
        if at - start == WIDE {
            at = skip_wide::<LEAD>(bytes, at);
        }
    }
    let rest = bytes.get(at..).unwrap_or_default();
    let found = marked::<LEAD>(word(rest)) & ((1 << (8 * rest.len())) - 1);
    if found == 0 { bytes.len() } else { at + found.trailing_zeros() as usize / 8 }
}

/// At most seven bytes as a little-endian number, read without a loop.
#[inline]
pub fn word(bytes: &[u8]) -> u64 {
    let at = |place: usize| u64::from(bytes[place]) << (8 * place);
    match (bytes.first_chunk(), bytes.last_chunk()) {
        // The two may overlap.
        (Some(first), Some(last)) => {
            let shift = 8 * (bytes.len() - 4);
            u64::from(u32::from_le_bytes(*first)) | u64::from(u32::from_le_bytes(*last)) << shift
        }
        _ if bytes.is_empty() => 0,
        _ => at(0) | at(bytes.len() / 2) | at(bytes.len() - 1),
    }
}

/// Behind the longest run of plain bytes from `at` on that is a multiple of [`WIDE`] long.
fn skip_wide<const LEAD: bool>(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk::<WIDE>)
        && !chunk.iter().fold(false, |found, byte| found | is_special::<LEAD>(*byte))
    {
        at += WIDE;
    }
    at
}

#[inline]
#[expect(clippy::needless_bitwise_bool, reason = "without branches, the compiler makes vectors of it")]
fn is_special<const LEAD: bool>(byte: u8) -> bool {
    (byte < 0x20) | (byte == b'"') | (byte == b'\\') | (LEAD & (byte == 0xef))
}

/// The high bits of the bytes that are special. A borrow can mark further bytes after a marked one, but never
/// before it, so the first mark is right.
#[inline]
fn marked<const LEAD: bool>(word: u64) -> u64 {
    let found = below_0x20(word) | equal(word, b'"') | equal(word, b'\\');
    if LEAD { found | equal(word, 0xef) } else { found }
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
