//! Rows and arrays to events: no bytes make it panic, and an event survives serde.
//!
//! The input's first byte says what the rest is: an odd one, eight arrays between bytes 0x1d; an even one,
//! rows between 0x1e of values between 0x1f, empty for NULL, to which jsonb's version byte is added
//! (0x02 in front prevents it), read as rows and as the arrays made of them.
#![no_main]

use adk_psqlpy::columns::write_array;
use adk_psqlpy::event::{Event, Events};
use adk_psqlpy::row::{COLUMNS, OWN_ARRAYS, Type};
use adk_psqlpy::stored::EventError;
use libfuzzer_sys::fuzz_target;

type Value = Option<Vec<u8>>;

fn check(event: Result<Event, EventError>) {
    match event {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(event) => {
            let text = serde_json::to_string(&event).expect("strings as keys, finite numbers");
            // An object with this key is how serde_json hands numbers around.
            if !text.contains("serde_json") {
                let again: Event = serde_json::from_str(&text).expect("what was just written");
                assert_eq!(again, event);
            }
        }
    }
}

fn check_arrays(arrays: &[Option<&[u8]>; OWN_ARRAYS + 1]) {
    if let Ok(events) = Events::parse(arrays) {
        events.for_each(check);
    }
}

/// The value of one column, or of the object that holds the rare ones.
fn value(index: usize, bytes: &[u8]) -> Value {
    let jsonb = COLUMNS.get(index).is_none_or(|column| column.kind == Type::Jsonb);
    match bytes {
        [] => None,
        [2, verbatim @ ..] => Some(verbatim.to_vec()),
        text if jsonb => Some([b"\x01", text].concat()),
        other => Some(other.to_vec()),
    }
}

fn row<const N: usize>(bytes: &[u8], rare: usize) -> [Value; N] {
    let mut row = [const { None }; N];
    for (index, (slot, bytes)) in row.iter_mut().zip(bytes.split(|byte| *byte == 0x1f)).enumerate() {
        *slot = value(if index == rare { COLUMNS.len() } else { index }, bytes);
    }
    row
}

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else {
        return;
    };
    if mode % 2 == 1 {
        let mut arrays = [None; OWN_ARRAYS + 1];
        for (array, bytes) in arrays.iter_mut().zip(data.split(|byte| *byte == 0x1d)) {
            *array = Some(bytes);
        }
        check_arrays(&arrays);
        return;
    }
    let mut columns: [Vec<Value>; OWN_ARRAYS + 1] = Default::default();
    for bytes in data.split(|byte| *byte == 0x1e) {
        let values: [Value; COLUMNS.len()] = row(bytes, COLUMNS.len());
        check(Event::from_row(&values.each_ref().map(Option::as_deref)));
        let elements: [Value; OWN_ARRAYS + 1] = row(bytes, OWN_ARRAYS);
        for (column, element) in columns.iter_mut().zip(elements) {
            column.push(element);
        }
    }
    let arrays = columns.map(|column| {
        let values: Vec<Option<&[u8]>> = column.iter().map(Option::as_deref).collect();
        write_array(25, values.into_iter()).expect("less than 2 GB")
    });
    check_arrays(&arrays.each_ref().map(|array| Some(array.as_slice())));
});
