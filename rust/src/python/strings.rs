//! Python strings from stored text, and stored text from Python strings.

use std::borrow::Cow;

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};

use super::objects;
use crate::escape::{self, Piece};
use crate::scan;

/// Longest key that is looked for in the cache; longer ones are rarely repeated.
const LONGEST_CACHED: usize = 40;
const SLOTS: usize = 256;

/// Remembers short strings of one read, so that a key or role that a thousand events repeat is one object.
/// Direct-mapped: a collision replaces.
pub struct Cache<'py> {
    slots: Vec<Option<Bound<'py, PyString>>>,
}

impl<'py> Cache<'py> {
    /// An empty cache.
    pub fn new() -> Self {
        Self { slots: vec![None; SLOTS] }
    }

    /// The Python string for a stored text that is likely to come again.
    pub fn get(&mut self, py: Python<'py>, stored: &str) -> PyResult<Bound<'py, PyString>> {
        if stored.is_empty() || stored.len() > LONGEST_CACHED {
            return string(py, stored);
        }
        let slot = &mut self.slots[slot_of(stored.as_bytes())];
        if let Some(known) = slot
            && known.to_str().is_ok_and(|known| known == stored)
        {
            return Ok(known.clone());
        }
        let made = string(py, stored)?;
        // An escaped text differs from its string, so it would never be found again.
        if made.len().is_ok_and(|length| length > 0) && !escape::is_escaped(stored) {
            *slot = Some(made.clone());
        }
        Ok(made)
    }
}

fn slot_of(bytes: &[u8]) -> usize {
    const SPREAD: u64 = 0x517c_c1b7_2722_0a95;
    let (words, rest) = bytes.as_chunks();
    let rest = scan::word(rest) ^ (bytes.len() as u64) << 56;
    let words = words.iter().map(|word| u64::from_le_bytes(*word)).chain([rest]);
    let hash = words.fold(0, |hash: u64, word| (hash.rotate_left(5) ^ word).wrapping_mul(SPREAD));
    (hash >> 32) as usize % SLOTS
}

/// The Python string that a stored text stands for.
pub fn string<'py>(py: Python<'py>, stored: &str) -> PyResult<Bound<'py, PyString>> {
    if let Some(made) = objects::ascii(py, stored)? {
        return Ok(made);
    }
    if !escape::is_escaped(stored) {
        return Ok(PyString::new(py, stored));
    }
    // UTF-8 with surrogates encoded like any other code point: what "surrogatepass" reads.
    let mut wide = Vec::with_capacity(stored.len());
    for piece in escape::unescape(stored) {
        match piece {
            Piece::Text(text) => wide.extend_from_slice(text.as_bytes()),
            Piece::CodePoint(0) => wide.push(0),
            Piece::CodePoint(code) => wide.extend([
                0xe0 | (code >> 12) as u8,
                0x80 | (code >> 6 & 0x3f) as u8,
                0x80 | (code & 0x3f) as u8,
            ]),
        }
    }
    PyString::from_encoded_object(&PyBytes::new(py, &wide), Some(c"utf-8"), Some(c"surrogatepass"))
}

/// The stored text for a Python string: the same, but for what PostgreSQL's text cannot hold.
pub fn stored<'s>(text: &'s Bound<'_, PyString>) -> PyResult<Cow<'s, str>> {
    if let Ok(plain) = text.to_str() {
        let bytes = plain.as_bytes();
        if scan::is_plain_ascii(bytes) || (memchr::memchr(0, bytes).is_none() && !escape::is_escaped(plain)) {
            return Ok(Cow::Borrowed(plain));
        }
        let mut out = Vec::with_capacity(plain.len() + 16);
        escape::push_text(&mut out, plain);
        return Ok(Cow::Owned(utf8(out)));
    }
    let encoded = text.call_method1("encode", ("utf-8", "surrogatepass"))?;
    let encoded = encoded.cast_into::<PyBytes>()?;
    let bytes = encoded.as_bytes();
    let mut out = Vec::with_capacity(bytes.len() + 16);
    let mut rest = bytes;
    while !rest.is_empty() {
        let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
        escape::push_text(&mut out, valid);
        rest = &rest[valid.len()..];
        // Whatever is not UTF-8 here is a surrogate, in three bytes.
        if let [first, second, third, ..] = rest {
            let code = u16::from(first & 0xf) << 12 | u16::from(second & 0x3f) << 6 | u16::from(third & 0x3f);
            escape::push_code_point(&mut out, code);
            rest = &rest[3..];
        }
    }
    Ok(Cow::Owned(utf8(out)))
}

/// Escapes are ASCII and whole characters were copied, so nothing is ever replaced here.
fn utf8(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}
