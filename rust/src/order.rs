//! Order hints: they restore the order in which a dict's keys were appended.
//!
//! JSONB sorts the keys of an object. For dicts whose own order differs, the encoder keeps a hint beside the
//! column: a fingerprint of an object's keys, and the permutation for all objects that have these keys.
//! Objects like the rows of a table have the same keys in the same order, so one entry is enough for all of
//! them. The hint begins with a fingerprint of all keys of the document. If somebody has edited the document
//! since, it does not match, and the document is read in JSONB's order. Only the order depends on a hint; the
//! values are the same without it.
//!
//! A hint is text: `c0ffee00 1f2e3d4c:1,0 9a8b7c6d:2,0,1`. In a document with the fingerprint c0ffee00,
//! objects whose keys have the fingerprint 1f2e3d4c were appended with their second stored key first. Where
//! the order of the same keys changes inside a document, a further entry says from which object on, objects
//! being counted by their opening braces: `1f2e3d4c:1,0 1f2e3d4c@57:0,1`.
//!
//! Neither side has to read a document twice: both fingerprints are computed from the keys as they are read
//! or written. Only if a reader finds at the end that the document is another one does it read it again,
//! without the hint.

use std::collections::BTreeMap;

use crate::scan;

/// A fingerprint of an object's keys in the order in which they are stored.
///
/// It is stored in hints, so it is the same on every machine: eight bytes at a time, each time rotated and
/// multiplied (the hash of Firefox and rustc), of which the upper half is kept.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Keys {
    hash: u64,
    count: usize,
}

impl Keys {
    /// Takes the next key, as it is stored: its [`crate::escape`]s are not undone.
    #[inline]
    pub fn add(&mut self, key: &str) {
        let (words, rest) = key.as_bytes().as_chunks();
        for word in words {
            self.mix(u64::from_le_bytes(*word));
        }
        self.mix(scan::word(rest));
        // So that no key looks like another key with something appended.
        self.mix(key.len() as u64);
        self.count += 1;
    }

    #[inline]
    fn mix(&mut self, word: u64) {
        self.hash = mixed(self.hash, word);
    }

    /// The fingerprint, and how many keys there are.
    fn shape(self) -> (u32, usize) {
        ((self.hash >> 32) as u32, self.count)
    }
}

#[inline]
fn mixed(hash: u64, word: u64) -> u64 {
    (hash.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95)
}

/// A fingerprint of the keys of all objects of a document; not of its values. It is the sum over the objects,
/// which may be added in any order.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Document {
    sum: u64,
}

impl Document {
    /// Adds the object with this index, which counts the opening braces.
    #[inline]
    pub fn add(&mut self, index: u32, keys: Keys) {
        self.sum = self.sum.wrapping_add(mixed(keys.hash, u64::from(index) + 1));
    }

    fn print(self) -> u32 {
        (self.sum >> 32) as u32
    }
}

/// From the object `first` on, the order of all that have the same keys.
#[derive(Debug)]
struct Run {
    shape: (u32, usize),
    first: u32,
    /// Where the order begins in [`Recorder::orders`]; `None` for the stored order.
    order: Option<usize>,
}

/// Collects the hint of one document while it is written.
#[derive(Debug, Default)]
pub struct Recorder {
    objects: u32,
    document: Document,
    runs: Vec<Run>,
    orders: Vec<usize>,
    /// The latest run of each shape, once there are more than [`FEW`].
    latest: BTreeMap<(u32, usize), usize>,
}

/// Up to this many runs are searched one by one.
const FEW: usize = 16;

impl Recorder {
    /// Forgets the document, for another one.
    pub fn clear(&mut self) {
        self.objects = 0;
        self.document = Document::default();
        self.runs.clear();
        self.orders.clear();
        self.latest.clear();
    }

    /// Counts an object whose opening brace is being written; gives its index.
    #[inline]
    pub fn begin_object(&mut self) -> u32 {
        self.objects += 1;
        self.objects - 1
    }

    /// Notes an object whose order need not be kept, because it is a model. Each object of a document must be
    /// noted either here or in [`Self::record`].
    pub fn pass(&mut self, index: u32, keys: Keys) {
        self.document.add(index, keys);
    }

    /// Notes in which order the keys of object `index` came: `order[i]` is the place, among the keys as
    /// stored, of the i-th key as appended; `None` where they came as they are stored. To be called for each
    /// object whose order is the data's, in the order of their indexes. Gives whether one before had these keys,
    /// where there is more than one.
    pub fn record(&mut self, index: u32, keys: Keys, order: Option<&[usize]>) -> bool {
        self.document.add(index, keys);
        if keys.count < 2 {
            return false;
        }
        let shape = keys.shape();
        let known = if self.runs.len() <= FEW {
            self.runs.iter().rposition(|run| run.shape == shape)
        } else {
            self.latest.get(&shape).copied()
        };
        let first = match known.map(|known| &self.runs[known]) {
            Some(run) if run.order.map(|start| &self.orders[start..start + keys.count]) == order => {
                return true;
            }
            Some(_) => index,
            None => 0,
        };
        let order = order.map(|order| {
            self.orders.extend_from_slice(order);
            self.orders.len() - order.len()
        });
        self.runs.push(Run { shape, first, order });
        // All that came before, when there are no longer few of them.
        let unlisted = if self.runs.len() == FEW + 1 { 0 } else { self.runs.len() - 1 };
        if self.runs.len() > FEW {
            let runs = self.runs.iter().enumerate().skip(unlisted);
            self.latest.extend(runs.map(|(place, run)| (run.shape, place)));
        }
        known.is_some()
    }

    /// Whether any object of the document needs a hint.
    pub fn is_needed(&self) -> bool {
        !self.orders.is_empty()
    }

    /// The hint for the document just written, if any of its objects needs one.
    pub fn hint(&self) -> Option<String> {
        if !self.is_needed() {
            return None;
        }
        let (mut hint, mut number) = (String::with_capacity(64), itoa::Buffer::new());
        push_hex(&mut hint, self.document.print());
        for Run { shape: (print, count), first, order } in &self.runs {
            if *first == 0 && order.is_none() {
                continue;
            }
            hint.push(' ');
            push_hex(&mut hint, *print);
            if *first > 0 {
                hint.push('@');
                hint.push_str(number.format(*first));
            }
            for position in 0..*count {
                let place = order.map_or(position, |start| self.orders[start + position]);
                hint.push(if position == 0 { ':' } else { ',' });
                hint.push_str(number.format(place));
            }
        }
        Some(hint)
    }
}

/// An entry of a hint: fingerprint and number of the keys, the first object, and the order.
type Entry = (u32, usize, u32, Box<[usize]>);

/// A hint read back.
#[derive(Debug, Default)]
pub struct Hint {
    /// Of the document.
    print: u32,
    /// Sorted.
    entries: Vec<Entry>,
}

impl Hint {
    /// Reads a hint. A malformed one counts as none. [`Self::is_for`] tells whether it matches the document.
    pub fn parse(hint: &str) -> Self {
        Self::try_parse(hint).unwrap_or_default()
    }

    fn try_parse(hint: &str) -> Option<Self> {
        let (document, list) = hint.split_once(' ')?;
        let mut entries: Vec<Entry> = Vec::new();
        for entry in list.split(' ') {
            let (keys, order) = entry.split_once(':')?;
            let (print, first) = match keys.split_once('@') {
                Some((print, first)) => (print, first.parse().ok()?),
                None => (keys, 0),
            };
            let order: Box<[usize]> =
                order.split(',').map(|place| place.parse().ok()).collect::<Option<_>>()?;
            if !is_permutation(&order) {
                return None;
            }
            entries.push((fingerprint(print)?, order.len(), first, order));
        }
        entries.sort_unstable();
        let twice = |pair: &[Entry]| place_of(&pair[0]) == place_of(&pair[1]);
        (!entries.windows(2).any(twice)).then_some(Self { print: fingerprint(document)?, entries })
    }

    /// The order of the keys of object `index`, as [`Recorder::record`] has it, if it is known to be another
    /// than the stored one; a permutation of as many places as there are keys.
    #[inline]
    pub fn order(&self, index: u32, keys: Keys) -> Option<&[usize]> {
        let (print, count) = keys.shape();
        let behind = self.entries.partition_point(|entry| place_of(entry) <= (print, count, index));
        let (found, keys, _, order) = self.entries[..behind].last()?;
        ((*found, *keys) == (print, count)).then_some(order)
    }

    /// Whether it was made for a document with these keys. If not, it must not be used.
    pub fn is_for(&self, document: Document) -> bool {
        self.print == document.print()
    }

    /// Whether there is nothing to restore.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

fn place_of(entry: &Entry) -> (u32, usize, u32) {
    (entry.0, entry.1, entry.2)
}

fn push_hex(out: &mut String, print: u32) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend((0..8).rev().map(|digit| char::from(HEX[(print >> (4 * digit)) as usize & 15])));
}

fn fingerprint(digits: &str) -> Option<u32> {
    (digits.len() == 8).then(|| u32::from_str_radix(digits, 16).ok())?
}

fn is_permutation(order: &[usize]) -> bool {
    let mut seen = vec![false; order.len()];
    order.iter().all(|place| seen.get_mut(*place).is_some_and(|seen| !std::mem::replace(seen, true)))
}
