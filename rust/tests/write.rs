//! What is written is read back: the same strings, the same floats, and floats as floats.

use adk_psqlpy::escape::{self, Piece};
use adk_psqlpy::json::Reader;
use adk_psqlpy::write;

use crate::generate::Random;

/// The text of a float, checked to be JSON.
fn float_text(value: f64) -> String {
    let mut out = Vec::new();
    write::float(&mut out, value);
    let text = String::from_utf8(out).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&text).is_ok(), "{text}");
    text
}

fn assert_float_comes_back(value: f64) {
    let text = float_text(value);
    let number = Reader::new(&text).number().unwrap();
    assert_eq!(number.text, text);
    // Without an exponent, as `numeric` keeps it, and with a fraction, so that it stays a float.
    assert!(number.is_float && text.contains('.') && !text.contains(['e', 'E']), "{text}");
    assert_eq!(text.parse::<f64>().unwrap().to_bits(), value.to_bits(), "{text}");
}

#[test]
fn every_float_comes_back_to_the_bit() {
    let mut random = Random::new(4);
    for value in [
        0.0,
        1.0,
        -1.0,
        0.1,
        1e15,
        1e16,
        1e17,
        1e22,
        1e23,
        1e-5,
        1e-7,
        5e-324,
        f64::MIN_POSITIVE,
        f64::MAX,
        f64::MIN,
    ] {
        assert_float_comes_back(value);
    }
    for _ in 0..100_000 {
        let value = f64::from_bits(random.bits());
        if value.is_finite() {
            assert_float_comes_back(value);
        }
    }
    for exponent in -324..309 {
        assert_float_comes_back(format!("1e{exponent}").parse().unwrap());
        assert_float_comes_back(format!("-9.87654321e{exponent}").parse::<f64>().unwrap().max(f64::MIN));
    }
}

#[test]
fn the_floats_that_json_lacks_are_strings() {
    for (value, stored) in [
        (f64::NAN, escape::NAN),
        (-f64::NAN, escape::NAN),
        (f64::INFINITY, escape::INFINITY),
        (f64::NEG_INFINITY, escape::NEGATIVE_INFINITY),
        (-0.0, escape::NEGATIVE_ZERO),
    ] {
        assert_eq!(float_text(value), format!("\"{stored}\""));
    }
}

#[test]
fn every_string_comes_back() {
    const PIECES: [&str; 14] = [
        "a",
        "\"",
        "\\",
        "/",
        "\n\r\t",
        "\u{8}\u{c}",
        "\u{1}\u{1f}",
        "\u{7f}",
        "ü",
        "😀",
        "\0",
        "\u{fdd0}",
        "\u{ffff}",
        "\u{fdd1}",
    ];
    let mut random = Random::new(5);
    let mut texts: Vec<String> = (0..0x250).filter_map(char::from_u32).map(String::from).collect();
    for _ in 0..20_000 {
        texts.push((0..random.below(40)).map(|_| random.pick(&PIECES)).collect());
    }
    for text in texts {
        let mut out = Vec::new();
        write::string(&mut out, &text);
        let json = String::from_utf8(out).unwrap();
        assert!(!json.contains("\\u0000") && !json.contains('\0'));
        let stored = Reader::new(&json).string().unwrap();
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), stored);
        let mut read = String::new();
        for piece in escape::unescape(&stored) {
            match piece {
                Piece::Text(text) => read.push_str(text),
                Piece::CodePoint(code) => read.push(char::from_u32(code.into()).unwrap()),
            }
        }
        assert_eq!(read, text);
    }
}

#[test]
fn text_in_stored_form_is_not_escaped_again() {
    let mut out = Vec::new();
    write::stored_string(&mut out, "\u{fdd0}0000\"\n");
    assert_eq!(String::from_utf8(out).unwrap(), "\"\u{fdd0}0000\\\"\\n\"");
}

#[test]
fn keys_are_ordered_by_length_in_bytes_and_then_by_bytes() {
    let mut keys = ["b", "aa", "a", "", "ü", "B", "é", "zz", "abc"];
    keys.sort_by(|left, right| write::jsonb_key_order(left, right));
    assert_eq!(keys, ["", "B", "a", "b", "aa", "zz", "é", "ü", "abc"]);
}
