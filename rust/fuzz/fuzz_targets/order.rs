//! Order hints: any document comes back in its own order, and no hint whatever does harm.
//!
//! The input is a document, or a hint and a document with 0x1e between them.
#![no_main]

use adk_psqlpy::order::{Hint, Keys, Recorder};
use adk_psqlpy::{escape, value, write};
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

/// Writes a document as the encoder does: keys sorted as JSONB sorts them, their own order noted.
fn store(document: &Value, out: &mut Vec<u8>, recorder: &mut Recorder) {
    match document {
        Value::Object(members) => {
            let index = recorder.begin_object();
            let keys: Vec<&String> = members.keys().collect();
            let mut sorted = keys.clone();
            sorted.sort_by(|left, right| write::jsonb_key_order(left, right));
            let place = |key: &&String| sorted.iter().position(|other| other == key).expect("all are there");
            let places: Vec<usize> = keys.iter().map(place).collect();
            let mut stored = Keys::default();
            sorted.iter().for_each(|key| stored.add(&escaped(key)));
            recorder.record(index, stored, (sorted != keys).then_some(&places));
            for (index, key) in sorted.into_iter().enumerate() {
                out.push(if index == 0 { b'{' } else { b',' });
                write::string(out, key);
                out.push(b':');
                store(&members[key], out, recorder);
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                store(item, out, recorder);
            }
            out.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        Value::String(text) => write::string(out, text),
        other => out.extend_from_slice(other.to_string().as_bytes()),
    }
}

/// A key as it is stored.
fn escaped(key: &str) -> String {
    let mut out = Vec::new();
    escape::push_text(&mut out, key);
    String::from_utf8(out).expect("UTF-8")
}

fuzz_target!(|text: &str| {
    let (hint, document) = text.split_once('\u{1e}').unwrap_or(("", text));
    let hint = Hint::parse(hint);
    let mut keys = Keys::default();
    for count in 0..8 {
        for object in 0..8 {
            let mut order = hint.order(object, keys).unwrap_or_default().to_vec();
            order.sort_unstable();
            assert!(order.is_empty() || order.iter().copied().eq(0..count));
        }
        keys.add("");
    }
    let unordered = value::read(document, &Hint::default());
    // Equal but for the order of keys; a key that comes twice is JSON's, never JSONB's.
    let ordered = value::read(document, &hint);
    assert_eq!(unordered.is_ok(), ordered.is_ok());

    let Ok(document) = serde_json::from_str::<Value>(document) else {
        return;
    };
    let (mut out, mut recorder) = (Vec::new(), Recorder::default());
    store(&document, &mut out, &mut recorder);
    let hint = recorder.hint();
    let stored = std::str::from_utf8(&out).expect("UTF-8");
    let hint = hint.map_or_else(Hint::default, |hint| {
        let parsed = Hint::parse(&hint);
        assert!(!parsed.is_empty());
        parsed
    });
    // As texts: to values, the order of keys makes no difference.
    let read = value::read(stored, &hint).expect("JSON").to_string();
    let meant = document.to_string();
    assert!(read == meant || meant.contains(escape::LEAD));
});
