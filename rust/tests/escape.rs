//! Escapes: every special comes back, and nothing else is touched.

use adk_psqlpy::escape::{self, Piece};

use crate::generate::Random;

/// What a stored text stands for, as code points: surrogates have no `char`.
fn code_points(stored: &str) -> Vec<u32> {
    let mut found = Vec::new();
    for piece in escape::unescape(stored) {
        match piece {
            Piece::Text(text) => found.extend(text.chars().map(u32::from)),
            Piece::CodePoint(code) => found.push(code.into()),
        }
    }
    found
}

/// Code points as the encoder stores them.
fn stored(points: &[u32]) -> String {
    let mut out = Vec::new();
    for point in points {
        match char::from_u32(*point) {
            Some(char) => escape::push_text(&mut out, char.encode_utf8(&mut [0; 4])),
            None => escape::push_code_point(&mut out, u16::try_from(*point).unwrap()),
        }
    }
    String::from_utf8(out).unwrap()
}

#[test]
fn every_code_point_comes_back() {
    for point in 0..0x11_0000 {
        let text = stored(&[point]);
        assert_eq!(code_points(&text), [point]);
        let special = matches!(point, 0 | 0xfdd0 | 0xd800..0xe000);
        assert_eq!(escape::is_escaped(&text), special, "{point:x}");
        assert!(!text.contains('\0'));
    }
}

#[test]
fn specials_come_back_among_others_and_beside_digits_that_look_like_escapes() {
    const POINTS: [u32; 12] = [0, 0xfdd0, 0xd83d, 0xde00, 0xdfff, 48, 48, 48, 100, 70, 0xe9, 0x1f600];
    let mut random = Random::new(3);
    for _ in 0..20_000 {
        let points: Vec<u32> = (0..random.below(10)).map(|_| POINTS[random.below(POINTS.len())]).collect();
        assert_eq!(code_points(&stored(&points)), points);
    }
}

#[test]
fn a_text_is_escaped_as_its_characters_are() {
    let mut whole = Vec::new();
    escape::push_text(&mut whole, "\0a\u{fdd0}\u{fdd0}ü\0");
    let points: Vec<u32> = "\0a\u{fdd0}\u{fdd0}ü\0".chars().map(u32::from).collect();
    assert_eq!(String::from_utf8(whole).unwrap(), stored(&points));
}

#[test]
fn a_lead_that_leads_nothing_stands_for_itself() {
    for text in [
        "\u{fdd0}",
        "\u{fdd0}000",
        "\u{fdd0}0001",
        "\u{fdd0}D83D",
        "\u{fdd0}fdd1",
        "\u{fdd0}e000",
        "\u{fdd0}ü000",
        "\u{fdd0}+000",
    ] {
        let points: Vec<u32> = text.chars().map(u32::from).collect();
        assert_eq!(code_points(text), points, "{text:?}");
    }
    // The first lead has no form behind it, the second has.
    assert_eq!(code_points("\u{fdd0}\u{fdd0}0000"), [0xfdd0, 0]);
}

#[test]
fn the_floats_that_json_lacks_have_a_string_each() {
    assert!(escape::float(escape::NAN).is_some_and(f64::is_nan));
    assert_eq!(escape::float(escape::INFINITY), Some(f64::INFINITY));
    assert_eq!(escape::float(escape::NEGATIVE_INFINITY), Some(f64::NEG_INFINITY));
    assert_eq!(escape::float(escape::NEGATIVE_ZERO).map(f64::to_bits), Some((-0.0f64).to_bits()));
    for text in ["", "NaN", "\u{fdd0}", "\u{fdd0}nan", "\u{fdd0}NaN ", "\u{fdd0}fdd0NaN", "\u{fdd0}0.0"] {
        assert_eq!(escape::float(text), None, "{text:?}");
    }
}

#[test]
fn no_string_is_stored_as_a_float() {
    for text in [escape::NAN, escape::INFINITY, escape::NEGATIVE_INFINITY, escape::NEGATIVE_ZERO] {
        let points: Vec<u32> = text.chars().map(u32::from).collect();
        assert_eq!(escape::float(&stored(&points)), None);
    }
}
