//! Order hints: what brings a dict's keys back into the order in which they were appended.
//!
//! JSONB sorts the keys of an object. For a dict whose own order differs, the encoder keeps a hint beside
//! the column: the number of the object in the document (counted by opening braces) and a permutation.
//! A fingerprint of all the keys goes with it, so that a document which somebody edited since is read in
//! the order JSONB has it, and nothing else depends on a hint: without one the values are the same.
//!
//! A hint is text: `1f2e3d4c 2:1,0 7:2,0,1`. The object with index 2 was appended with its second stored
//! key first.

use crate::error::Result;
use crate::json::{Kind, Reader};

/// Collects the hint of one document while it is written.
#[derive(Debug, Default)]
pub struct Recorder {
    objects: u32,
    entries: String,
}

impl Recorder {
    /// Counts an object whose opening brace is being written; gives its index.
    #[inline]
    pub fn begin_object(&mut self) -> u32 {
        self.objects += 1;
        self.objects - 1
    }

    /// Notes that the keys of object `index` came in this order: `order[i]` is the place, among the keys
    /// as stored, of the i-th key as appended.
    pub fn record(&mut self, index: u32, order: impl IntoIterator<Item = usize>) {
        let mut number = itoa::Buffer::new();
        self.entries.push(' ');
        self.entries.push_str(number.format(index));
        for (position, place) in order.into_iter().enumerate() {
            self.entries.push(if position == 0 { ':' } else { ',' });
            self.entries.push_str(number.format(place));
        }
    }

    /// The hint for the document just written, if any of its objects needs one.
    pub fn finish(self, document: &[u8]) -> Result<Option<String>> {
        if self.entries.is_empty() {
            return Ok(None);
        }
        let mut hint = format!("{:08x}", fingerprint(Reader::from_bytes(document)?)?);
        hint.push_str(&self.entries);
        Ok(Some(hint))
    }
}

/// A hint read back, checked against the document it belongs to.
#[derive(Debug, Default)]
pub struct Hint {
    /// Sorted by object, as written.
    entries: Vec<(u32, Vec<usize>)>,
}

impl Hint {
    /// Reads a hint; one that is malformed, or whose document has other keys now, says nothing.
    pub fn parse(hint: &str, document: &str) -> Self {
        Self::try_parse(hint, document).unwrap_or_default()
    }

    fn try_parse(hint: &str, document: &str) -> Option<Self> {
        let (fingerprint_then, list) = hint.split_once(' ')?;
        if u32::from_str_radix(fingerprint_then, 16).ok()? != fingerprint(Reader::new(document)).ok()? {
            return None;
        }
        let mut entries = Vec::new();
        for entry in list.split(' ') {
            let (object, order) = entry.split_once(':')?;
            let order: Vec<usize> =
                order.split(',').map(|place| place.parse().ok()).collect::<Option<_>>()?;
            if !is_permutation(&order) {
                return None;
            }
            entries.push((object.parse().ok()?, order));
        }
        entries.is_sorted_by_key(|(object, _)| *object).then_some(Self { entries })
    }

    /// The order of the keys of object `index`, if it has `keys` keys and differs from the stored one.
    pub fn order(&self, index: u32, keys: usize) -> Option<&[usize]> {
        let found = self.entries.binary_search_by_key(&index, |(object, _)| *object).ok()?;
        let order = self.entries[found].1.as_slice();
        (order.len() == keys).then_some(order)
    }

    /// Whether there is nothing to restore.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn is_permutation(order: &[usize]) -> bool {
    let mut seen = vec![false; order.len()];
    order.iter().all(|place| seen.get_mut(*place).is_some_and(|seen| !std::mem::replace(seen, true)))
}

/// A 32-bit FNV-1a over the structure of a document: its keys and braces, not its values. Editing a value
/// leaves the order of keys alone; adding, removing or renaming a key anywhere voids the hint.
fn fingerprint(mut reader: Reader<'_>) -> Result<u32> {
    let mut hash = 0x811c_9dc5;
    fingerprint_value(&mut reader, &mut hash, 0)?;
    Ok(hash)
}

fn mix(hash: &mut u32, bytes: &[u8]) {
    for byte in bytes {
        *hash = (*hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    }
}

fn fingerprint_value(reader: &mut Reader<'_>, hash: &mut u32, depth: usize) -> Result<()> {
    match reader.peek()? {
        Kind::Object if depth < crate::json::MAX_DEPTH => {
            let mut key = reader.begin_object()?;
            while let Some(name) = key {
                mix(hash, name.as_bytes());
                mix(hash, b":");
                fingerprint_value(reader, hash, depth + 1)?;
                key = reader.next_key()?;
            }
            mix(hash, b"}");
        }
        Kind::Array if depth < crate::json::MAX_DEPTH => {
            let mut more = reader.begin_array()?;
            while more {
                fingerprint_value(reader, hash, depth + 1)?;
                more = reader.next_element()?;
            }
        }
        _ => drop(reader.skip()?),
    }
    Ok(())
}
