//! Which field of an ADK event is kept in which column of `adk_events`, and what `extra` holds.
//!
//! `extra` is a JSONB object. A key that begins with `$` belongs to the storage; any other is a field of
//! the event that has no column of its own, so that a field which a later ADK adds is kept.

/// A column of `adk_events` that the encoder fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Column {
    /// The column, and the `Event` field kept in it (`long_running_tool_ids_json` and `extra` apart).
    pub name: &'static str,
    /// Its type as PostgreSQL writes it, without a length.
    pub sql_type: &'static str,
    /// The OID of that type in `pg_type`, for binary arrays.
    pub oid: u32,
    /// Longest text, in characters, for VARCHAR columns whose text may be cut (the whole is in `extra`).
    pub limit: Option<usize>,
}

const fn column(name: &'static str, sql_type: &'static str, oid: u32, limit: Option<usize>) -> Column {
    Column { name, sql_type, oid, limit }
}

/// The columns, in the order of [`crate::row`]'s encoders and of the statements' parameters.
pub const COLUMNS: [Column; 16] = [
    column("id", "varchar", 1043, None),
    column("timestamp", "timestamptz", 1184, None),
    column("invocation_id", "varchar", 1043, Some(256)),
    column("author", "varchar", 1043, Some(256)),
    column("actions", "bytea", 17, None),
    column("content", "jsonb", 3802, None),
    column("extra", "jsonb", 3802, None),
    column("branch", "varchar", 1043, Some(256)),
    column("error_code", "varchar", 1043, Some(256)),
    column("error_message", "varchar", 1043, Some(1024)),
    column("long_running_tool_ids_json", "text", 25, None),
    column("grounding_metadata", "jsonb", 3802, None),
    column("custom_metadata", "jsonb", 3802, None),
    column("partial", "boolean", 16, None),
    column("turn_complete", "boolean", 16, None),
    column("interrupted", "boolean", 16, None),
];

/// How many of [`COLUMNS`], from the first, are read as an array each. The others are NULL in most rows
/// and travel together, as one JSONB object a row.
pub const OWN_ARRAYS: usize = 7;

/// The index of `extra`.
pub const EXTRA: usize = 6;

/// The event field kept in `long_running_tool_ids_json`.
pub const TOOL_IDS: &str = "long_running_tool_ids";

/// In `extra`: the exact float timestamp, where TIMESTAMPTZ's microseconds dropped bits of it.
pub const EXACT_TIMESTAMP: &str = "$timestamp";
/// In `extra`: the whole of each text whose column holds a cut copy, by column.
pub const WHOLE_TEXTS: &str = "$whole";
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
        // A field that a later ADK might call so is not the column.
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
