//! Order hints: they bring back the order of keys, and an edited document is read as it stands.

use adk_psqlpy::order::{Hint, Recorder};
use adk_psqlpy::write::{jsonb_key_order, string};

use crate::generate::{Random, Value, read_text, value};

/// Writes a value as an encoder does: keys in JSONB's order, and a note of their own.
fn write(value: &Value, out: &mut Vec<u8>, order: &mut Recorder) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(truth) => out.extend_from_slice(truth.to_string().as_bytes()),
        Value::Number(digits) => out.extend_from_slice(digits.as_bytes()),
        Value::String(text) => out.extend_from_slice(serde_json::to_string(text).unwrap().as_bytes()),
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                out.push(if index == 0 { b'[' } else { b',' });
                write(item, out, order);
            }
            out.extend_from_slice(if items.is_empty() { b"[]" } else { b"]" });
        }
        Value::Object(members) => {
            let index = order.begin_object();
            let mut sorted: Vec<usize> = (0..members.len()).collect();
            sorted.sort_by(|left, right| jsonb_key_order(&members[*left].0, &members[*right].0));
            if !sorted.is_sorted() {
                let place = |member| sorted.iter().position(|each| *each == member).unwrap();
                order.record(index, (0..members.len()).map(place));
            }
            for (count, member) in sorted.into_iter().enumerate() {
                out.push(if count == 0 { b'{' } else { b',' });
                out.extend_from_slice(serde_json::to_string(&members[member].0).unwrap().as_bytes());
                out.push(b':');
                write(&members[member].1, out, order);
            }
            out.extend_from_slice(if members.is_empty() { b"{}" } else { b"}" });
        }
    }
}

fn written(value: &Value) -> (String, Option<String>) {
    let (mut out, mut order) = (Vec::new(), Recorder::default());
    write(value, &mut out, &mut order);
    let text = String::from_utf8(out).unwrap();
    let hint = order.finish(text.as_bytes()).unwrap();
    (text, hint)
}

/// Puts the keys of a value as read into the order of a hint; objects are counted as they begin.
fn restored(value: Value, hint: &Hint, objects: &mut u32) -> Value {
    match value {
        Value::Array(items) => {
            Value::Array(items.into_iter().map(|item| restored(item, hint, objects)).collect())
        }
        Value::Object(members) => {
            let index = *objects;
            *objects += 1;
            let members: Vec<_> =
                members.into_iter().map(|(key, value)| (key, restored(value, hint, objects))).collect();
            match hint.order(index, members.len()) {
                Some(order) => Value::Object(order.iter().map(|place| members[*place].clone()).collect()),
                None => Value::Object(members),
            }
        }
        other => other,
    }
}

fn read(text: &str, hint: &str) -> Value {
    restored(read_text(text).unwrap(), &Hint::parse(hint, text), &mut 0)
}

/// An object whose keys need a hint, and the document and hint for it.
fn example() -> (Value, String, String) {
    let inner = Value::Object(vec![("zz".into(), Value::Null), ("y".into(), Value::Bool(true))]);
    let outer = Value::Object(vec![("b".into(), inner.clone()), ("a".into(), Value::Array(vec![inner]))]);
    let (text, hint) = written(&outer);
    (outer, text, hint.unwrap())
}

#[test]
fn the_order_of_keys_comes_back() {
    let mut random = Random::new(6);
    let mut hinted = 0;
    for _ in 0..10_000 {
        let expected = value(&mut random, 5);
        let (text, hint) = written(&expected);
        hinted += u32::from(hint.is_some());
        assert_eq!(read(&text, hint.as_deref().unwrap_or_default()), expected, "{text} {hint:?}");
    }
    assert!(hinted > 1_000, "{hinted}");
}

#[test]
fn a_document_in_the_order_of_jsonb_needs_no_hint() {
    let sorted = Value::Object(vec![
        ("a".into(), Value::Null),
        ("b".into(), Value::Object(vec![])),
        ("aa".into(), Value::Null),
    ]);
    assert_eq!(written(&sorted).1, None);
}

#[test]
fn white_space_and_other_values_leave_a_hint_alone() {
    let (expected, text, hint) = example();
    let spaced = text.replace(':', " : ").replace(',', " , ");
    assert_eq!(read(&spaced, &hint), expected);
    let edited = text.replace("true", "\"redacted\"");
    let Value::Object(members) = read(&edited, &hint) else { panic!("not an object") };
    assert_eq!(members.iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["b", "a"]);
}

#[test]
fn other_keys_void_a_hint() {
    let (_, text, hint) = example();
    for (from, to) in [
        ("\"y\"", "\"x\""),
        ("\"y\":true", "\"x\":1,\"y\":true"),
        ("\"y\":true,", ""),
        ("\"zz\":null", "\"zz\":{}"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text);
        assert!(Hint::parse(&hint, &edited).is_empty(), "{edited}");
        assert_eq!(read(&edited, &hint), read_text(&edited).unwrap());
    }
}

#[test]
fn a_key_moved_to_another_object_voids_a_hint() {
    let (_, hint) = written(&read_text(r#"{"b":{"d":1,"c":2},"a":{}}"#).unwrap());
    assert!(Hint::parse(&hint.unwrap(), r#"{"a":{"c":2},"b":{"d":1}}"#).is_empty());
}

#[test]
fn malformed_hints_say_nothing() {
    let (_, text, hint) = example();
    let (print, entries) = hint.split_once(' ').unwrap();
    assert!(!Hint::parse(&hint, &text).is_empty());
    for entries in [
        "",
        "0",
        "0:",
        ":1,0",
        "0:1,1",
        "0:0,2",
        "0:1,0,",
        "0:-1,0",
        "x:1,0",
        "0:1;0",
        "1:1,0 0:1,0",
        " 0:1,0",
        "99999999999:1,0",
        "0:18446744073709551616,0",
    ] {
        assert!(Hint::parse(&format!("{print} {entries}"), &text).is_empty(), "{entries}");
    }
    for whole in [
        String::new(),
        print.into(),
        format!("x{print} {entries}"),
        format!("00000000 {entries}"),
        format!("{print}  {entries}"),
    ] {
        assert!(Hint::parse(&whole, &text).is_empty(), "{whole}");
    }
    assert!(Hint::parse(&hint, "{\"a\":").is_empty());
    // Right in form, but for objects that have another number of keys, or do not exist.
    for entries in ["0:2,1,0", "7:1,0", "0:0"] {
        assert_eq!(read(&text, &format!("{print} {entries}")), read_text(&text).unwrap());
    }
}

#[test]
fn random_hints_change_no_value() {
    const PIECES: [&str; 8] = [" ", ":", ",", "0", "1", "2", "3", "-"];
    let (_, text, hint) = example();
    let print = hint.split_once(' ').unwrap().0;
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let tail: String = (0..random.below(14)).map(|_| random.pick(&PIECES)).collect();
        let mut sorted = Vec::new();
        write(&read(&text, &format!("{print} {tail}")), &mut sorted, &mut Recorder::default());
        assert_eq!(String::from_utf8(sorted).unwrap(), text, "{tail}");
    }
}

#[test]
fn keys_with_quotes_and_escapes_are_ordered_too() {
    let mut key = Vec::new();
    string(&mut key, "\"\\\n");
    let text = format!("{{{}:1,\"zzzz\":2}}", String::from_utf8(key).unwrap());
    let expected = Value::Object(vec![
        ("zzzz".into(), Value::Number("2".into())),
        ("\"\\\n".into(), Value::Number("1".into())),
    ]);
    let (document, hint) = written(&expected);
    assert_eq!(document, text);
    assert_eq!(read(&document, &hint.unwrap()), expected);
}
