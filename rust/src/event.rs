//! ADK events as serde types, read from the rows that the Python package wrote.
//!
//! ```
//! use adk_psqlpy::event::Event;
//! use adk_psqlpy::row::COLUMNS;
//!
//! // What a driver gives for `SELECT` of COLUMNS: binary values, None for NULL.
//! let mut row = [None; COLUMNS.len()];
//! row[0] = Some(b"event-1".as_slice());
//! row[1] = Some([0, 0, 0, 0, 0, 0, 0, 0].as_slice());
//! row[3] = Some(b"user".as_slice());
//! row[5] = Some(b"\x01{\"role\": \"user\", \"parts\": [{\"text\": \"Hello\"}]}".as_slice());
//! let event = Event::from_row(&row)?;
//! assert_eq!(event.timestamp, 946_684_800.0); // 2000-01-01
//! assert_eq!(event.parts().next().unwrap()["text"], "Hello");
//! # Ok::<(), adk_psqlpy::stored::EventError>(())
//! ```

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::row::{self, COLUMNS, OWN_ARRAYS, TOOL_IDS, Type};
use crate::stored::{EventError, StoredRow, StoredRows};
use crate::value;

/// An event, equal to what the Python package reads from the same row.
///
/// Its JSON is that of `event.model_dump(mode="json", exclude_none=True)`: read from a row, written with
/// serde and read again, it is the same event. Strings that Rust cannot hold, NaN and the infinities are
/// kept as [`crate::value`] says. Keys of data, such as a function call's arguments, come in the order in
/// which they were appended. The fields of ADK's own classes come in JSONB's order.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Map<String, Value>")]
pub struct Event {
    /// The event's id, one of a kind in its session.
    pub id: String,
    /// Seconds since the Unix epoch, including the bits that TIMESTAMPTZ drops.
    pub timestamp: f64,
    /// The invocation that the event belongs to.
    pub invocation_id: String,
    /// `user`, or an agent's name.
    pub author: String,
    /// The agents that led here, from the root, with dots between them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub branch: Option<String>,
    /// `google.genai.types.Content`: a role, and [`parts`](Self::parts).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content: Option<Value>,
    /// `EventActions`: state delta, artifact delta, transfers and requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub actions: Option<Value>,
    /// The function calls that run on after the turn, by id, sorted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub long_running_tool_ids: Option<Vec<String>>,
    /// `google.genai.types.GroundingMetadata`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grounding_metadata: Option<Value>,
    /// Whatever the application added, by key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub custom_metadata: Option<Value>,
    /// Whether more of the same text is to come. (Partial events are not stored.)
    #[serde(skip_serializing_if = "Option::is_none")]
    pub partial: Option<bool>,
    /// Whether the model's turn is complete, in live mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub turn_complete: Option<bool>,
    /// Whether the user interrupted the model, in live mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interrupted: Option<bool>,
    /// The model's error code, if it gave one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// The words for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_message: Option<String>,
    /// Every field that has no column of its own: usage metadata, transcriptions, fields of a later ADK.
    #[serde(flatten)]
    pub extra: Map<String, Value>,
}

impl Event {
    /// Reads a row that was selected with [`COLUMNS`] in their order: the values in binary, `None` for NULL.
    pub fn from_row(values: &[Option<&[u8]>; COLUMNS.len()]) -> std::result::Result<Self, EventError> {
        Self::from_stored(&StoredRow::from_row(values)?)
    }

    /// Reads a row whose values are still in their buffer.
    pub fn from_stored(row: &StoredRow<'_>) -> std::result::Result<Self, EventError> {
        let mut event = Self::default();
        event.fill(row).map_err(|(column, error)| row.error(column, error))?;
        Ok(event)
    }

    /// The parts of the content: `{"text": …}`, `{"function_call": …}` and so on.
    pub fn parts(&self) -> impl Iterator<Item = &Value> {
        let parts = self.content.as_ref().and_then(|content| content.get("parts")?.as_array());
        parts.into_iter().flatten()
    }

    fn fill<'r>(&mut self, row: &'r StoredRow<'_>) -> std::result::Result<(), (&'r str, Error)> {
        for (name, text, hint) in row.extra() {
            // A column's value takes precedence over a field of the same name in `extra`.
            if row::column_of_field(name).is_none_or(|index| row.is_null(index)) {
                let value = value::read(text, &hint).map_err(|error| ("extra", error))?;
                self.set(value::text(name), value).map_err(|error| ("extra", error))?;
            }
        }
        for (index, column) in COLUMNS.iter().enumerate() {
            self.fill_column(row, index).map_err(|error| (column.name, error))?;
        }
        Ok(())
    }

    fn fill_column(&mut self, row: &StoredRow<'_>, index: usize) -> Result<()> {
        let column = COLUMNS[index];
        let value = match column.kind {
            Type::Timestamptz => {
                self.timestamp = row.seconds(index)?.ok_or(Error { kind: ErrorKind::Missing, at: 0 })?;
                return Ok(());
            }
            Type::Varchar => row.text(index)?.map(|text| Value::String(value::text(&text))),
            Type::Boolean => row.boolean(index)?.map(Value::Bool),
            Type::Jsonb | Type::Bytea | Type::Text => match row.json(index)? {
                Some((text, hint)) => Some(value::read(&text, &hint)?),
                None => None,
            },
        };
        let field = if column.kind == Type::Text { TOOL_IDS } else { column.name };
        match value {
            Some(value) => self.set(field.to_owned(), value),
            None if column.name == "id" => Err(Error { kind: ErrorKind::Missing, at: 0 }),
            None => Ok(()),
        }
    }

    /// Sets the field with this name in Python.
    fn set(&mut self, field: String, value: Value) -> Result<()> {
        match field.as_str() {
            "id" => self.id = text(value)?,
            "timestamp" => self.timestamp = value::float(&value).ok_or(OTHER_KIND)?,
            "invocation_id" => self.invocation_id = text(value)?,
            "author" => self.author = text(value)?,
            "branch" => self.branch = optional(value, text)?,
            "content" => self.content = optional(value, Ok)?,
            "actions" => self.actions = optional(value, Ok)?,
            TOOL_IDS => self.long_running_tool_ids = optional(value, texts)?,
            "grounding_metadata" => self.grounding_metadata = optional(value, Ok)?,
            "custom_metadata" => self.custom_metadata = optional(value, Ok)?,
            "partial" => self.partial = optional(value, boolean)?,
            "turn_complete" => self.turn_complete = optional(value, boolean)?,
            "interrupted" => self.interrupted = optional(value, boolean)?,
            "error_code" => self.error_code = optional(value, text)?,
            "error_message" => self.error_message = optional(value, text)?,
            _ => drop(self.extra.insert(field, value)),
        }
        Ok(())
    }
}

impl TryFrom<Map<String, Value>> for Event {
    type Error = EventError;

    /// Takes the fields of an event's JSON; `id` and `timestamp` must be among them.
    fn try_from(fields: Map<String, Value>) -> std::result::Result<Self, EventError> {
        let id = fields.get("id").and_then(Value::as_str).unwrap_or_default().to_owned();
        let error = |field: &str, error| EventError { event: id.clone(), column: field.to_owned(), error };
        for field in ["id", "timestamp"] {
            if !fields.contains_key(field) {
                return Err(error(field, Error { kind: ErrorKind::Missing, at: 0 }));
            }
        }
        let mut event = Self::default();
        for (field, value) in fields {
            event.set(field.clone(), value).map_err(|what| error(&field, what))?;
        }
        Ok(event)
    }
}

/// The events of a column-wise read (`get_session` in the Python package's statements), oldest first.
///
/// ```
/// use adk_psqlpy::event::Events;
///
/// // Eight arrays in PostgreSQL's binary format; NULL where there are no events.
/// assert_eq!(Events::parse(&[None; 8])?.count(), 0);
/// # Ok::<(), adk_psqlpy::stored::EventError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Events<'b>(StoredRows<'b>);

impl<'b> Events<'b> {
    /// Takes the arrays of [`StoredRows::parse`].
    pub fn parse(arrays: &[Option<&'b [u8]>; OWN_ARRAYS + 1]) -> std::result::Result<Self, EventError> {
        StoredRows::parse(arrays).map(Self)
    }
}

impl Iterator for Events<'_> {
    type Item = std::result::Result<Event, EventError>;

    fn next(&mut self) -> Option<Self::Item> {
        Some(self.0.next()?.and_then(|row| Event::from_stored(&row)))
    }
}

const OTHER_KIND: Error = Error { kind: ErrorKind::OtherKind, at: 0 };

fn optional<T>(value: Value, read: impl FnOnce(Value) -> Result<T>) -> Result<Option<T>> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn text(value: Value) -> Result<String> {
    if let Value::String(text) = value { Ok(text) } else { Err(OTHER_KIND) }
}

fn texts(value: Value) -> Result<Vec<String>> {
    if let Value::Array(items) = value { items.into_iter().map(text).collect() } else { Err(OTHER_KIND) }
}

#[expect(clippy::needless_pass_by_value, reason = "like the others")]
fn boolean(value: Value) -> Result<bool> {
    value.as_bool().ok_or(OTHER_KIND)
}
