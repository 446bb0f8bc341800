//! The array reader: no bytes make it panic or read on behind them, and what it reads can be written again.
#![no_main]

use adk_psqlpy::columns::{self, Array};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    for scalar in [columns::int64(data).is_ok(), columns::unix_micros(data).is_ok()] {
        assert!(!scalar || data.len() == 8);
    }
    assert_eq!(columns::jsonb(data).is_ok(), data.first() == Some(&1));
    let Ok(mut array) = Array::parse(data) else {
        return;
    };
    let count = array.len();
    assert!(count <= data.len());
    let mut elements = Vec::new();
    while !array.is_empty() {
        match array.element() {
            Ok(element) => elements.push(element),
            Err(error) => {
                assert!(error.at <= data.len());
                return;
            }
        }
    }
    assert_eq!(elements.len(), count);
    assert!(array.element().is_err());
    let written = columns::write_array(25, elements.iter().copied()).expect("less than 2 GB");
    // There is one way to write elements; behind the last one there may be anything.
    assert!(count == 0 || data[20..].starts_with(&written[20..]));
    let mut again = Array::parse(&written).expect("what was just written");
    assert_eq!(again.len(), count);
    for element in elements {
        assert_eq!(again.element(), Ok(element));
    }
});
