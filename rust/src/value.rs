//! Stored JSON as [`serde_json::Value`]: escapes undone, keys in the order appended, every digit kept.
//!
//! Rust's strings hold no lone surrogates, and JSON's numbers no NaN. So there is one rule for the escapes of
//! [`crate::escape`]: **a string that Rust cannot hold stays as it is stored.** Everything else is what was
//! appended, including U+0000 and minus zero. To distinguish the two, a string also stays as it is stored if
//! it would otherwise look like an escape. So for any string from here, [`crate::escape::unescape`], and
//! [`float`] for values, give the exact text or number.

use serde_json::{Map, Number, Value};

use crate::error::{Error, ErrorKind, Result};
use crate::escape::{self, Piece};
use crate::json::{Kind, MAX_DEPTH, Reader};
use crate::order::{Document, Hint, Keys};

/// The value that a stored JSON text stands for.
pub fn read(stored: &str, hint: &Hint) -> Result<Value> {
    let mut reader = Reader::new(stored);
    let mut document = Document::default();
    let value = next(&mut reader, hint, &mut document, 0)?;
    reader.finish()?;
    if hint.is_empty() || hint.is_for(document) { Ok(value) } else { read(stored, &Hint::default()) }
}

/// The text that a stored string stands for, or the stored string itself (see the module's rule).
pub fn text(stored: &str) -> String {
    if stored.is_ascii() || !escape::is_escaped(stored) {
        return stored.to_owned();
    }
    let mut text = String::with_capacity(stored.len());
    for piece in escape::unescape(stored) {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::CodePoint(code) => match char::from_u32(code.into()) {
                Some(char) => text.push(char),
                None => return stored.to_owned(),
            },
        }
    }
    let plain = escape::float(&text).is_none()
        && escape::unescape(&text).all(|piece| matches!(piece, Piece::Text(_)));
    if plain { text } else { stored.to_owned() }
}

/// The float that a number or a string kept in its stored form stands for: NaN and the infinities too.
pub fn float(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => escape::float(text),
        _ => None,
    }
}

fn next(reader: &mut Reader<'_>, hint: &Hint, document: &mut Document, depth: usize) -> Result<Value> {
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
            let at = reader.position();
            let number = reader.number()?.text.parse();
            Value::Number(number.map_err(|_| Error { kind: ErrorKind::InvalidNumber, at })?)
        }
        Kind::String => string(&reader.string()?),
        Kind::Array => {
            let mut items = Vec::new();
            let mut more = reader.begin_array()?;
            while more {
                items.push(next(reader, hint, document, depth + 1)?);
                more = reader.next_element()?;
            }
            Value::Array(items)
        }
        Kind::Object => {
            let index = reader.objects();
            let (mut members, mut keys) = (Vec::new(), Keys::default());
            let mut key = reader.begin_object()?;
            while let Some(name) = key {
                keys.add(&name);
                members.push((text(&name), next(reader, hint, document, depth + 1)?));
                key = reader.next_key()?;
            }
            document.add(index, keys);
            let order = hint.order(index, keys);
            Value::Object(ordered(members, order))
        }
    })
}

fn string(stored: &str) -> Value {
    match escape::float(stored) {
        // The only escaped float that can be a JSON number.
        Some(0.0) => Value::Number(Number::from_f64(-0.0).unwrap_or_else(|| 0.into())),
        Some(_) => Value::String(stored.to_owned()),
        None => Value::String(text(stored)),
    }
}

/// The members in the order in which they were appended. Of equal keys, which JSONB never has, the last one counts.
fn ordered(mut members: Vec<(String, Value)>, order: Option<&[usize]>) -> Map<String, Value> {
    match order {
        None => members.into_iter().collect(),
        Some(order) => order.iter().map(|place| std::mem::take(&mut members[*place])).collect(),
    }
}
