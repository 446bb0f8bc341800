//! Events of rows: what the encoder stores comes back, and what was edited since is read as it stands.

use adk_psqlpy::columns::{micros_from_seconds, timestamptz, write_array};
use adk_psqlpy::error::ErrorKind;
use adk_psqlpy::event::{Event, Events};
use adk_psqlpy::order::{Keys, Recorder};
use adk_psqlpy::row::{COLUMNS, OWN_ARRAYS, column_of_field, index_of};
use adk_psqlpy::stored::EventError;
use adk_psqlpy::value;
use serde_json::{Value, json};

/// A row as the columns hold it, values in binary.
#[derive(Clone)]
struct Stored([Option<Vec<u8>>; COLUMNS.len()]);

impl Stored {
    fn new() -> Self {
        let mut row = Self(Default::default());
        row.set("id", b"e");
        row.set("timestamp", &timestamptz(0));
        row
    }

    fn set(&mut self, column: &str, value: &[u8]) {
        self.0[index_of(column).unwrap()] = Some(value.to_vec());
    }

    fn json(&mut self, column: &str, text: &str) {
        self.set(column, format!("\u{1}{text}").as_bytes());
    }

    fn with(columns: &[(&str, &str)]) -> Self {
        let mut row = Self::new();
        for (column, text) in columns {
            let jsonb = ["content", "extra", "grounding_metadata", "custom_metadata"].contains(column);
            if jsonb { row.json(column, text) } else { row.set(column, text.as_bytes()) }
        }
        row
    }

    fn event(&self) -> Result<Event, EventError> {
        Event::from_row(&self.0.each_ref().map(Option::as_deref))
    }

    /// The row with its rare columns as the statement sends them: members of one jsonb object.
    fn elements(&self) -> [Option<Vec<u8>>; OWN_ARRAYS + 1] {
        let mut elements: [Option<Vec<u8>>; OWN_ARRAYS + 1] = Default::default();
        elements[..OWN_ARRAYS].clone_from_slice(&self.0[..OWN_ARRAYS]);
        let mut members = serde_json::Map::new();
        for (column, value) in COLUMNS.iter().zip(&self.0).skip(OWN_ARRAYS) {
            let Some(value) = value else { continue };
            let value = match column.kind.sql() {
                "boolean" => json!(value[0] == 1),
                "jsonb" => serde_json::from_slice(&value[1..]).unwrap(),
                _ => json!(std::str::from_utf8(value).unwrap()),
            };
            members.insert(column.name.into(), value);
        }
        if !members.is_empty() {
            elements[OWN_ARRAYS] = Some(format!("\u{1}{}", Value::Object(members)).into_bytes());
        }
        elements
    }
}

fn arrays(rows: &[Stored]) -> Vec<Vec<u8>> {
    let rows: Vec<_> = rows.iter().map(Stored::elements).collect();
    let array = |index: usize| {
        let oid = COLUMNS.get(index).filter(|_| index < OWN_ARRAYS).map_or(3802, |column| column.kind.oid());
        let values: Vec<_> = rows.iter().map(|row| row[index].as_deref()).collect();
        write_array(oid, values.into_iter()).unwrap()
    };
    (0..=OWN_ARRAYS).map(array).collect()
}

fn events(arrays: &[Vec<u8>]) -> Result<Vec<Event>, EventError> {
    let slices: Vec<_> = arrays.iter().map(|array| Some(array.as_slice())).collect();
    Events::parse(slices.as_slice().try_into().unwrap())?.collect()
}

fn full() -> Stored {
    let mut row = Stored::with(&[
        ("invocation_id", "i"),
        ("author", "agent"),
        ("branch", "a.b"),
        ("actions", r#"{"state_delta":{"k":1}}"#),
        ("content", r#"{"role": "model", "parts": [{"text": "Hello"}, {"function_call": {"name": "f"}}]}"#),
        ("grounding_metadata", r#"{"web_search_queries": ["q"]}"#),
        ("custom_metadata", r#"{"k": 10000000000000000.0, "n": 123456789012345678901234567890}"#),
        ("long_running_tool_ids_json", r#"["1","2"]"#),
        ("error_code", "E"),
        ("error_message", "words"),
        ("extra", r#"{"output": [1], "a_field_of_a_later_adk": {"x": null}}"#),
    ]);
    row.set("partial", &[0]);
    row.set("turn_complete", &[1]);
    row
}

#[test]
fn every_column_is_a_field() {
    let event = full().event().unwrap();
    assert_eq!((event.id.as_str(), event.invocation_id.as_str(), event.author.as_str()), ("e", "i", "agent"));
    assert_eq!(event.branch.as_deref(), Some("a.b"));
    assert_eq!(event.actions, Some(json!({"state_delta": {"k": 1}})));
    assert_eq!(event.parts().count(), 2);
    assert_eq!(event.long_running_tool_ids, Some(vec!["1".to_owned(), "2".to_owned()]));
    assert_eq!((event.partial, event.turn_complete, event.interrupted), (Some(false), Some(true), None));
    assert_eq!(
        serde_json::to_string(&event.custom_metadata).unwrap(),
        r#"{"k":10000000000000000.0,"n":123456789012345678901234567890}"#
    );
    assert_eq!(event.extra["a_field_of_a_later_adk"], json!({"x": null}));
    assert_eq!(event.error_message.as_deref(), Some("words"));
}

#[test]
fn every_field_has_its_column() {
    for column in COLUMNS.iter().filter(|column| column.name != "extra") {
        let field = if column.kind.sql() == "text" { "long_running_tool_ids" } else { column.name };
        assert_eq!(column_of_field(field), index_of(column.name), "{field}");
    }
}

#[test]
fn rows_and_arrays_are_the_same_events() {
    let rows = [full(), Stored::new(), full()];
    let expected: Vec<Event> = rows.iter().map(|row| row.event().unwrap()).collect();
    assert_eq!(events(&arrays(&rows)).unwrap(), expected);
}

#[test]
fn serde_gives_the_event_back() {
    let mut event = full().event().unwrap();
    event.timestamp = 1_700_000_000.123_456_7;
    let text = serde_json::to_string(&event).unwrap();
    assert_eq!(serde_json::from_str::<Event>(&text).unwrap(), event);
    let refused = serde_json::from_str::<Event>(r#"{"id": "e", "timestamp": 1, "partial": "no"}"#);
    assert!(refused.unwrap_err().to_string().contains("event \"e\", column partial"));
    let refused = serde_json::from_str::<Event>(r#"{"id": "e"}"#);
    assert!(refused.unwrap_err().to_string().contains("column timestamp: there is no value"));
}

#[test]
fn the_exact_timestamp_holds_until_the_column_is_edited() {
    let exact = 1_700_000_000.123_456_7_f64;
    let micros = micros_from_seconds(exact).unwrap();
    let mut row = Stored::with(&[("extra", &format!(r#"{{"$timestamp": {exact:?}}}"#))]);
    row.set("timestamp", &timestamptz(micros));
    assert_eq!(row.event().unwrap().timestamp.to_bits(), exact.to_bits());
    row.set("timestamp", &timestamptz(micros + 1));
    assert_eq!(row.event().unwrap().timestamp.to_bits(), 1_700_000_000.123_458_f64.to_bits());
}

#[test]
fn the_whole_text_holds_until_the_column_is_edited() {
    let whole = "ü".repeat(300);
    let extra = format!(r#"{{"$whole": {{"branch": "{whole}"}}}}"#);
    let mut row = Stored::with(&[("branch", &"ü".repeat(256)), ("extra", &extra)]);
    assert_eq!(row.event().unwrap().branch.as_deref(), Some(whole.as_str()));
    assert_eq!(events(&arrays(&[row.clone()])).unwrap()[0].branch.as_deref(), Some(whole.as_str()));
    row.set("branch", "redacted".as_bytes());
    assert_eq!(row.event().unwrap().branch.as_deref(), Some("redacted"));
    row.0[index_of("branch").unwrap()] = None;
    assert_eq!(row.event().unwrap().branch, None);
}

#[test]
fn keys_come_in_the_order_appended() {
    let text = r#"{"a": {"x": 1, "yy": 2}, "b": 3}"#;
    let mut recorder = Recorder::default();
    for stored in [["a", "b"], ["x", "yy"]] {
        let index = recorder.begin_object();
        let mut keys = Keys::default();
        keys.add(stored[0]);
        keys.add(stored[1]);
        recorder.record(index, keys, Some(&[1, 0]));
    }
    let hint = recorder.hint().unwrap();
    let extra =
        format!(r#"{{"output": {text}, "$order": {{"output": "{hint}", "custom_metadata": "{hint}"}}}}"#);
    let row = Stored::with(&[("custom_metadata", text), ("extra", &extra)]);
    let expected = r#"{"b":3,"a":{"yy":2,"x":1}}"#;
    let event = row.event().unwrap();
    assert_eq!(serde_json::to_string(&event.custom_metadata).unwrap(), expected);
    assert_eq!(serde_json::to_string(&event.extra["output"]).unwrap(), expected);
    // With a key more, the hint says nothing.
    let edited = Stored::with(&[
        ("custom_metadata", r#"{"a": {"x": 1, "yy": 2}, "b": 3, "c": 4}"#),
        ("extra", &extra),
    ]);
    let stored = serde_json::to_string(&edited.event().unwrap().custom_metadata).unwrap();
    assert_eq!(stored, r#"{"a":{"x":1,"yy":2},"b":3,"c":4}"#);
}

#[test]
fn escapes_are_undone_where_rust_can_hold_the_text() {
    for (stored, text) in [
        ("a\u{fdd0}0000b", "a\0b"),
        ("\u{fdd0}fdd0", "\u{fdd0}"),
        ("\u{fdd0}xyz", "\u{fdd0}xyz"),
        // A lone surrogate: no str holds it.
        ("\u{fdd0}0000\u{fdd0}d83d", "\u{fdd0}0000\u{fdd0}d83d"),
        // It would read as an escape, were it not left as it is.
        ("\u{fdd0}fdd0NaN", "\u{fdd0}fdd0NaN"),
        ("\u{fdd0}fdd00000", "\u{fdd0}fdd00000"),
    ] {
        let row = Stored::with(&[
            ("branch", stored),
            ("custom_metadata", &format!(r#"{{"{stored}": "{stored}"}}"#)),
            ("extra", &format!(r#"{{"{stored}": 1}}"#)),
        ]);
        let event = row.event().unwrap();
        assert_eq!(event.branch.as_deref(), Some(text));
        assert_eq!(event.custom_metadata, Some(json!({text: text})));
        assert_eq!(event.extra[text], json!(1));
    }
}

#[test]
fn floats_that_json_has_no_form_for() {
    let text = "[\"\u{fdd0}NaN\", \"\u{fdd0}-Infinity\", \"\u{fdd0}-0.0\", 0.0, \"NaN\"]";
    let event = Stored::with(&[("custom_metadata", text)]).event().unwrap();
    let floats: Vec<_> =
        event.custom_metadata.unwrap().as_array().unwrap().iter().map(value::float).collect();
    assert!(floats[0].unwrap().is_nan());
    assert_eq!(floats[1], Some(f64::NEG_INFINITY));
    assert!(floats[2].unwrap().is_sign_negative() && !floats[3].unwrap().is_sign_negative());
    assert_eq!(floats[4], None);
}

#[test]
fn a_column_goes_before_extra() {
    let extra = r#"{"branch": "of extra", "author": "of extra"}"#;
    let event = Stored::with(&[("author", "of the column"), ("extra", extra)]).event().unwrap();
    assert_eq!((event.author.as_str(), event.branch.as_deref()), ("of the column", Some("of extra")));
    assert!(event.extra.is_empty());
}

#[test]
fn errors_say_where() {
    for (column, bytes, kind) in [
        ("content", "{}", ErrorKind::InvalidJsonb),
        ("content", "\u{1}{", ErrorKind::EndOfText),
        ("actions", "[1,]", ErrorKind::UnexpectedByte),
        ("extra", "\u{1}[]", ErrorKind::OtherKind),
        ("extra", "\u{1}{\"id\": 1, \"partial\": 1}", ErrorKind::OtherKind),
        ("extra", "\u{1}{\"$order\": {\"content\": 1}}", ErrorKind::UnexpectedByte),
        ("partial", "\u{2}", ErrorKind::OtherKind),
        ("timestamp", "short", ErrorKind::InvalidArray),
        ("long_running_tool_ids_json", "[1]", ErrorKind::OtherKind),
    ] {
        let mut row = Stored::new();
        row.set(column, bytes.as_bytes());
        let error = row.event().unwrap_err();
        assert_eq!((error.event.as_str(), error.column.as_str(), error.error.kind), ("e", column, kind));
    }
    let mut row = Stored::new();
    row.set("author", b"\xff");
    assert_eq!(row.event().unwrap_err().to_string(), "event \"e\", column author: not UTF-8 (at byte 0)");
    for column in ["id", "timestamp"] {
        let mut row = Stored::new();
        row.0[index_of(column).unwrap()] = None;
        assert_eq!(row.event().unwrap_err().error.kind, ErrorKind::Missing);
    }
}

#[test]
fn arrays_cut_off_anywhere_are_refused() {
    let whole = arrays(&[full(), full()]);
    for index in 0..whole.len() {
        for end in 0..whole[index].len() {
            let mut cut = whole.clone();
            cut[index].truncate(end);
            let error = events(&cut).unwrap_err();
            let name = if index < OWN_ARRAYS { COLUMNS[index].name } else { "rare" };
            assert_eq!((error.column.as_str(), error.error.kind), (name, ErrorKind::InvalidArray));
        }
    }
}

#[test]
fn arrays_of_other_lengths_are_refused() {
    let mut mixed = arrays(&[full(), full()]);
    mixed[3].clone_from(&arrays(&[full()])[3]);
    assert_eq!(events(&mixed).unwrap_err().column, "author");
}

#[test]
fn a_malformed_value_leaves_the_other_rows_readable() {
    let mut bad = full();
    bad.set("content", b"no jsonb");
    let arrays = arrays(&[bad, full()]);
    let slices: Vec<_> = arrays.iter().map(|array| Some(array.as_slice())).collect();
    let mut events = Events::parse(slices.as_slice().try_into().unwrap()).unwrap();
    assert!(events.next().unwrap().is_err());
    assert!(events.next().unwrap().is_ok());
    assert!(events.next().is_none());
}

#[test]
fn a_depth_bomb_is_refused() {
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    for column in ["custom_metadata", "extra"] {
        let row = Stored::with(&[(column, &format!(r#"{{"output": {deep}}}"#))]);
        assert_eq!(row.event().unwrap_err().error.kind, ErrorKind::TooDeep);
    }
}
