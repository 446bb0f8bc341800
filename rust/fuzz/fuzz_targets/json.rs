//! The JSON reader against `serde_json`: the same verdict, the same value, and stepping over is reading.
#![no_main]

use adk_psqlpy::error::{ErrorKind, Result};
use adk_psqlpy::escape;
use adk_psqlpy::json::{Kind, MAX_DEPTH, Reader};
use adk_psqlpy::order::Hint;
use adk_psqlpy::value;
use libfuzzer_sys::fuzz_target;
use serde::Deserialize as _;
use serde_json::{Deserializer, Value};

/// The reader's calls in the order in which a decoder makes them.
fn read(reader: &mut Reader<'_>, depth: usize) -> Result<Value> {
    let kind = reader.peek()?;
    if depth == MAX_DEPTH && matches!(kind, Kind::Array | Kind::Object) {
        return Err(reader.error(ErrorKind::TooDeep));
    }
    Ok(match kind {
        Kind::Null | Kind::True | Kind::False => {
            reader.literal(kind)?;
            if kind == Kind::Null { Value::Null } else { Value::Bool(kind == Kind::True) }
        }
        Kind::Number => {
            let number = reader.number()?;
            assert_eq!(number.is_float, number.text.contains(['.', 'e', 'E']));
            Value::Number(number.text.parse().expect("a number of JSON's grammar"))
        }
        Kind::String => Value::String(reader.string()?.into_owned()),
        Kind::Array => {
            let mut items = Vec::new();
            let mut more = reader.begin_array()?;
            while more {
                items.push(read(reader, depth + 1)?);
                more = reader.next_element()?;
            }
            Value::Array(items)
        }
        Kind::Object => {
            let mut members = serde_json::Map::new();
            let mut key = reader.begin_object()?;
            while let Some(name) = key {
                members.insert(name.into_owned(), read(reader, depth + 1)?);
                key = reader.next_key()?;
            }
            Value::Object(members)
        }
    })
}

fn by_serde(data: &[u8]) -> serde_json::Result<Value> {
    let mut deserializer = Deserializer::from_slice(data);
    deserializer.disable_recursion_limit();
    let value = Value::deserialize(&mut deserializer)?;
    deserializer.end().map(|()| value)
}

fn holds_an_escape(value: &Value) -> bool {
    match value {
        Value::String(text) => escape::is_escaped(text),
        Value::Array(items) => items.iter().any(holds_an_escape),
        Value::Object(members) => {
            members.iter().any(|(key, value)| escape::is_escaped(key) || holds_an_escape(value))
        }
        _ => false,
    }
}

fuzz_target!(|data: &[u8]| {
    let ours = Reader::from_bytes(data).and_then(|mut reader| {
        let value = read(&mut reader, 0)?;
        reader.finish()?;
        Ok(value)
    });
    let skipped = Reader::from_bytes(data).and_then(|mut reader| {
        let text = reader.skip()?;
        let (position, objects) = (reader.position(), reader.objects());
        assert!(position <= data.len() && objects as usize <= data.len());
        reader.finish()?;
        Ok(text)
    });
    assert_eq!(ours.as_ref().err(), skipped.as_ref().err());
    if let Err(error) = &ours {
        assert!(error.at <= data.len());
        if error.kind == ErrorKind::TooDeep {
            return;
        }
    }
    // An object with this key is how serde_json hands numbers around.
    if memchr::memmem::find(data, b"serde_json").is_some() {
        return;
    }
    let theirs = by_serde(data);
    assert_eq!(ours.as_ref().ok(), theirs.as_ref().ok(), "{ours:?}, {theirs:?}");
    if let Ok(text) = skipped {
        let unescaped = value::read(text, &Hint::default()).expect("what was read before");
        let theirs = theirs.expect("equal to ours");
        assert!(unescaped == theirs || holds_an_escape(&theirs));
    }
});
