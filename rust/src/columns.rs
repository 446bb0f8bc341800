//! PostgreSQL's binary format: one-dimensional arrays and jsonb values, read in place.
//!
//! A session's events arrive column by column, one `array_agg` for each, so that a thousand events are a few
//! large values instead of sixteen thousand small ones. The layout is that of `array_send` in PostgreSQL's
//! `arrayfuncs.c`: dimensions, a has-nulls flag, the element type, then for each dimension its length and
//! lower bound, then for each element its length (-1 for NULL) and bytes.

use crate::error::{Error, ErrorKind, Result};

/// Microseconds between PostgreSQL's epoch (2000-01-01) and Unix's.
const EPOCH_MICROS: i64 = 946_684_800_000_000;

/// A one-dimensional array, or an empty one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Array<'b> {
    bytes: &'b [u8],
    at: usize,
    left: usize,
}

impl<'b> Array<'b> {
    /// Reads the header and leaves the elements where they are.
    pub fn parse(bytes: &'b [u8]) -> Result<Self> {
        let dimensions = int32(bytes, 0)?;
        if dimensions == 0 {
            return Ok(Self { bytes, at: bytes.len(), left: 0 });
        }
        let left = int32(bytes, 12)?;
        // An element takes at least four bytes, so a number of elements that the bytes cannot hold is wrong.
        let fits = usize::try_from(left).is_ok_and(|left| left <= bytes.len().saturating_sub(20) / 4);
        if dimensions != 1 || !fits {
            return Err(Error { kind: ErrorKind::InvalidArray, at: 0 });
        }
        Ok(Self { bytes, at: 20, left: left.unsigned_abs() as usize })
    }

    /// How many elements have not been read yet.
    pub fn len(&self) -> usize {
        self.left
    }

    /// Whether all elements have been read.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }

    /// The next element; `None` for NULL. It is an error past the end, because the columns of a result have
    /// the same length.
    #[inline]
    pub fn element(&mut self) -> Result<Option<&'b [u8]>> {
        let Some(left) = self.left.checked_sub(1) else {
            return Err(Error { kind: ErrorKind::InvalidArray, at: self.at });
        };
        self.left = left;
        let length = int32(self.bytes, self.at)?;
        self.at += 4;
        if length == -1 {
            return Ok(None);
        }
        let end = usize::try_from(length).ok().and_then(|length| self.at.checked_add(length));
        let element = end.and_then(|end| self.bytes.get(self.at..end));
        let element = element.ok_or(Error { kind: ErrorKind::InvalidArray, at: self.at - 4 })?;
        self.at += element.len();
        Ok(Some(element))
    }
}

/// Writes a one-dimensional array of `element_type` (an OID of `pg_type`), lower bound 1.
pub fn write_array<'v>(
    element_type: u32,
    values: impl ExactSizeIterator<Item = Option<&'v [u8]>> + Clone,
) -> Option<Vec<u8>> {
    let count = i32::try_from(values.len()).ok()?;
    let size: usize = values.clone().map(|value| 4 + value.map_or(0, <[u8]>::len)).sum();
    let mut out = Vec::with_capacity(20 + size);
    let has_nulls = values.clone().any(|value| value.is_none());
    out.extend_from_slice(&1i32.to_be_bytes());
    out.extend_from_slice(&i32::from(has_nulls).to_be_bytes());
    out.extend_from_slice(&element_type.to_be_bytes());
    out.extend_from_slice(&count.to_be_bytes());
    out.extend_from_slice(&1i32.to_be_bytes());
    for value in values {
        let length = value.map_or(Some(-1), |value| i32::try_from(value.len()).ok())?;
        out.extend_from_slice(&length.to_be_bytes());
        out.extend_from_slice(value.unwrap_or_default());
    }
    Some(out)
}

fn int32(bytes: &[u8], at: usize) -> Result<i32> {
    let word = bytes.get(at..at + 4).and_then(|word| word.try_into().ok());
    word.map(i32::from_be_bytes).ok_or(Error { kind: ErrorKind::InvalidArray, at })
}

/// The JSON text of a jsonb value: a version byte (1), then text (`jsonb_send`).
pub fn jsonb(bytes: &[u8]) -> Result<&[u8]> {
    match bytes.split_first() {
        Some((1, text)) => Ok(text),
        _ => Err(Error { kind: ErrorKind::InvalidJsonb, at: 0 }),
    }
}

/// The JSON text of a value that is either jsonb or the text itself, which has no version byte.
pub fn json(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(&[1]).unwrap_or(bytes)
}

/// A bigint.
pub fn int64(bytes: &[u8]) -> Result<i64> {
    let word = bytes.try_into().ok().map(i64::from_be_bytes);
    word.ok_or(Error { kind: ErrorKind::InvalidArray, at: 0 })
}

/// A timestamptz as microseconds since the Unix epoch.
pub fn unix_micros(bytes: &[u8]) -> Result<i64> {
    let micros = int64(bytes)?.checked_add(EPOCH_MICROS);
    micros.ok_or(Error { kind: ErrorKind::InvalidArray, at: 0 })
}

/// Microseconds since the Unix epoch as a timestamptz.
pub fn timestamptz(unix_micros: i64) -> [u8; 8] {
    (unix_micros - EPOCH_MICROS).to_be_bytes()
}

/// Seconds since the Unix epoch as the nearest microsecond; `None` outside what timestamptz and
/// an `i64` hold (4713 BC to 294246 AD).
pub fn micros_from_seconds(seconds: f64) -> Option<i64> {
    const LOWEST: f64 = -210_866_803_200_000_000.0;
    const HIGHEST: f64 = 9_223_372_000_000_000_000.0;
    let micros = (seconds * 1e6).round_ties_even();
    #[expect(clippy::cast_possible_truncation, reason = "the range was checked")]
    (LOWEST..HIGHEST).contains(&micros).then_some(micros as i64)
}

/// Microseconds since the Unix epoch as seconds, the way Python's `timestamp()` divides.
#[expect(clippy::cast_precision_loss, reason = "2^53 microseconds reach to the year 2255")]
pub fn seconds_from_micros(micros: i64) -> f64 {
    micros as f64 / 1e6
}
