//! Order hints: they bring back the order of keys, and an edited document is read as it stands.

use adk_psqlpy::order::{Document, Hint, Keys, Recorder};
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
            let place = |member| sorted.iter().position(|each| *each == member).unwrap();
            let places: Vec<usize> = (0..members.len()).map(place).collect();
            let keys = keys(sorted.iter().map(|member| members[*member].0.as_str()));
            order.record(index, keys, (!places.is_sorted()).then_some(&places));
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

fn keys<'k>(stored: impl Iterator<Item = &'k str>) -> Keys {
    let mut keys = Keys::default();
    stored.for_each(|key| keys.add(key));
    keys
}

fn written(value: &Value) -> (String, Option<String>) {
    let (mut out, mut order) = (Vec::new(), Recorder::default());
    write(value, &mut out, &mut order);
    let text = String::from_utf8(out).unwrap();
    (text, order.hint())
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
            match hint.order(index, keys(members.iter().map(|(key, _)| key.as_str()))) {
                Some(order) => Value::Object(order.iter().map(|place| members[*place].clone()).collect()),
                None => Value::Object(members),
            }
        }
        other => other,
    }
}

fn read(text: &str, hint: &str) -> Value {
    let (value, hint) = (read_text(text).unwrap(), Hint::parse(hint));
    let mut document = Document::default();
    add(&value, &mut document, &mut 0);
    if hint.is_for(document) { restored(value, &hint, &mut 0) } else { value }
}

/// Adds the objects of a value as read; they are counted as they begin.
fn add(value: &Value, document: &mut Document, objects: &mut u32) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| add(item, document, objects)),
        Value::Object(members) => {
            document.add(*objects, keys(members.iter().map(|(key, _)| key.as_str())));
            *objects += 1;
            for (_, item) in members {
                add(item, document, objects);
            }
        }
        _ => {}
    }
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

/// An object of these keys.
fn object(keys: &[&str]) -> Value {
    Value::Object(keys.iter().map(|key| ((*key).to_owned(), Value::Null)).collect())
}

#[test]
fn rows_with_the_same_keys_share_an_entry() {
    let row = object(&["id", "price", "tags", "name"]);
    let rows = |count| Value::Array((0..count).map(|_| row.clone()).collect());
    let (text, hint) = written(&rows(1_000));
    let hint = hint.unwrap();
    assert_eq!(hint.split_once(' ').unwrap().1, written(&rows(1)).1.unwrap().split_once(' ').unwrap().1);
    assert_eq!(read(&text, &hint), rows(1_000));
    assert!(hint.ends_with(":0,3,2,1") && hint.len() < 30, "{hint}");
}

#[test]
fn a_hint_is_the_same_on_every_machine() {
    let (_, hint) = written(&object(&["zz", "a key of more than sixteen bytes", "ключ", ""]));
    assert_eq!(hint.unwrap(), "a5cbf403 35cee09b:1,3,2,0");
}

#[test]
fn the_same_keys_in_several_orders() {
    let (ab, ba, dc) = (object(&["a", "b"]), object(&["b", "a"]), object(&["d", "c"]));
    // Changes often, begins as stored, ends as stored; more shapes than are looked through one by one.
    let mut mixed = vec![ab.clone(), dc.clone(), ba.clone(), ba.clone(), dc.clone(), ab.clone(), ba, ab];
    for round in 0..3 {
        let names: Vec<String> = (0..40).map(|number| format!("k{number}")).collect();
        for pair in names.windows(2) {
            let (left, right) = if round == 1 { (0, 1) } else { (1, 0) };
            mixed.push(object(&[&pair[left], &pair[right]]));
        }
        mixed.push(dc.clone());
    }
    let mixed = Value::Array(mixed);
    let (text, hint) = written(&mixed);
    let hint = hint.unwrap();
    assert_eq!(read(&text, &hint), mixed, "{hint}");
    assert_eq!(hint.split(' ').filter(|entry| entry.ends_with("@2:1,0")).count(), 1, "{hint}");
    assert_eq!(hint.split(' ').filter(|entry| entry.ends_with("@5:0,1")).count(), 1, "{hint}");
}

#[test]
fn other_keys_void_a_hint() {
    let (_, text, hint) = example();
    for (from, to) in [
        ("\"y\"", "\"x\""),
        ("\"y\":true", "\"x\":1,\"y\":true"),
        ("\"y\":true,", ""),
        ("\"zz\":null", "\"zz\":{}"),
        ("[{", "[{},{"),
    ] {
        let edited = text.replacen(from, to, 1);
        assert_ne!(edited, text);
        assert_eq!(read(&edited, &hint), read_text(&edited).unwrap());
    }
}

#[test]
fn a_key_moved_to_another_object_voids_a_hint() {
    let (_, hint) = written(&read_text(r#"{"b":{"d":1,"c":2},"a":{}}"#).unwrap());
    let moved = r#"{"a":{"c":2},"b":{"d":1}}"#;
    assert_eq!(read(moved, &hint.unwrap()), read_text(moved).unwrap());
}

#[test]
fn objects_that_changed_places_void_a_hint() {
    let (ab, ba, c) = (object(&["a", "b"]), object(&["b", "a"]), object(&["c"]));
    let (_, hint) = written(&Value::Array(vec![ab.clone(), c.clone(), ba.clone()]));
    let (moved, _) = written(&Value::Array(vec![ab, ba, c]));
    assert_eq!(read(&moved, &hint.unwrap()), read_text(&moved).unwrap());
}

#[test]
fn malformed_hints_say_nothing() {
    let (_, text, hint) = example();
    let (document, entries) = hint.split_once(' ').unwrap();
    let (outer, inner) = entries.split_once(' ').unwrap();
    let print = outer.strip_suffix(":1,0").unwrap();
    assert!(!Hint::parse(&hint).is_empty());
    for entry in [
        "",
        ":",
        "1,0",
        ":1,1",
        ":0,2",
        ":1,0,",
        ":1,,0",
        ":-1,0",
        ":1;0",
        ": 1,0",
        ":1,0:1,0",
        "@:1,0",
        "@-1:1,0",
        "@x:1,0",
        "@1@2:1,0",
        "@4294967296:1,0",
        "0:1,0",
        ":0,18446744073709551616",
        ":1,0 ",
    ] {
        assert!(Hint::parse(&format!("{document} {print}{entry}")).is_empty(), "{entry}");
        assert!(Hint::parse(&format!("{document} {inner} {print}{entry}")).is_empty(), "{entry}");
    }
    for whole in [
        String::new(),
        " ".into(),
        document.into(),
        entries.into(),
        format!("x{hint}"),
        format!("{document}  {entries}"),
        format!("{document} {outer}  {inner}"),
        format!(" {hint}"),
        // Which of the two is it?
        format!("{hint} {print}:0,1"),
        format!("{hint} {outer}"),
    ] {
        assert!(Hint::parse(&whole).is_empty(), "{whole}");
    }
    // Right in form, but of another document, or for objects that have another number of keys, or do not exist.
    let other = format!("00000000 {entries}");
    assert_eq!(read(&text, &other), read_text(&text).unwrap());
    for entry in [":2,1,0", "@3:1,0", ":0", "@4294967295:1,0"] {
        assert!(!Hint::parse(&format!("{document} {print}{entry}")).is_empty(), "{entry}");
        assert_eq!(read(&text, &format!("{document} {print}{entry}")), read_text(&text).unwrap(), "{entry}");
    }
}

#[test]
fn random_hints_change_no_value() {
    const PIECES: [&str; 9] = [" ", ":", ",", "0", "1", "2", "3", "-", "@"];
    let (_, text, hint) = example();
    let document = hint.split_once(' ').unwrap().0;
    let prints: Vec<_> = hint.split([' ', ':']).filter(|piece| piece.len() == 8).collect();
    let mut random = Random::new(7);
    for _ in 0..20_000 {
        let tail: String = (0..random.below(14)).map(|_| random.pick(&PIECES)).collect();
        let tail =
            format!("{}{tail} {}{}", random.pick(&prints), random.pick(&prints), random.pick(&[":1,0", ""]));
        let mut sorted = Vec::new();
        write(&read(&text, &format!("{document} {tail}")), &mut sorted, &mut Recorder::default());
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
