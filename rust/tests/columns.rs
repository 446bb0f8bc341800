//! Binary arrays and values: what PostgreSQL sends is read, and what lies about itself is refused.

use adk_psqlpy::columns::{self, Array};
use adk_psqlpy::error::{ErrorKind, Result};

use crate::generate::Random;

const TEXT: u32 = 25;

fn elements(bytes: &[u8]) -> Result<Vec<Option<&[u8]>>> {
    let mut array = Array::parse(bytes)?;
    let mut found = Vec::new();
    while !array.is_empty() {
        found.push(array.element()?);
        assert!(found.len() + array.len() <= bytes.len());
    }
    Ok(found)
}

fn written(values: &[Option<&[u8]>]) -> Vec<u8> {
    columns::write_array(TEXT, values.iter().copied()).unwrap()
}

#[test]
fn arrays_come_back() {
    let mut random = Random::new(8);
    for _ in 0..5_000 {
        let owned: Vec<Option<Vec<u8>>> = (0..random.below(8))
            .map(|_| {
                (random.below(4) > 0)
                    .then(|| (0..random.below(20)).map(|byte| u8::try_from(byte).unwrap()).collect())
            })
            .collect();
        let values: Vec<Option<&[u8]>> = owned.iter().map(Option::as_deref).collect();
        assert_eq!(elements(&written(&values)), Ok(values));
    }
}

#[test]
fn the_bytes_are_those_of_array_send() {
    // SELECT array_send(ARRAY['a', NULL]::text[])
    let sent = b"\0\0\0\x01\0\0\0\x01\0\0\0\x19\0\0\0\x02\0\0\0\x01\0\0\0\x01a\xff\xff\xff\xff";
    assert_eq!(written(&[Some(b"a"), None]), sent);
    // SELECT array_send('{}'::text[])
    assert_eq!(elements(b"\0\0\0\0\0\0\0\0\0\0\0\x19"), Ok(vec![]));
}

#[test]
fn an_array_cut_off_anywhere_is_an_error() {
    let whole = written(&[Some(b"abc"), None, Some(b""), Some(b"0123456789")]);
    for end in 0..whole.len() {
        assert_eq!(elements(&whole[..end]).unwrap_err().kind, ErrorKind::InvalidArray, "{end}");
    }
}

#[test]
fn lengths_that_lie_are_errors() {
    let whole = written(&[Some(b"abc"), Some(b"de")]);
    for (at, lies) in [
        (0, [2, -1, i32::MAX, i32::MIN]),
        (12, [3, -1, i32::MAX, i32::MIN]),
        (20, [100, -2, i32::MAX, i32::MIN]),
    ] {
        for lie in lies {
            let mut bytes = whole.clone();
            bytes[at..at + 4].copy_from_slice(&lie.to_be_bytes());
            assert_eq!(elements(&bytes).unwrap_err().kind, ErrorKind::InvalidArray, "{lie} at {at}");
        }
    }
}

#[test]
fn no_bytes_at_all_panic() {
    let mut random = Random::new(9);
    let whole = written(&[Some(b"abc"), None, Some(b"0123456789")]);
    for _ in 0..50_000 {
        let mut bytes = whole.clone();
        for _ in 0..=random.below(3) {
            let at = random.below(bytes.len());
            bytes[at] = random.bits().to_le_bytes()[0];
        }
        bytes.truncate(random.below(bytes.len() + 1));
        drop(elements(&bytes));
    }
}

#[test]
fn an_array_is_not_read_past_its_end() {
    let bytes = written(&[Some(b"a")]);
    let mut array = Array::parse(&bytes).unwrap();
    assert_eq!((array.len(), array.element()), (1, Ok(Some(&b"a"[..]))));
    assert_eq!(array.element().unwrap_err().kind, ErrorKind::InvalidArray);
}

#[test]
fn jsonb_has_a_version() {
    assert_eq!(columns::jsonb(b"\x01{}"), Ok(&b"{}"[..]));
    for bytes in [&b""[..], b"\x02{}", b"{}"] {
        assert_eq!(columns::jsonb(bytes).unwrap_err().kind, ErrorKind::InvalidJsonb);
    }
}

#[test]
fn integers_have_eight_bytes() {
    assert_eq!(columns::int64(&(-5i64).to_be_bytes()), Ok(-5));
    for bytes in [&[][..], &[0; 7], &[0; 9]] {
        assert!(columns::int64(bytes).is_err());
    }
}

#[test]
fn times_count_from_the_year_2000() {
    // SELECT timestamptz_send('2000-01-01 00:00:00Z'), timestamptz_send('1970-01-01 00:00:00.000001Z')
    assert_eq!(columns::timestamptz(946_684_800_000_000), [0; 8]);
    assert_eq!(columns::timestamptz(1), (-946_684_799_999_999i64).to_be_bytes());
    let mut random = Random::new(10);
    for _ in 0..10_000 {
        let micros = random.bits().cast_signed() >> 2;
        assert_eq!(columns::unix_micros(&columns::timestamptz(micros)), Ok(micros));
    }
    // 'infinity'
    assert!(columns::unix_micros(&i64::MAX.to_be_bytes()).is_err());
}

#[test]
fn seconds_are_rounded_to_the_nearest_microsecond() {
    for (seconds, micros) in [
        (0.0, 0),
        (-0.0, 0),
        (1e-9, 0),
        (5e-7, 0),
        (6e-7, 1),
        (-1.5, -1_500_000),
        (1.7e9 + 0.25, 1_700_000_000_250_000),
    ] {
        assert_eq!(columns::micros_from_seconds(seconds), Some(micros), "{seconds}");
    }
}

#[test]
fn seconds_outside_timestamptz_are_none() {
    for seconds in
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -210_866_803_201.0, 9_224_318_016_001.0]
    {
        assert_eq!(columns::micros_from_seconds(seconds), None, "{seconds}");
    }
    assert!(columns::micros_from_seconds(-210_866_803_200.0).is_some());
}

#[test]
fn the_last_days_of_timestamptz_are_not_run_together() {
    // The last second is 294276-12-31 23:59:59; microseconds since 1970 leave i64 eleven days before.
    let (early, late) = (
        columns::micros_from_seconds(9_223_372_036_860.0),
        columns::micros_from_seconds(9_224_318_015_999.0),
    );
    assert!(early.is_none() && late.is_none() || early != late, "{early:?} {late:?}");
}
