//! Escapes: any text of any code units comes back from the form in which it is stored.
#![no_main]

use adk_psqlpy::escape::{self, Piece};
use adk_psqlpy::json::Reader;
use adk_psqlpy::{row, value, write};
use libfuzzer_sys::fuzz_target;

/// The code points that a stored text stands for.
fn meant(stored: &str) -> Vec<u32> {
    let mut points = Vec::new();
    for piece in escape::unescape(stored) {
        match piece {
            Piece::Text(text) => points.extend(text.chars().map(u32::from)),
            Piece::CodePoint(code) => points.push(code.into()),
        }
    }
    points
}

fuzz_target!(|data: &[u8]| {
    // Any stored text, whoever wrote it, and the one rule of `value`.
    let foreign = String::from_utf8_lossy(data);
    let read = value::text(&foreign);
    assert_eq!(meant(&read), meant(&foreign));
    assert!(escape::float(&read).is_none() || read == foreign);

    // Any text of Python's, lone surrogates included.
    let units: Vec<u16> = data.chunks_exact(2).map(|pair| u16::from_be_bytes([pair[0], pair[1]])).collect();
    let (mut stored, mut points) = (Vec::new(), Vec::<u32>::new());
    for unit in char::decode_utf16(units.iter().copied()) {
        match unit {
            Ok(char) => {
                escape::push_text(&mut stored, char.encode_utf8(&mut [0; 4]));
                points.push(char.into());
            }
            Err(lone) => {
                escape::push_code_point(&mut stored, lone.unpaired_surrogate());
                points.push(lone.unpaired_surrogate().into());
            }
        }
    }
    let stored = String::from_utf8(stored).expect("UTF-8");
    assert!(!stored.contains('\0'));
    assert!(escape::float(&stored).is_none());
    assert_eq!(meant(&stored), points);

    // The same through JSON, where both ways of writing agree.
    let mut json = Vec::new();
    write::stored_string(&mut json, &stored);
    let read = Reader::from_bytes(&json).and_then(|mut reader| Ok(reader.string_value()?.into_owned()));
    assert_eq!(read.as_deref(), Ok(stored.as_str()));
    if let Ok(text) = String::from_utf16(&units) {
        let mut json = Vec::new();
        write::string(&mut json, &text);
        let read = Reader::from_bytes(&json).and_then(|mut reader| Ok(reader.string_value()?.into_owned()));
        assert_eq!(read, Ok(stored.clone()));
    }

    for limit in [0, 1, 7] {
        let (kept, is_cut) = row::cut(&stored, limit);
        assert!(stored.starts_with(kept));
        assert_eq!(is_cut, kept.len() < stored.len());
        assert_eq!(kept.chars().count(), stored.chars().count().min(limit));
    }
});
