//! What can be wrong with stored bytes: a kind and an index, which become words only when shown.

use std::fmt;

/// Why a value that PostgreSQL returned could not be read, and at which byte of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Error {
    /// What was found.
    pub kind: ErrorKind,
    /// Byte offset from the start of the value (a column's text or an array's bytes).
    pub at: usize,
}

/// The ways in which a stored value can be malformed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The text ends inside a value.
    EndOfText,
    /// A byte that cannot belong to a JSON value, key or separator here.
    UnexpectedByte,
    /// More text after a complete value.
    TrailingText,
    /// A number outside JSON's grammar (RFC 8259, section 6).
    InvalidNumber,
    /// A backslash escape outside JSON's grammar, or half of a surrogate pair.
    InvalidEscape,
    /// A byte below 0x20 inside a string.
    ControlCharacter,
    /// Containers nested deeper than [`crate::json::MAX_DEPTH`].
    TooDeep,
    /// The bytes are not UTF-8.
    InvalidUtf8,
    /// The header or an element length of a binary array contradicts its size.
    InvalidArray,
    /// A jsonb value whose version byte is not 1.
    InvalidJsonb,
    /// A value of another kind than the stored one, for example an array instead of an object.
    OtherKind,
    /// NULL where a value must be.
    Missing,
}

impl ErrorKind {
    fn words(self) -> &'static str {
        match self {
            Self::EndOfText => "the text ends inside a value",
            Self::UnexpectedByte => "no JSON value can go on with this byte",
            Self::TrailingText => "there is more text behind the value",
            Self::InvalidNumber => "not a JSON number",
            Self::InvalidEscape => "not a JSON escape sequence",
            Self::ControlCharacter => "a control character inside a string",
            Self::TooDeep => "nested too deep",
            Self::InvalidUtf8 => "not UTF-8",
            Self::InvalidArray => "not an array in PostgreSQL's binary format",
            Self::InvalidJsonb => "not a jsonb value in PostgreSQL's binary format",
            Self::OtherKind => "not the kind of value that is kept here",
            Self::Missing => "there is no value",
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (at byte {})", self.kind.words(), self.at)
    }
}

impl std::error::Error for Error {}

/// A result of this crate's readers.
pub type Result<T> = std::result::Result<T, Error>;
