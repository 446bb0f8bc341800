//! One row of `adk_events` as it is stored, and what `extra` says about how it is to be read.
//!
//! The columns take precedence, because people edit them. `extra` adds what a column could not hold: the
//! whole of a cut text, the last bits of a timestamp, the order of keys. Each of these counts only as long as
//! the column is as it was when the event was appended.

use std::borrow::Cow;
use std::fmt;

use crate::columns::{self, Array};
use crate::error::{Error, ErrorKind, Result};
use crate::json::{Kind, Reader};
use crate::order::Hint;
use crate::row::{self, COLUMNS, EXACT_TIMESTAMP, EXTRA, ORDER, OWN_ARRAYS, Type, WHOLE_TEXTS};

/// What is wrong with a stored event, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventError {
    /// The event's id; empty where it was not found out.
    pub event: String,
    /// The column, or the field of JSON from elsewhere; `rare` for the array that several columns share.
    pub column: String,
    /// What was found there.
    pub error: Error,
}

impl fmt::Display for EventError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "event {:?}, column {}: {}", self.event, self.column, self.error)
    }
}

impl std::error::Error for EventError {}

/// The name under which the columns without arrays of their own travel.
const RARE: &str = "rare";

/// A value in one of the two forms in which PostgreSQL hands it over.
#[derive(Debug, Clone, Copy)]
enum Form<'b> {
    /// The column's own type, in binary.
    Binary(&'b [u8]),
    /// As a member of a jsonb object.
    Json(&'b str),
}

/// A row whose values are still in the buffer that they came in.
#[derive(Debug, Clone)]
pub struct StoredRow<'b> {
    values: [Option<Form<'b>>; COLUMNS.len()],
    /// Fields without a column of their own, as JSON texts.
    extra: Vec<(Cow<'b, str>, &'b str)>,
    timestamp: Option<f64>,
    whole: Vec<(String, String)>,
    hints: Vec<(String, String)>,
}

impl<'b> StoredRow<'b> {
    /// A row that was selected with [`COLUMNS`] in their order: the values in binary, `None` for NULL.
    pub fn from_row(values: &[Option<&'b [u8]>; COLUMNS.len()]) -> std::result::Result<Self, EventError> {
        Self::read(&values.map(|value| value.map(Form::Binary)), None)
    }

    /// One element of each array of a column-wise read: the first [`OWN_ARRAYS`] of [`COLUMNS`], then a
    /// JSON object, as text or jsonb, with those of the others that are not NULL.
    pub fn from_elements(
        elements: &[Option<&'b [u8]>; OWN_ARRAYS + 1],
    ) -> std::result::Result<Self, EventError> {
        let mut values = [None; COLUMNS.len()];
        for (value, element) in values.iter_mut().zip(&elements[..OWN_ARRAYS]) {
            *value = element.map(Form::Binary);
        }
        Self::read(&values, elements[OWN_ARRAYS])
    }

    fn read(
        values: &[Option<Form<'b>>; COLUMNS.len()],
        rare: Option<&'b [u8]>,
    ) -> std::result::Result<Self, EventError> {
        let (extra, whole, hints) = (Vec::new(), Vec::new(), Vec::new());
        let mut row = Self { values: *values, extra, timestamp: None, whole, hints };
        if let Some(rare) = rare {
            row.read_rare(rare).map_err(|error| row.error(RARE, error))?;
        }
        if let Some(Form::Binary(extra)) = row.values[EXTRA].take() {
            row.read_extra(extra).map_err(|error| row.error(COLUMNS[EXTRA].name, error))?;
        }
        Ok(row)
    }

    fn read_rare(&mut self, rare: &'b [u8]) -> Result<()> {
        for (name, text) in members(utf8(columns::json(rare))?)? {
            if text != "null"
                && let Some(index) = row::index_of(&name).filter(|index| *index >= OWN_ARRAYS)
            {
                self.values[index] = Some(Form::Json(text));
            }
        }
        Ok(())
    }

    fn read_extra(&mut self, extra: &'b [u8]) -> Result<()> {
        for (name, text) in members(utf8(columns::jsonb(extra)?)?)? {
            match name.as_ref() {
                EXACT_TIMESTAMP => self.timestamp = row::exact_timestamp(text),
                WHOLE_TEXTS => self.whole = texts(text)?,
                ORDER => self.hints = texts(text)?,
                name if name.starts_with('$') => {}
                _ => self.extra.push((name, text)),
            }
        }
        Ok(())
    }

    /// An error in a column of this row.
    pub fn error(&self, column: &str, error: Error) -> EventError {
        let event = match self.values[0] {
            Some(Form::Binary(id)) => String::from_utf8_lossy(id).into_owned(),
            _ => String::new(),
        };
        EventError { event, column: column.to_owned(), error }
    }

    /// Whether a column is NULL.
    pub fn is_null(&self, index: usize) -> bool {
        self.values[index].is_none()
    }

    /// A VARCHAR column's text, [`crate::escape`]s still in it: the whole, where the column has a cut copy of it.
    pub fn text(&self, index: usize) -> Result<Option<Cow<'_, str>>> {
        let text = match self.values[index] {
            None => return Ok(None),
            Some(Form::Binary(bytes)) => Cow::Borrowed(utf8(bytes)?),
            Some(Form::Json(json)) => string(json)?,
        };
        let column = COLUMNS[index];
        let whole = self.whole.iter().find(|(name, _)| name == column.name).map(|(_, whole)| whole.as_str());
        let unedited = whole.filter(|whole| row::cut(whole, column.limit.unwrap_or(usize::MAX)).0 == text);
        Ok(Some(unedited.map_or(text, Cow::Borrowed)))
    }

    /// A BOOLEAN column's value.
    pub fn boolean(&self, index: usize) -> Result<Option<bool>> {
        match self.values[index] {
            None => Ok(None),
            Some(Form::Binary([0]) | Form::Json("false")) => Ok(Some(false)),
            Some(Form::Binary([1]) | Form::Json("true")) => Ok(Some(true)),
            Some(_) => Err(Error { kind: ErrorKind::OtherKind, at: 0 }),
        }
    }

    /// A TIMESTAMPTZ column as seconds since the Unix epoch, to the last bit of what was appended.
    pub fn seconds(&self, index: usize) -> Result<Option<f64>> {
        let micros = match self.values[index] {
            None => return Ok(None),
            Some(Form::Binary(bytes)) => columns::unix_micros(bytes)?,
            Some(Form::Json(_)) => return Err(Error { kind: ErrorKind::OtherKind, at: 0 }),
        };
        let unedited = self.timestamp.filter(|exact| columns::micros_from_seconds(*exact) == Some(micros));
        Ok(Some(unedited.unwrap_or_else(|| columns::seconds_from_micros(micros))))
    }

    /// The JSON text of a JSONB, BYTEA or TEXT column, and the order hint for it.
    pub fn json(&self, index: usize) -> Result<Option<(Cow<'_, str>, Hint)>> {
        let column = COLUMNS[index];
        let text = match (self.values[index], column.kind) {
            (None, _) => return Ok(None),
            (Some(Form::Binary(bytes)), Type::Jsonb) => utf8(columns::jsonb(bytes)?)?.into(),
            (Some(Form::Binary(bytes)), _) => utf8(bytes)?.into(),
            (Some(Form::Json(json)), Type::Jsonb) => json.into(),
            (Some(Form::Json(json)), _) => string(json)?,
        };
        let hint = if column.kind == Type::Jsonb { self.hint(column.name) } else { Hint::default() };
        Ok(Some((text, hint)))
    }

    /// The fields without a column of their own: name, JSON text, order hint. [`crate::escape`]s are still in the names.
    pub fn extra(&self) -> impl Iterator<Item = (&str, &'b str, Hint)> {
        self.extra.iter().map(|(name, text)| (name.as_ref(), *text, self.hint(name)))
    }

    fn hint(&self, field: &str) -> Hint {
        let hint = self.hints.iter().find(|(name, _)| name == field);
        hint.map_or_else(Hint::default, |(_, hint)| Hint::parse(hint))
    }
}

/// The rows of a column-wise read, from an array a column.
#[derive(Debug, Clone)]
pub struct StoredRows<'b> {
    columns: Option<[Array<'b>; OWN_ARRAYS + 1]>,
}

impl<'b> StoredRows<'b> {
    /// Takes what `array_agg` gave for each of the first [`OWN_ARRAYS`] of [`COLUMNS`] and for the JSON
    /// objects with the others; `None`, as for no rows at all, in any of them makes it empty.
    pub fn parse(arrays: &[Option<&'b [u8]>; OWN_ARRAYS + 1]) -> std::result::Result<Self, EventError> {
        let mut columns = [Array::default(); OWN_ARRAYS + 1];
        for (index, (column, bytes)) in columns.iter_mut().zip(arrays).enumerate() {
            let Some(bytes) = bytes else {
                return Ok(Self { columns: None });
            };
            *column = Array::parse(bytes).map_err(|error| array_error(index, error))?;
        }
        let count = columns[0].len();
        if let Some(index) = columns.iter().position(|column| column.len() != count) {
            return Err(array_error(index, Error { kind: ErrorKind::InvalidArray, at: 0 }));
        }
        Ok(Self { columns: Some(columns) })
    }

    fn row(columns: &mut [Array<'b>; OWN_ARRAYS + 1]) -> std::result::Result<StoredRow<'b>, EventError> {
        let mut elements = [None; OWN_ARRAYS + 1];
        for (index, column) in columns.iter_mut().enumerate() {
            elements[index] = column.element().map_err(|error| {
                let event = String::from_utf8_lossy(elements[0].unwrap_or_default()).into_owned();
                EventError { event, ..array_error(index, error) }
            })?;
        }
        StoredRow::from_elements(&elements)
    }
}

impl<'b> Iterator for StoredRows<'b> {
    type Item = std::result::Result<StoredRow<'b>, EventError>;

    /// The next row; nothing comes behind an error.
    fn next(&mut self) -> Option<Self::Item> {
        let columns = self.columns.as_mut().filter(|columns| !columns[0].is_empty())?;
        let row = Self::row(columns);
        if row.is_err() {
            self.columns = None;
        }
        Some(row)
    }
}

fn array_error(index: usize, error: Error) -> EventError {
    let column = if index < OWN_ARRAYS { COLUMNS[index].name } else { RARE };
    EventError { event: String::new(), column: column.to_owned(), error }
}

fn utf8(bytes: &[u8]) -> Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error { kind: ErrorKind::InvalidUtf8, at: error.valid_up_to() })
}

/// A text that is one JSON string.
fn string(text: &str) -> Result<Cow<'_, str>> {
    let mut reader = Reader::new(text);
    let string = reader.string_value()?;
    reader.finish()?;
    Ok(string)
}

/// The members of a text that is one JSON object.
pub(crate) fn members(text: &str) -> Result<Vec<(Cow<'_, str>, &str)>> {
    let mut reader = Reader::new(text);
    if reader.peek()? != Kind::Object {
        return Err(reader.error(ErrorKind::OtherKind));
    }
    let mut found = Vec::new();
    let mut key = reader.begin_object()?;
    while let Some(name) = key {
        found.push((name, reader.skip()?));
        key = reader.next_key()?;
    }
    reader.finish()?;
    Ok(found)
}

/// The members of an object of strings.
fn texts(text: &str) -> Result<Vec<(String, String)>> {
    let members = members(text)?.into_iter();
    members.map(|(name, value)| Ok((name.into_owned(), string(value)?.into_owned()))).collect()
}
