//! A pull reader over JSON text (RFC 8259) that borrows from the PostgreSQL buffer.
//!
//! The caller asks for what it expects and receives slices of the text. Only strings with backslash escapes
//! are copied. The reader counts the objects it has begun, which is how an order hint ([`crate::order`])
//! finds its object again.

use std::borrow::Cow;

use crate::error::{Error, ErrorKind, Result};
use crate::scan;

/// Containers may nest this deep. `pydantic`'s own serializer gives up at 255.
pub const MAX_DEPTH: usize = 512;

/// The kind of the next value, by its first byte.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `null`
    Null,
    /// `true`
    True,
    /// `false`
    False,
    /// An integer or a float.
    Number,
    /// A string.
    String,
    /// An array.
    Array,
    /// An object.
    Object,
}

/// A number as it is written. PostgreSQL's jsonb keeps every digit, so the caller decides how exact it must
/// be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Number<'j> {
    /// The digits, sign, fraction and exponent.
    pub text: &'j str,
    /// Whether there is a fraction or an exponent: Python reads such a number as `float`, others as `int`.
    pub is_float: bool,
}

/// A position in a JSON text. Cheap to copy: a copy is a bookmark.
#[derive(Debug, Clone, Copy)]
pub struct Reader<'j> {
    text: &'j str,
    at: usize,
    objects: u32,
}

impl<'j> Reader<'j> {
    /// Starts at the first byte of `text`.
    pub fn new(text: &'j str) -> Self {
        Self { text, at: 0, objects: 0 }
    }

    /// Starts at the first byte of `bytes`, which must be UTF-8.
    pub fn from_bytes(bytes: &'j [u8]) -> Result<Self> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Ok(Self::new(text)),
            Err(error) => Err(Error { kind: ErrorKind::InvalidUtf8, at: error.valid_up_to() }),
        }
    }

    /// The offset of the next unread byte.
    pub fn position(&self) -> usize {
        self.at
    }

    /// How many objects have been begun so far, in the order of their opening braces.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// An error of this kind at the current position.
    pub fn error(&self, kind: ErrorKind) -> Error {
        Error { kind, at: self.at }
    }

    fn bytes(&self) -> &'j [u8] {
        self.text.as_bytes()
    }

    fn unexpected(&self) -> Error {
        let kind = if self.at >= self.text.len() { ErrorKind::EndOfText } else { ErrorKind::UnexpectedByte };
        self.error(kind)
    }

    #[inline]
    fn skip_space(&mut self) {
        let bytes = self.bytes();
        while let Some(b' ' | b'\n' | b'\t' | b'\r') = bytes.get(self.at) {
            self.at += 1;
        }
    }

    /// Looks at the next value without reading it.
    #[inline]
    pub fn peek(&mut self) -> Result<Kind> {
        self.skip_space();
        match self.bytes().get(self.at) {
            Some(b'"') => Ok(Kind::String),
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b'n') => Ok(Kind::Null),
            Some(b't') => Ok(Kind::True),
            Some(b'f') => Ok(Kind::False),
            _ => Err(self.unexpected()),
        }
    }

    /// Reads `null`, `true` or `false`, as `kind` (from [`Self::peek`]) says.
    #[inline]
    pub fn literal(&mut self, kind: Kind) -> Result<()> {
        let word: &[u8] = match kind {
            Kind::Null => b"null",
            Kind::True => b"true",
            _ => b"false",
        };
        if self.bytes()[self.at..].starts_with(word) {
            self.at += word.len();
            Ok(())
        } else {
            Err(self.error(ErrorKind::UnexpectedByte))
        }
    }

    /// Reads a number, checking JSON's grammar.
    pub fn number(&mut self) -> Result<Number<'j>> {
        let bytes = self.bytes();
        let start = self.at;
        let mut end = start;
        let mut is_float = false;
        let digits = |mut at: usize| {
            while matches!(bytes.get(at), Some(b'0'..=b'9')) {
                at += 1;
            }
            at
        };
        if bytes.get(end) == Some(&b'-') {
            end += 1;
        }
        let whole = end;
        end = digits(end);
        let leading_zero = bytes.get(whole) == Some(&b'0') && end > whole + 1;
        let mut valid = end > whole && !leading_zero;
        if bytes.get(end) == Some(&b'.') {
            is_float = true;
            let fraction = end + 1;
            end = digits(fraction);
            valid &= end > fraction;
        }
        if let Some(b'e' | b'E') = bytes.get(end) {
            is_float = true;
            end += 1;
            if let Some(b'+' | b'-') = bytes.get(end) {
                end += 1;
            }
            let exponent = end;
            end = digits(exponent);
            valid &= end > exponent;
        }
        if !valid {
            return Err(self.error(ErrorKind::InvalidNumber));
        }
        self.at = end;
        Ok(Number { text: &self.text[start..end], is_float })
    }

    /// Reads a string; borrowed unless it holds a backslash.
    #[inline]
    pub fn string(&mut self) -> Result<Cow<'j, str>> {
        let start = self.at + 1;
        let bytes = self.bytes();
        let end = scan::special(bytes, start);
        match bytes.get(end) {
            Some(b'"') => {
                self.at = end + 1;
                Ok(Cow::Borrowed(&self.text[start..end]))
            }
            Some(b'\\') => self.escaped_string(start, end).map(Cow::Owned),
            Some(_) => Err(Error { kind: ErrorKind::ControlCharacter, at: end }),
            None => Err(Error { kind: ErrorKind::EndOfText, at: end }),
        }
    }

    fn escaped_string(&mut self, start: usize, first_backslash: usize) -> Result<String> {
        let bytes = self.bytes();
        let mut out = String::with_capacity(first_backslash - start + 64);
        out.push_str(&self.text[start..first_backslash]);
        let mut at = first_backslash;
        loop {
            match bytes.get(at) {
                Some(b'"') => {
                    self.at = at + 1;
                    return Ok(out);
                }
                Some(b'\\') => at = self.escape(at, &mut out)?,
                Some(0..0x20) => {
                    return Err(Error { kind: ErrorKind::ControlCharacter, at });
                }
                Some(_) => {
                    let end = scan::special(bytes, at);
                    out.push_str(&self.text[at..end]);
                    at = end;
                }
                None => {
                    return Err(Error { kind: ErrorKind::EndOfText, at });
                }
            }
        }
    }

    /// Reads the escape sequence whose backslash stands at `at`; gives the offset behind it.
    fn escape(&self, at: usize, out: &mut String) -> Result<usize> {
        let invalid = Error { kind: ErrorKind::InvalidEscape, at };
        let plain = match self.bytes().get(at + 1) {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let unit = self.code_unit(at + 2).ok_or(invalid)?;
                let (code, end) = if (0xd800..0xdc00).contains(&unit) {
                    let low = self.bytes().get(at + 6..at + 8).filter(|pair| *pair == b"\\u");
                    let low = low.and_then(|_| self.code_unit(at + 8)).ok_or(invalid)?;
                    if !(0xdc00..0xe000).contains(&low) {
                        return Err(invalid);
                    }
                    (0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00), at + 12)
                } else {
                    (unit, at + 6)
                };
                out.push(char::from_u32(code).ok_or(invalid)?);
                return Ok(end);
            }
            _ => return Err(invalid),
        };
        out.push(plain);
        Ok(at + 2)
    }

    fn code_unit(&self, at: usize) -> Option<u32> {
        let digits = self.bytes().get(at..at + 4)?;
        digits.iter().try_fold(0, |unit, digit| Some(unit * 16 + char::from(*digit).to_digit(16)?))
    }

    /// Steps over the opening bracket of an array; whether it has a first element.
    #[inline]
    pub fn begin_array(&mut self) -> Result<bool> {
        self.at += 1;
        self.skip_space();
        if self.bytes().get(self.at) == Some(&b']') {
            self.at += 1;
            return Ok(false);
        }
        Ok(true)
    }

    /// After an element: whether another one follows.
    #[inline]
    pub fn next_element(&mut self) -> Result<bool> {
        self.separator(b']')
    }

    /// Steps over the opening brace of an object and reads its first key, if it has one.
    #[inline]
    pub fn begin_object(&mut self) -> Result<Option<Cow<'j, str>>> {
        self.at += 1;
        self.objects += 1;
        self.skip_space();
        if self.bytes().get(self.at) == Some(&b'}') {
            self.at += 1;
            return Ok(None);
        }
        self.key().map(Some)
    }

    /// After a member's value: the next key, if there is one.
    #[inline]
    pub fn next_key(&mut self) -> Result<Option<Cow<'j, str>>> {
        if self.separator(b'}')? {
            self.skip_space();
            return self.key().map(Some);
        }
        Ok(None)
    }

    #[inline]
    fn separator(&mut self, close: u8) -> Result<bool> {
        self.skip_space();
        match self.bytes().get(self.at) {
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            Some(byte) if *byte == close => {
                self.at += 1;
                Ok(false)
            }
            _ => Err(self.unexpected()),
        }
    }

    #[inline]
    fn key(&mut self) -> Result<Cow<'j, str>> {
        if self.bytes().get(self.at) != Some(&b'"') {
            return Err(self.unexpected());
        }
        let key = self.string()?;
        self.skip_space();
        if self.bytes().get(self.at) != Some(&b':') {
            return Err(self.unexpected());
        }
        self.at += 1;
        Ok(key)
    }

    /// Steps over the next value, checking it as strictly as reading it would; gives its text.
    pub fn skip(&mut self) -> Result<&'j str> {
        self.skip_space();
        let start = self.at;
        self.skip_value(MAX_DEPTH)?;
        Ok(&self.text[start..self.at])
    }

    fn skip_value(&mut self, depth: usize) -> Result<()> {
        let kind = self.peek()?;
        if depth == 0 && matches!(kind, Kind::Array | Kind::Object) {
            return Err(self.error(ErrorKind::TooDeep));
        }
        match kind {
            Kind::Null | Kind::True | Kind::False => self.literal(kind)?,
            Kind::Number => drop(self.number()?),
            Kind::String => drop(self.string()?),
            Kind::Array => {
                let mut more = self.begin_array()?;
                while more {
                    self.skip_value(depth - 1)?;
                    more = self.next_element()?;
                }
            }
            Kind::Object => {
                let mut key = self.begin_object()?;
                while key.is_some() {
                    self.skip_value(depth - 1)?;
                    key = self.next_key()?;
                }
            }
        }
        Ok(())
    }

    /// Reads the next value, which must be a string.
    pub fn string_value(&mut self) -> Result<Cow<'j, str>> {
        if self.peek()? == Kind::String { self.string() } else { Err(self.unexpected()) }
    }

    /// Checks that nothing but white space is left.
    pub fn finish(mut self) -> Result<()> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(self.error(ErrorKind::TrailingText)) }
    }
}
