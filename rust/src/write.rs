//! Writing JSON text so that JSONB gives back what was meant: strings, floats, keys in JSONB's order.

use std::cmp::Ordering;

use crate::escape;
use crate::scan;

/// Writes a JSON string: quotes, JSON's own escapes, and [`crate::escape`]'s for U+0000 and U+FDD0.
pub fn string(out: &mut Vec<u8>, text: &str) {
    quoted::<true>(out, text);
}

/// Writes text that went through [`crate::escape`] before as a JSON string.
pub fn stored_string(out: &mut Vec<u8>, stored: &str) {
    quoted::<false>(out, stored);
}

fn quoted<const ESCAPE: bool>(out: &mut Vec<u8>, text: &str) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let bytes = text.as_bytes();
    out.reserve(bytes.len() + 2);
    out.push(b'"');
    let mut start = 0;
    loop {
        let end = if ESCAPE { scan::special_or_lead(bytes, start) } else { scan::special(bytes, start) };
        out.extend_from_slice(&bytes[start..end]);
        let Some(byte) = bytes.get(end) else { break };
        start = end + 1;
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', *byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0xef if bytes[end..].starts_with("\u{fdd0}".as_bytes()) => {
                escape::push_code_point(out, 0xfdd0);
                start = end + 3;
            }
            // Another character that begins with this byte.
            0xef => out.push(0xef),
            0 if ESCAPE => escape::push_code_point(out, 0),
            control => {
                let digits = [b'0' + (control >> 4), HEX[usize::from(control & 15)]];
                out.extend_from_slice(b"\\u00");
                out.extend_from_slice(&digits);
            }
        }
    }
    out.push(b'"');
}

/// Writes a float so that it is read back as the same float, of the same type.
///
/// JSONB stores numbers as `numeric` and prints `1e16` as an integer, so a whole number keeps a fraction:
/// `10000000000000000.0`. What `numeric` has no form for goes the way of [`crate::escape`].
pub fn float(out: &mut Vec<u8>, value: f64) {
    if value.is_nan() {
        return string_raw(out, escape::NAN);
    }
    if value.is_infinite() {
        return string_raw(out, if value > 0.0 { escape::INFINITY } else { escape::NEGATIVE_INFINITY });
    }
    if value == 0.0 && value.is_sign_negative() {
        return string_raw(out, escape::NEGATIVE_ZERO);
    }
    let mut buffer = ryu::Buffer::new();
    let shortest = buffer.format_finite(value);
    match shortest.split_once('e') {
        None => out.extend_from_slice(shortest.as_bytes()),
        Some((digits, exponent)) => positional(out, digits, exponent),
    }
}

/// `1.5e16` as `15000000000000000.0`, `1e-7` as `0.0000001`: digits moved, none added or lost.
fn positional(out: &mut Vec<u8>, mantissa: &str, exponent: &str) {
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let unsigned = mantissa.strip_prefix('-').unwrap_or(mantissa);
    if unsigned.len() < mantissa.len() {
        out.push(b'-');
    }
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    // ryu writes one digit before the point.
    let digits = whole.bytes().chain(fraction.bytes());
    if exponent < 0 {
        out.extend_from_slice(b"0.");
        out.extend(std::iter::repeat_n(b'0', exponent.unsigned_abs() as usize - 1));
        out.extend(digits);
    } else {
        let point = whole.len() + exponent.unsigned_abs() as usize;
        let count = whole.len() + fraction.len();
        let all = digits.chain(std::iter::repeat_n(b'0', point.saturating_sub(count)));
        for (index, digit) in all.enumerate() {
            if index == point {
                out.push(b'.');
            }
            out.push(digit);
        }
        if count <= point {
            out.extend_from_slice(b".0");
        }
    }
}

fn string_raw(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// The order in which JSONB keeps the keys of an object: shorter first, then by bytes
/// (`lengthCompareJsonbString` in PostgreSQL's `jsonb_util.c`).
pub fn jsonb_key_order(left: &str, right: &str) -> Ordering {
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}
