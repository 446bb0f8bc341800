//! The reader against `serde_json`: the same texts are JSON to both.

use adk_psqlpy::error::ErrorKind;
use adk_psqlpy::json::{Kind, MAX_DEPTH, Reader};

use crate::generate::{Random, damaged, read, read_text, value};

const VALID: [&str; 28] = [
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-0.0",
    "1.5e+10",
    "1E-5",
    "1e400",
    "123456789012345678901234567890",
    "\"\"",
    "\"a\"",
    "\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"",
    "\"\\u0000\"",
    "\"\\u00e9\\uFFFF\"",
    "\"\\ud83d\\ude00\"",
    "\"\u{7f}\u{2028}😀\"",
    "[]",
    "[ ]",
    "{}",
    "{ }",
    " [ 1 , [ ] , { \"a\" : null } ] ",
    "{\"a\":1,\"a\":2}",
    "\t\r\n 1 \n",
    "[[[[]]]]",
    "{\"\":{\"\":{}}}",
    "\"0123456789012345678901234567890123456789\"",
    "\"0123456789012345678901234567890123456789\\n\"",
];

/// The text, what is wrong with it, and at which byte.
const INVALID: [(&str, ErrorKind, usize); 42] = [
    ("", ErrorKind::EndOfText, 0),
    ("  ", ErrorKind::EndOfText, 2),
    ("nul", ErrorKind::UnexpectedByte, 0),
    ("nulL", ErrorKind::UnexpectedByte, 0),
    ("True", ErrorKind::UnexpectedByte, 0),
    ("NaN", ErrorKind::UnexpectedByte, 0),
    ("Infinity", ErrorKind::UnexpectedByte, 0),
    ("+1", ErrorKind::UnexpectedByte, 0),
    (".5", ErrorKind::UnexpectedByte, 0),
    ("'a'", ErrorKind::UnexpectedByte, 0),
    ("\u{feff}1", ErrorKind::UnexpectedByte, 0),
    ("-", ErrorKind::InvalidNumber, 0),
    ("-a", ErrorKind::InvalidNumber, 0),
    ("01", ErrorKind::InvalidNumber, 0),
    ("-01", ErrorKind::InvalidNumber, 0),
    ("1.", ErrorKind::InvalidNumber, 0),
    ("[1.e5]", ErrorKind::InvalidNumber, 1),
    ("1e", ErrorKind::InvalidNumber, 0),
    ("1e+", ErrorKind::InvalidNumber, 0),
    ("1 2", ErrorKind::TrailingText, 2),
    ("1a", ErrorKind::TrailingText, 1),
    ("nulll", ErrorKind::TrailingText, 4),
    ("[]]", ErrorKind::TrailingText, 2),
    ("\"a", ErrorKind::EndOfText, 2),
    ("\"0123456789012345678901234567890123456789", ErrorKind::EndOfText, 41),
    ("\"a\nb\"", ErrorKind::ControlCharacter, 2),
    ("\"0123456789012345678901234567890123456789\u{1}\"", ErrorKind::ControlCharacter, 41),
    ("\"\\n\u{1f}\"", ErrorKind::ControlCharacter, 3),
    ("\"\\x\"", ErrorKind::InvalidEscape, 1),
    ("\"\\u12g4\"", ErrorKind::InvalidEscape, 1),
    ("\"\\u12\"", ErrorKind::InvalidEscape, 1),
    ("\"ab\\ud83d\"", ErrorKind::InvalidEscape, 3),
    ("\"\\ud83d\\n\"", ErrorKind::InvalidEscape, 1),
    ("\"\\ud83d\\ud83d\"", ErrorKind::InvalidEscape, 1),
    ("\"\\ude00\"", ErrorKind::InvalidEscape, 1),
    ("[1,]", ErrorKind::UnexpectedByte, 3),
    ("[1 2]", ErrorKind::UnexpectedByte, 3),
    ("[1", ErrorKind::EndOfText, 2),
    ("{\"a\"}", ErrorKind::UnexpectedByte, 4),
    ("{\"a\":1,}", ErrorKind::UnexpectedByte, 7),
    ("{a:1}", ErrorKind::UnexpectedByte, 1),
    ("{\"a\":1", ErrorKind::EndOfText, 6),
];

/// What `serde_json` says of a text.
fn is_json(text: &str) -> bool {
    serde_json::from_str::<serde_json::Value>(text).is_ok()
}

/// Reads by stepping over.
fn skip_text(text: &str) -> adk_psqlpy::error::Result<()> {
    let mut reader = Reader::new(text);
    reader.skip()?;
    reader.finish()
}

#[test]
fn valid_texts_are_read() {
    for text in VALID {
        assert!(is_json(text), "{text}");
        assert_eq!(read_text(text).map(drop), Ok(()), "{text}");
        assert_eq!(skip_text(text), Ok(()), "{text}");
    }
}

#[test]
fn invalid_texts_are_refused_at_their_byte() {
    for (text, kind, at) in INVALID {
        assert!(!is_json(text), "{text}");
        let error = read_text(text).unwrap_err();
        assert_eq!((error.kind, error.at), (kind, at), "{text}");
        assert_eq!(skip_text(text), Err(error), "{text}");
    }
}

#[test]
fn damaged_texts_get_the_verdict_of_serde_json() {
    let mut random = Random::new(1);
    let mut valid = 0;
    for _ in 0..40_000 {
        let original = serde_text(&value(&mut random, 3));
        let text = damaged(&mut random, &original);
        let made = read_text(&text);
        assert_eq!(made.is_ok(), is_json(&text), "{text}: {made:?}");
        assert_eq!(skip_text(&text), made.map(drop), "{text}");
        valid += u32::from(is_json(&text));
    }
    assert!((4_000..36_000).contains(&valid), "{valid} of 40,000 are JSON");
}

#[test]
fn values_are_those_of_serde_json() {
    let mut random = Random::new(2);
    for _ in 0..10_000 {
        let expected = value(&mut random, 4);
        let text = serde_text(&expected);
        assert_eq!(read_text(&text), Ok(expected), "{text}");
    }
}

/// Written by another writer than ours: `serde_json`'s strings, spaces here and there.
fn serde_text(value: &crate::generate::Value) -> String {
    use crate::generate::Value;
    let string = |text: &str| serde_json::to_string(text).unwrap();
    match value {
        Value::Null => "null".into(),
        Value::Bool(truth) => truth.to_string(),
        Value::Number(digits) => digits.clone(),
        Value::String(text) => string(text),
        Value::Array(items) => format!("[{}]", items.iter().map(serde_text).collect::<Vec<_>>().join(" ,")),
        Value::Object(members) => {
            let members =
                members.iter().map(|(key, value)| format!("{}: {}", string(key), serde_text(value)));
            format!("{{{} }}", members.collect::<Vec<_>>().join(","))
        }
    }
}

#[test]
fn stepping_over_gives_the_text_of_the_value_and_counts_its_objects() {
    let text = "  {\"a\": [1, {\"b\": {}}], \"c\": \"x\"} ,";
    let mut skipping = Reader::new(text);
    assert_eq!(skipping.skip(), Ok("{\"a\": [1, {\"b\": {}}], \"c\": \"x\"}"));
    let mut reading = Reader::new(text);
    read(&mut reading).unwrap();
    assert_eq!(skipping.position(), reading.position());
    assert_eq!(skipping.objects(), 3);
    assert_eq!(reading.objects(), 3);
}

#[test]
fn a_string_is_borrowed_unless_it_holds_a_backslash() {
    for (text, borrowed) in [("\"plain\"", true), ("\"a\\nb\"", false)] {
        let string = Reader::new(text).string().unwrap();
        assert_eq!(matches!(string, std::borrow::Cow::Borrowed(_)), borrowed);
    }
}

#[test]
fn numbers_say_whether_python_reads_a_float() {
    for (text, is_float) in [("1", false), ("-12", false), ("1.0", true), ("1e5", true), ("1E5", true)] {
        let number = Reader::new(text).number().unwrap();
        assert_eq!((number.text, number.is_float), (text, is_float));
    }
}

#[test]
fn a_string_is_asked_for_where_there_may_be_another_value() {
    assert_eq!(Reader::new(" \"a\"").string_value().unwrap(), "a");
    assert_eq!(Reader::new("1").string_value().unwrap_err().kind, ErrorKind::UnexpectedByte);
    assert_eq!(Reader::new("").string_value().unwrap_err().kind, ErrorKind::EndOfText);
}

#[test]
fn bytes_that_are_not_utf8_are_refused_at_their_place() {
    let error = Reader::from_bytes(b"\"ab\xff\"").unwrap_err();
    assert_eq!((error.kind, error.at), (ErrorKind::InvalidUtf8, 3));
    assert_eq!(Reader::from_bytes(b"true").unwrap().peek(), Ok(Kind::True));
}

#[test]
fn nesting_ends_at_the_limit_without_using_up_the_stack() {
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let nested = |depth: usize| format!("{}1{}", open.repeat(depth), close.repeat(depth));
        assert_eq!(skip_text(&nested(MAX_DEPTH)), Ok(()));
        let error = skip_text(&nested(MAX_DEPTH + 1)).unwrap_err();
        assert_eq!((error.kind, error.at), (ErrorKind::TooDeep, MAX_DEPTH * open.len()));
        assert_eq!(skip_text(&open.repeat(1_000_000)).unwrap_err().kind, ErrorKind::TooDeep);
    }
}

#[test]
fn errors_say_what_and_where() {
    assert_eq!(
        read_text("[1,]").unwrap_err().to_string(),
        "no JSON value can go on with this byte (at byte 3)"
    );
}
