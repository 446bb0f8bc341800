//! Escapes for values that JSONB cannot hold: U+0000, lone surrogates, NaN, infinities, minus zero.
//!
//! U+FDD0 is a noncharacter: Unicode reserves it for use inside one program, PostgreSQL stores it, and no
//! model or user has a reason to send it. Here it leads an escape, and is escaped itself:
//!
//! | value | stored |
//! |---|---|
//! | U+0000 in a string or key | U+FDD0 `0000` |
//! | the lone surrogate U+D83D | U+FDD0 `d83d` |
//! | U+FDD0 | U+FDD0 `fdd0` |
//! | the float NaN, inf, -inf, -0.0 | a string of U+FDD0 and `NaN`, `Infinity`, `-Infinity`, `-0.0` |
//!
//! Strings without these are stored unchanged. A U+FDD0 that another program wrote, and that none of the
//! forms above follows, is read as itself.

/// Leads every escape; three bytes in UTF-8.
pub const LEAD: char = '\u{fdd0}';
const LEAD_UTF8: &str = "\u{fdd0}";

/// The value that a whole-string escape stands for.
pub const NAN: &str = "\u{fdd0}NaN";
/// Positive infinity.
pub const INFINITY: &str = "\u{fdd0}Infinity";
/// Negative infinity.
pub const NEGATIVE_INFINITY: &str = "\u{fdd0}-Infinity";
/// Minus zero: `numeric`, which JSONB numbers are, has no signed zero.
pub const NEGATIVE_ZERO: &str = "\u{fdd0}-0.0";

/// The float that a stored string stands for, if it stands for one.
#[inline]
pub fn float(text: &str) -> Option<f64> {
    if !text.starts_with(LEAD) {
        return None;
    }
    match text {
        NAN => Some(f64::NAN),
        INFINITY => Some(f64::INFINITY),
        NEGATIVE_INFINITY => Some(f64::NEG_INFINITY),
        NEGATIVE_ZERO => Some(-0.0),
        _ => None,
    }
}

/// Whether a stored string may hold an escape, which few do.
#[inline]
pub fn is_escaped(text: &str) -> bool {
    memchr::memmem::find(text.as_bytes(), LEAD_UTF8.as_bytes()).is_some()
}

/// One piece of an unescaped string.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'t> {
    /// Text that stands for itself.
    Text(&'t str),
    /// One code point: U+0000, U+FDD0, or a lone surrogate, which no `str` can hold.
    CodePoint(u16),
}

/// Splits a stored string into what it stands for.
pub fn unescape(text: &str) -> impl Iterator<Item = Piece<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        if let Some(code) = leading_escape(rest) {
            rest = &rest[LEAD_UTF8.len() + 4..];
            return Some(Piece::CodePoint(code));
        }
        // A lead that no known form follows stands for itself: search on after it.
        let from = if rest.starts_with(LEAD) { LEAD_UTF8.len() } else { 0 };
        let end = rest[from..].find(LEAD).map_or(rest.len(), |found| from + found);
        let (text, behind) = rest.split_at(end);
        rest = behind;
        Some(Piece::Text(text))
    })
}

fn leading_escape(text: &str) -> Option<u16> {
    let digits = text.strip_prefix(LEAD)?.as_bytes().get(..4)?;
    let mut code = 0u32;
    for digit in digits {
        // Lower case only, because the encoder writes nothing else.
        let value = if digit.is_ascii_uppercase() { None } else { char::from(*digit).to_digit(16) };
        code = code * 16 + value?;
    }
    let code = u16::try_from(code).ok()?;
    matches!(code, 0 | 0xfdd0 | 0xd800..=0xdfff).then_some(code)
}

/// Appends the escape of a code point that JSONB cannot hold as it is.
pub fn push_code_point(out: &mut Vec<u8>, code: u16) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.extend_from_slice(LEAD_UTF8.as_bytes());
    out.extend([12, 8, 4, 0].map(|shift| HEX[usize::from(code >> shift & 15)]));
}

/// Appends `text`, escaping U+0000 and U+FDD0.
pub fn push_text(out: &mut Vec<u8>, text: &str) {
    for (index, run) in text.split(['\0', LEAD]).enumerate() {
        if index > 0 {
            let offset = run.as_ptr() as usize - text.as_ptr() as usize;
            let nul = text.as_bytes()[offset - 1] == 0;
            push_code_point(out, if nul { 0 } else { 0xfdd0 });
        }
        out.extend_from_slice(run.as_bytes());
    }
}
