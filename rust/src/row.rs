//! Which field of an ADK event is kept in which column of `adk_events`, and what `extra` holds.
//!
//! `extra` is a JSONB object. A key that begins with `$` belongs to the storage; any other is a field of
//! the event that has no column of its own, so that a field which a later ADK adds is kept.

use crate::escape;

/// What a column holds, and so how its values are written and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Type {
    /// `varchar`
    Varchar,
    /// `timestamptz`
    Timestamptz,
    /// `bytea`, here UTF-8 JSON.
    Bytea,
    /// `jsonb`
    Jsonb,
    /// `text`, here JSON.
    Text,
    /// `boolean`
    Boolean,
}

impl Type {
    /// The type's name in SQL, without a length.
    pub const fn sql(self) -> &'static str {
        match self {
            Self::Varchar => "varchar",
            Self::Timestamptz => "timestamptz",
            Self::Bytea => "bytea",
            Self::Jsonb => "jsonb",
            Self::Text => "text",
            Self::Boolean => "boolean",
        }
    }

    /// Its OID in `pg_type`, for binary arrays.
    pub const fn oid(self) -> u32 {
        match self {
            Self::Varchar => 1043,
            Self::Timestamptz => 1184,
            Self::Bytea => 17,
            Self::Jsonb => 3802,
            Self::Text => 25,
            Self::Boolean => 16,
        }
    }
}

/// A column of `adk_events` that the encoder fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The column, and the `Event` field kept in it (`long_running_tool_ids_json` and `extra` apart).
    pub name: &'static str,
    /// What it holds.
    pub kind: Type,
    /// Longest text, in characters, for VARCHAR columns whose text may be cut (the whole is in `extra`).
    pub limit: Option<usize>,
}

const fn column(name: &'static str, kind: Type, limit: Option<usize>) -> Column {
    Column { name, kind, limit }
}

/// The columns, in the order of [`crate::row`]'s encoders and of the statements' parameters.
pub const COLUMNS: [Column; 16] = [
    column("id", Type::Varchar, None),
    column("timestamp", Type::Timestamptz, None),
    column("invocation_id", Type::Varchar, Some(256)),
    column("author", Type::Varchar, Some(256)),
    column("actions", Type::Bytea, None),
    column("content", Type::Jsonb, None),
    column("extra", Type::Jsonb, None),
    column("branch", Type::Varchar, Some(256)),
    column("error_code", Type::Varchar, Some(256)),
    column("error_message", Type::Varchar, Some(1024)),
    column("long_running_tool_ids_json", Type::Text, None),
    column("grounding_metadata", Type::Jsonb, None),
    column("custom_metadata", Type::Jsonb, None),
    column("partial", Type::Boolean, None),
    column("turn_complete", Type::Boolean, None),
    column("interrupted", Type::Boolean, None),
];

/// How many of [`COLUMNS`], from the first, are read as an array each. The others are NULL in most rows and
/// are sent together, as one JSONB object for each row.
pub const OWN_ARRAYS: usize = 7;

/// The index of `extra`.
pub const EXTRA: usize = 6;

/// The event field kept in `long_running_tool_ids_json`.
pub const TOOL_IDS: &str = "long_running_tool_ids";

/// In `extra`: the exact float timestamp, where TIMESTAMPTZ's microseconds dropped bits of it.
pub const EXACT_TIMESTAMP: &str = "$timestamp";
/// The float that stands behind [`EXACT_TIMESTAMP`]: a JSON number, or [`crate::escape`]'s string for minus zero.
pub fn exact_timestamp(text: &str) -> Option<f64> {
    match text.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
        Some(escaped) => escape::float(escaped),
        None => text.parse().ok(),
    }
}

/// In `extra`: the whole of each text whose column holds a cut copy, by column.
pub const WHOLE_TEXTS: &str = "$whole";
/// In `extra`: texts of sealed events whose columns have no room for a sealed value, by column.
pub const SEALED_TEXTS: &str = "$sealed";
/// In `extra`: the order hints ([`crate::order`]) by event field.
pub const ORDER: &str = "$order";

/// The index of a column in [`COLUMNS`].
pub fn index_of(name: &str) -> Option<usize> {
    COLUMNS.iter().position(|column| column.name == name)
}

/// The index in [`COLUMNS`] of the column that keeps an event field; `None` for those kept in `extra`.
pub fn column_of_field(field: &str) -> Option<usize> {
    match field {
        TOOL_IDS => index_of("long_running_tool_ids_json"),
        // If a later ADK has a field of this name, the column is not that field.
        "extra" | "long_running_tool_ids_json" => None,
        _ => index_of(field),
    }
}

/// The first `limit` characters of a stored text, and whether that is less than all of it.
pub fn cut(stored: &str, limit: usize) -> (&str, bool) {
    if stored.len() <= limit {
        return (stored, false);
    }
    match stored.char_indices().nth(limit) {
        Some((end, _)) => (&stored[..end], true),
        None => (stored, false),
    }
}
