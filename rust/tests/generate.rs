//! Random inputs that are the same on every run, and a JSON value that keeps the order of its keys.

use adk_psqlpy::error::Result;
use adk_psqlpy::json::{Kind, Reader};

/// `SplitMix64`: small, and good enough to pick from lists.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    pub fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.bits() % end as u64).unwrap()
    }

    pub fn pick<'t, T: ?Sized>(&mut self, choices: &[&'t T]) -> &'t T {
        choices[self.below(choices.len())]
    }
}

/// A JSON value; numbers as they are written, strings as they are read, objects in their order.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    Null,
    Bool(bool),
    Number(String),
    String(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

const STRINGS: [&str; 12] = [
    "",
    "a",
    "key",
    "\"",
    "\\",
    "\n\u{1}\u{1f}",
    "ü",
    "\u{fdd0}",
    "\0",
    "😀",
    "\u{ffff}",
    "a longer key than most of them",
];
const NUMBERS: [&str; 8] =
    ["0", "-1", "1.5", "1e3", "-0.0", "2E-7", "123456789012345678901234567890", "10000000000000000.0"];

/// Any value, with objects of distinct keys.
pub fn value(random: &mut Random, depth: usize) -> Value {
    match random.below(if depth == 0 { 5 } else { 8 }) {
        0 => Value::Null,
        1 => Value::Bool(random.below(2) == 0),
        2 => Value::Number(random.pick(&NUMBERS).to_owned()),
        3 | 4 => Value::String(random.pick(&STRINGS).to_owned()),
        5 => Value::Array((0..random.below(4)).map(|_| value(random, depth - 1)).collect()),
        _ => {
            let mut members: Vec<(String, Value)> = Vec::new();
            for _ in 0..random.below(6) {
                let key = format!("{}{}", random.pick(&STRINGS), random.below(4));
                if members.iter().all(|(known, _)| *known != key) {
                    members.push((key, value(random, depth - 1)));
                }
            }
            Value::Object(members)
        }
    }
}

/// Reads a value with every method of the reader, as a decoder would.
pub fn read(reader: &mut Reader<'_>) -> Result<Value> {
    let kind = reader.peek()?;
    Ok(match kind {
        Kind::Null | Kind::True | Kind::False => {
            reader.literal(kind)?;
            if kind == Kind::Null { Value::Null } else { Value::Bool(kind == Kind::True) }
        }
        Kind::Number => Value::Number(reader.number()?.text.to_owned()),
        Kind::String => Value::String(reader.string()?.into_owned()),
        Kind::Array => {
            let mut items = Vec::new();
            let mut more = reader.begin_array()?;
            while more {
                items.push(read(reader)?);
                more = reader.next_element()?;
            }
            Value::Array(items)
        }
        Kind::Object => {
            let mut members = Vec::new();
            let mut key = reader.begin_object()?.map(std::borrow::Cow::into_owned);
            while let Some(name) = key {
                members.push((name, read(reader)?));
                key = reader.next_key()?.map(std::borrow::Cow::into_owned);
            }
            Value::Object(members)
        }
    })
}

/// Reads a whole text.
pub fn read_text(text: &str) -> Result<Value> {
    let mut reader = Reader::new(text);
    let value = read(&mut reader)?;
    reader.finish()?;
    Ok(value)
}

/// The same texts with a few bytes changed, cut off or put in, still UTF-8.
pub fn damaged(random: &mut Random, text: &str) -> String {
    const PIECES: [&str; 30] = [
        "{", "}", "[", "]", "\"", ",", ":", "\\", "\\u", "\\ud83d", "\\ude00", "\\u0000", "0", "1", "-", "+",
        ".", "e", "E", "t", "null", "true", "fals", " ", "\n", "\t", "\u{1}", "\u{7f}", "ü", "/",
    ];
    let mut chars: Vec<char> = text.chars().collect();
    for _ in 0..=random.below(2) {
        let at = random.below(chars.len() + 1);
        match random.below(4) {
            0 => chars.truncate(at),
            1 if at < chars.len() => drop(chars.remove(at)),
            2 if at < chars.len() => {
                let piece = random.pick(&PIECES);
                chars.splice(at..=at, piece.chars());
            }
            _ => {
                let piece = random.pick(&PIECES);
                chars.splice(at..at, piece.chars());
            }
        }
    }
    chars.into_iter().collect()
}
