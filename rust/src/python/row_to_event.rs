//! Rows to events.

use pyo3::exceptions::PyValueError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyBytesMethods, PyDict, PyFloat, PyList, PyTuple};

use super::decode::{Decoder, find};
use super::errors::{Converted, Failure};
use super::instance::Instance;
use super::objects::CollectorPause;
use super::plan::{Model, Node};
use super::recording::{Recorder, Recording};
use super::seal::{self, Opener, Scope};
use super::strings::string;
use crate::columns::{self, Array};
use crate::error::{Error, ErrorKind};
use crate::json::{Kind, Reader};
use crate::order::Hint;
use crate::row::{self, COLUMNS, EXACT_TIMESTAMP, EXTRA, ORDER, OWN_ARRAYS, TOOL_IDS, Type, WHOLE_TEXTS};
use crate::write;

/// The events of one session, chunk after chunk.
///
/// A chunk has one array for each of the first [`OWN_ARRAYS`] of [`COLUMNS`]. Its last array has JSON objects
/// with the other columns, as text or jsonb. Each array is the value of `array_agg` in binary, or `None` if
/// there was no row.
#[pyfunction]
#[pyo3(signature = (*chunks, place, seal=None))]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
pub fn decode_events<'py>(
    py: Python<'py>,
    chunks: &Bound<'py, PyTuple>,
    place: &str,
    seal: Option<Scope<'py>>,
) -> PyResult<Bound<'py, PyList>> {
    let plan = super::plan(py)?;
    let opener = seal.as_ref().map(Opener::new);
    let _pause = CollectorPause::new(py);
    let events = PyList::empty(py);
    let mut decoder = Decoder::new(py, plan);
    for chunk in chunks.iter() {
        decode_chunk(&mut decoder, &chunk.cast_into::<PyTuple>()?, place, opener.as_ref(), &events)?;
    }
    opener.map_or(Ok(()), |opener| opener.finish(py))?;
    Ok(events)
}

/// The events of chunks, and a recording of each chunk. A chunk is one of these: a recording, a tuple of
/// arrays as in [`decode_events`], or a list of rows as [`super::event_to_row::encode_event`] gives them.
#[pyfunction]
#[pyo3(signature = (*chunks, place))]
pub fn record_events<'py>(
    py: Python<'py>,
    chunks: &Bound<'py, PyTuple>,
    place: &str,
) -> PyResult<(Bound<'py, PyList>, Vec<Bound<'py, Recording>>)> {
    let plan = super::plan(py)?;
    let _pause = CollectorPause::new(py);
    let events = PyList::empty(py);
    let mut decoder = Decoder::new(py, plan);
    let mut recordings = Vec::with_capacity(chunks.len());
    for chunk in chunks.iter() {
        let recording = match chunk.cast_into::<Recording>() {
            Ok(recording) => {
                recording.get().play(py, plan, &events)?;
                recording
            }
            Err(other) => {
                let first = events.len();
                decoder.recorder = Some(Recorder::default());
                match other.into_inner().cast_into::<PyList>() {
                    Ok(rows) => decode_rows(&mut decoder, &rows, place, &events)?,
                    Err(arrays) => {
                        let arrays = arrays.into_inner().cast_into::<PyTuple>()?;
                        decode_chunk(&mut decoder, &arrays, place, None, &events)?;
                    }
                }
                let recording = decoder.recorder.take().unwrap_or_default().finish();
                recording.lend(events.iter().skip(first));
                Bound::new(py, recording)?
            }
        };
        recordings.push(recording);
    }
    Ok((events, recordings))
}

fn decode_chunk<'py>(
    decoder: &mut Decoder<'py, '_>,
    arrays: &Bound<'py, PyTuple>,
    place: &str,
    opener: Option<&Opener<'_>>,
    events: &Bound<'py, PyList>,
) -> PyResult<()> {
    if arrays.len() != OWN_ARRAYS + 1 {
        return Err(PyValueError::new_err(format!(
            "decode_events takes {} arrays, not {}",
            OWN_ARRAYS + 1,
            arrays.len()
        )));
    }
    let mut buffers: Vec<Bound<'py, PyBytes>> = Vec::with_capacity(arrays.len());
    for array in arrays.iter() {
        if array.is_none() {
            return Ok(());
        }
        buffers.push(array.cast_into::<PyBytes>()?);
    }
    let mut columns = Vec::with_capacity(buffers.len());
    for (index, buffer) in buffers.iter().enumerate() {
        let array = Array::parse(buffer.as_bytes());
        columns.push(array.map_err(|error| malformed(place, "", column_name(index), error))?);
    }
    while !columns[0].is_empty() {
        let mut values = [None; OWN_ARRAYS + 1];
        for (index, column) in columns.iter_mut().enumerate() {
            values[index] = column
                .element()
                .map_err(|error| malformed(place, &event_id(&values), column_name(index), error))?;
        }
        let plain = seal::open_row(&values, opener, place).map_err(|(column, failure)| {
            failure.raise(decoder.py(), &format!("{place}, event {:?}, column {column}", event_id(&values)))
        })?;
        if let Some(plain) = &plain {
            plain.replace(&mut values);
        }
        if opener.is_some_and(Opener::lacks_keys) {
            continue; // from now on, the loop only collects the missing keys of the other rows
        }
        events.append(event(decoder, &values, place)?)?;
        if let Some(recorder) = &mut decoder.recorder {
            recorder.event();
        }
    }
    match columns.iter().position(|column| !column.is_empty()) {
        None => Ok(()),
        Some(index) => {
            let error = Error { kind: ErrorKind::InvalidArray, at: 0 };
            Err(malformed(place, "", column_name(index), error))
        }
    }
}

/// The events of rows as they were sent to the server. The server writes the JSON differently, but the same
/// values are read from it.
fn decode_rows<'py>(
    decoder: &mut Decoder<'py, '_>,
    rows: &Bound<'py, PyList>,
    place: &str,
    events: &Bound<'py, PyList>,
) -> PyResult<()> {
    for row in rows.iter() {
        let row: [Option<Bound<'py, PyBytes>>; COLUMNS.len()] = row.extract()?;
        let row = row.each_ref().map(|value| value.as_ref().map(PyBytesMethods::as_bytes));
        let rare = rare(&row)
            .map_err(|(column, failure)| failure.raise(decoder.py(), &format!("{place}, column {column}")))?;
        let mut values = [None; OWN_ARRAYS + 1];
        values[..OWN_ARRAYS].copy_from_slice(&row[..OWN_ARRAYS]);
        values[OWN_ARRAYS] = rare.as_deref();
        events.append(event(decoder, &values, place)?)?;
        if let Some(recorder) = &mut decoder.recorder {
            recorder.event();
        }
    }
    Ok(())
}

/// The rare columns of a row as one JSON object, in the form in which the server gives them.
fn rare(row: &[Option<&[u8]>; COLUMNS.len()]) -> At<Option<Vec<u8>>> {
    let mut object = Vec::new();
    for (column, value) in COLUMNS.iter().zip(row).skip(OWN_ARRAYS) {
        let Some(value) = value else { continue };
        object.push(if object.is_empty() { b'{' } else { b',' });
        write::stored_string(&mut object, column.name);
        object.push(b':');
        match column.kind {
            Type::Jsonb => {
                object.extend_from_slice(columns::jsonb(value).map_err(|error| (column.name, error.into()))?);
            }
            Type::Boolean => object.extend_from_slice(if *value == [1] { b"true" } else { b"false" }),
            _ => write::stored_string(&mut object, utf8(value).map_err(|error| (column.name, error.into()))?),
        }
    }
    if object.is_empty() {
        return Ok(None);
    }
    object.push(b'}');
    Ok(Some(object))
}

fn column_name(index: usize) -> &'static str {
    COLUMNS.get(index).filter(|_| index < OWN_ARRAYS).map_or("rare", |column| column.name)
}

/// The id of the event with these values, for messages. It is empty before the id was read.
fn event_id<'b>(values: &[Option<&'b [u8]>; OWN_ARRAYS + 1]) -> std::borrow::Cow<'b, str> {
    String::from_utf8_lossy(values[0].unwrap_or_default())
}

fn malformed(place: &str, event: &str, column: &str, error: Error) -> PyErr {
    PyValueError::new_err(format!("{place}, event {event:?}, column {column}: {error}"))
}

/// A row as it is stored. The values are borrowed from the arrays; the rest comes from `extra`.
struct StoredEvent<'b> {
    /// Columns with an array of their own have binary values, the others JSON texts. `extra` is not here.
    values: [Option<&'b [u8]>; COLUMNS.len()],
    extra: Option<&'b str>,
    timestamp: Option<f64>,
    whole: Vec<(String, String)>,
    hints: Vec<(String, String)>,
}

fn event<'py>(
    decoder: &mut Decoder<'py, '_>,
    values: &[Option<&[u8]>; OWN_ARRAYS + 1],
    place: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let py = decoder.py();
    let at = |column: &str| format!("{place}, event {:?}, column {column}", event_id(values));
    let mut stored = StoredEvent::read(values).map_err(|(column, failure)| failure.raise(py, &at(column)))?;
    let model = &decoder.plan().models[decoder.plan().event];
    let mark = decoder.mark();
    if model.slow.is_none() {
        match stored.instance(decoder) {
            Err((_, Failure::Foreign)) => {}
            made => return made.map_err(|(column, failure)| failure.raise(py, &at(column))),
        }
        decoder.rewind(mark);
    }
    let fields = stored.plain(decoder).map_err(|(column, failure)| failure.raise(py, &at(column)))?;
    let made = model.class.bind(py).call_method1(intern!(py, "model_validate"), (fields,));
    let place = || format!("{place}, event {:?}", event_id(values));
    let made = made.map_err(|error| Failure::Raised(error).raise(py, &place()))?;
    decoder.copied(mark, &made)?;
    Ok(made)
}

/// A result; a failure comes with the column in which it happened.
type At<T> = Result<T, (&'static str, Failure)>;

impl<'b> StoredEvent<'b> {
    fn read(values: &[Option<&'b [u8]>; OWN_ARRAYS + 1]) -> At<Self> {
        let mut stored = Self {
            values: [None; COLUMNS.len()],
            extra: None,
            timestamp: None,
            whole: Vec::new(),
            hints: Vec::new(),
        };
        stored.values[..OWN_ARRAYS].copy_from_slice(&values[..OWN_ARRAYS]);
        if let Some(rare) = values[OWN_ARRAYS] {
            stored.read_rare(rare).map_err(|failure| ("rare", failure))?;
        }
        if let Some(extra) = stored.values[EXTRA].take() {
            stored.read_extra(extra).map_err(|failure| ("extra", failure))?;
        }
        Ok(stored)
    }

    fn read_rare(&mut self, rare: &'b [u8]) -> Converted<()> {
        members(utf8(columns::json(rare))?, |name, text| {
            if text != "null"
                && let Some(index) = row::index_of(name).filter(|index| *index >= OWN_ARRAYS)
            {
                self.values[index] = Some(text.as_bytes());
            }
            Ok(())
        })
    }

    /// Takes the order hints out of `extra`, if there are any. The rest of `extra` is read with the fields.
    fn read_extra(&mut self, extra: &'b [u8]) -> Converted<()> {
        let text = utf8(columns::jsonb(extra)?)?;
        // Few of them have this byte, and searching for one byte is faster than searching for the name.
        if memchr::memchr(b'$', text.as_bytes()).is_some() {
            members(text, |name, value| {
                if name == ORDER {
                    self.hints = texts(value)?;
                }
                Ok(())
            })?;
        }
        self.extra = Some(text);
        Ok(())
    }

    fn hint(&self, key: &str) -> Hint {
        let hint = self.hints.iter().find(|(field, _)| field == key);
        hint.map_or_else(Hint::default, |(_, hint)| Hint::parse(hint))
    }

    /// Makes the event without pydantic. `extra` is read first: it says how to read some of the columns.
    fn instance<'py>(&mut self, decoder: &mut Decoder<'py, '_>) -> At<Bound<'py, PyAny>> {
        let plan = decoder.plan();
        let model = &plan.models[plan.event];
        let mut instance =
            Instance::begin(decoder.py(), plan, plan.event).map_err(|error| ("id", error.into()))?;
        self.set_extra(decoder, model, &mut instance).map_err(|failure| ("extra", failure))?;
        for (index, column) in plan.columns.iter().enumerate() {
            if let Some(column) = *column
                && let Some(value) = self.values[column]
            {
                let field = &model.fields[index];
                self.column(decoder, column, &field.key, &field.node, value)
                    .and_then(|value| instance.set(index, &value))
                    .map_err(|failure| (COLUMNS[column].name, failure))?;
            }
        }
        decoder.finish(instance).map_err(|failure| ("id", failure))
    }

    fn set_extra<'py>(
        &mut self,
        decoder: &mut Decoder<'py, '_>,
        model: &Model,
        instance: &mut Instance<'py, '_>,
    ) -> Converted<()> {
        let Some(extra) = self.extra else {
            return Ok(());
        };
        let mut reader = Reader::new(extra);
        if reader.peek()? != Kind::Object {
            return Err(Failure::Foreign);
        }
        let mut expected = 0;
        let mut key = reader.begin_object()?;
        while let Some(name) = key {
            if name.starts_with('$') {
                let text = reader.skip()?;
                self.note(&name, text)?;
            } else {
                let index = find(model, &name, &mut expected).ok_or(Failure::Foreign)?;
                let field = &model.fields[index];
                if decoder.plan().columns[index].is_some() || field.key != name {
                    return Err(Failure::Foreign);
                }
                let hint = self.hint(&name);
                let value = if hint.is_empty() {
                    decoder.next_value(&mut reader, &field.node, &hint)?
                } else {
                    // The hint counts the objects of this field alone.
                    decoder.document(reader.skip()?, &field.node, &hint)?
                };
                instance.set(index, &value)?;
            }
            key = reader.next_key()?;
        }
        Ok(reader.finish()?)
    }

    /// Reads one of the keys that the storage itself wrote in `extra`.
    fn note(&mut self, name: &str, text: &str) -> Converted<()> {
        match name {
            EXACT_TIMESTAMP => self.timestamp = row::exact_timestamp(text),
            WHOLE_TEXTS => self.whole = texts(text)?,
            _ => {}
        }
        Ok(())
    }

    fn column<'py>(
        &self,
        decoder: &mut Decoder<'py, '_>,
        index: usize,
        key: &str,
        node: &Node,
        value: &[u8],
    ) -> Converted<Bound<'py, PyAny>> {
        let py = decoder.py();
        let column = COLUMNS[index];
        let rare = index >= OWN_ARRAYS;
        match column.kind {
            Type::Timestamptz => {
                let micros = columns::unix_micros(value)?;
                // If somebody changed the column after the append, the exact value is not valid any more.
                let exact =
                    self.timestamp.filter(|exact| columns::micros_from_seconds(*exact) == Some(micros));
                let seconds = exact.unwrap_or_else(|| columns::seconds_from_micros(micros));
                Ok(decoder.leaf(PyFloat::new(py, seconds).into_any()))
            }
            Type::Varchar => {
                let text =
                    if rare { Reader::from_bytes(value)?.string_value()? } else { utf8(value)?.into() };
                if let Some((_, whole)) = self.whole.iter().find(|(name, _)| name == key) {
                    let limit = column.limit.unwrap_or(usize::MAX);
                    if row::cut(whole, limit).0 == text {
                        return Ok(decoder.leaf(string(py, whole)?.into_any()));
                    }
                }
                let text = if index == 0 { string(py, &text)? } else { decoder.repeated(&text)? };
                Ok(decoder.leaf(text.into_any()))
            }
            Type::Text => {
                let text = Reader::from_bytes(value)?.string_value()?;
                decoder.document(&text, node, &Hint::default())
            }
            Type::Bytea => decoder.document(utf8(value)?, node, &Hint::default()),
            Type::Jsonb | Type::Boolean => {
                let text = utf8(if rare { value } else { columns::jsonb(value)? })?;
                decoder.document(text, node, &self.hint(key))
            }
        }
    }

    /// The fields of the event as plain JSON values, for pydantic.
    fn plain<'py>(&mut self, decoder: &mut Decoder<'py, '_>) -> At<Bound<'py, PyDict>> {
        let dict = PyDict::new(decoder.py());
        if let Some(extra) = self.extra {
            members(extra, |name, text| {
                if name.starts_with('$') {
                    return self.note(name, text);
                }
                let value = decoder.any_document(text, &self.hint(name))?;
                Ok(dict.set_item(decoder.repeated(name)?, value)?)
            })
            .map_err(|failure| ("extra", failure))?;
        }
        for (index, column) in COLUMNS.iter().enumerate() {
            let Some(value) = self.values[index] else {
                continue;
            };
            let key = if column.kind == Type::Text { TOOL_IDS } else { column.name };
            self.column(decoder, index, key, &Node::Any, value)
                .and_then(|value| Ok(dict.set_item(key, value)?))
                .map_err(|failure| (column.name, failure))?;
        }
        Ok(dict)
    }
}

fn utf8(bytes: &[u8]) -> crate::error::Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error { kind: ErrorKind::InvalidUtf8, at: error.valid_up_to() })
}

/// Calls `each` with the name and the JSON text of each member of an object.
fn members<'b>(text: &'b str, mut each: impl FnMut(&str, &'b str) -> Converted<()>) -> Converted<()> {
    let mut reader = Reader::new(text);
    if reader.peek()? != Kind::Object {
        return Err(Failure::Foreign);
    }
    let mut key = reader.begin_object()?;
    while let Some(name) = key {
        each(&name, reader.skip()?)?;
        key = reader.next_key()?;
    }
    Ok(reader.finish()?)
}

/// The members of an object whose values are strings.
fn texts(text: &str) -> Converted<Vec<(String, String)>> {
    let mut found = Vec::new();
    members(text, |name, value| {
        found.push((name.to_owned(), Reader::new(value).string_value()?.into_owned()));
        Ok(())
    })?;
    Ok(found)
}
