//! `make bench-crate`, or `. .make/cargo-env && cargo bench`: what the crate takes, beside pydantic and orjson.
//!
//! Decoding and encoding are measured through the extension module as it is installed (`make build`), so with
//! all that a call from Python costs. The groups of [`pure`] need no Python. One file a shape in
//! `benches/shapes`; `benches/cases.py` makes the callables and compares what they give before one is timed.

use std::hint::black_box;
use std::time::{Duration, Instant};
use std::{fs, io};

use adk_psqlpy::columns::{Array, write_array};
use adk_psqlpy::json::Reader;
use adk_psqlpy::write;
use criterion::{Bencher, Criterion, Throughput, criterion_group, criterion_main};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

const BENCHES: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches");
const PACKAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/python");

/// The crate without Python: JSON text passed over, strings written, arrays written and read.
fn pure(c: &mut Criterion) {
    let shapes = shapes().expect("benches/shapes is in the repository");
    let mut group = c.benchmark_group("skip");
    for (name, text) in &shapes {
        let skip = || Reader::from_bytes(text.as_bytes()).and_then(|mut reader| reader.skip().map(str::len));
        assert_eq!(skip(), Ok(text.trim_end().len()), "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| b.iter(skip));
    }
    group.finish();

    let mut group = c.benchmark_group("write_string");
    for (name, piece, stored) in [
        ("ascii", "It is sunny in Paris today. ", "It is sunny in Paris today. "),
        ("escapes", "a \"quoted\" line\n", "a \\\"quoted\\\" line\\n"),
        ("unicode", "21,5 °C, 晴れ ", "21,5 °C, 晴れ "),
    ] {
        let text = piece.repeat(400);
        let mut out = Vec::new();
        write::string(&mut out, &text);
        assert_eq!(out, format!("\"{}\"", stored.repeat(400)).as_bytes(), "{name}");
        group.throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function(name, |b| {
            b.iter(|| {
                out.clear();
                write::string(&mut out, black_box(&text));
            });
        });
    }
    group.finish();

    let values: Vec<Option<&[u8]>> =
        (0..1000).map(|n| (n % 5 != 0).then_some(&b"the value of a column"[..])).collect();
    let array = write_array(3802, values.iter().copied()).expect("not too long");
    let read = || {
        let mut elements = Array::parse(black_box(&array))?;
        (0..elements.len()).try_fold(0, |sum, _| Ok(sum + elements.element()?.map_or(0, <[u8]>::len)))
    };
    assert_eq!(read().map_err(|error: adk_psqlpy::error::Error| error.to_string()), Ok(800 * 21));
    let mut group = c.benchmark_group("columns");
    group.throughput(Throughput::Elements(values.len() as u64));
    group.bench_function("read", |b| b.iter(read));
    group.bench_function("write", |b| b.iter(|| write_array(3802, black_box(&values).iter().copied())));
    group.finish();
}

/// The extension module and its rivals, on Python objects.
fn python(c: &mut Criterion) {
    Python::attach(|py| {
        if let Err(error) = python_cases(py, c) {
            if error.is_instance_of::<pyo3::exceptions::PyImportError>(py) {
                eprintln!(
                    "decode and encode are LEFT OUT, since the Python of PYO3_PYTHON cannot import what they \
                     need ({error}).\n`make build` builds and installs the extension module; then \
                     `. .make/cargo-env && cargo bench`, or `make bench-crate`, which does both."
                );
                return;
            }
            error.print(py);
            panic!("benches/cases.py failed");
        }
    });
}

fn python_cases(py: Python<'_>, c: &mut Criterion) -> PyResult<()> {
    let path = py.import("sys")?.getattr("path")?.cast_into::<PyList>()?;
    path.insert(0, PACKAGE)?;
    path.insert(0, BENCHES)?;
    // google-adk warns of its own experimental features.
    py.import("warnings")?.call_method1("simplefilter", ("ignore",))?;
    let cases = py.import("cases")?.call_method0("cases")?;
    for case in cases.try_iter()? {
        let (name, events, callables): (String, u64, Bound<'_, PyDict>) = case?.extract()?;
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Elements(events));
        for (rival, callable) in callables {
            let call = |b: &mut Bencher<'_>| b.iter_custom(|rounds| timed(&callable, rounds));
            group.bench_function(rival.extract::<String>()?, call);
        }
        group.finish();
    }
    Ok(())
}

/// The time of `rounds` calls, without that of dropping what they return.
fn timed(callable: &Bound<'_, PyAny>, rounds: u64) -> Duration {
    let mut sum = Duration::ZERO;
    for _ in 0..rounds {
        let start = Instant::now();
        let result = callable.call0();
        sum += start.elapsed();
        drop(result.expect("it succeeded before"));
    }
    sum
}

/// Name and text of the files in `benches/shapes`, by name.
fn shapes() -> io::Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("{BENCHES}/shapes"))? {
        let path = entry?.path();
        let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        found.push((name, fs::read_to_string(path)?));
    }
    found.sort();
    Ok(found)
}

criterion_group! {
    name = benches;
    // Half of criterion's own time: 80 measurements, most of them of Python code that varies by percents.
    config = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_millis(2500))
        .sample_size(40);
    targets = pure, python
}
criterion_main!(benches);
