//! Events to rows.

use std::cell::Cell;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyList, PySet, PyString};

use super::encode::fields::{bits, present};
use super::encode::{Encoder, Foreign};
use super::errors::{Converted, Failure};
use super::objects;
use super::plan::{Node, Plan};
use super::strings::stored;
use crate::columns;
use crate::row::{self, COLUMNS, Column, EXACT_TIMESTAMP, EXTRA, ORDER, Type, WHOLE_TEXTS};
use crate::scan;
use crate::write;

/// An event as the values of [`COLUMNS`], in PostgreSQL's binary format.
#[pyfunction]
pub fn encode_event<'py>(
    py: Python<'py>,
    event: &Bound<'py, PyAny>,
    key_length: usize,
) -> PyResult<Bound<'py, PyList>> {
    let plan = super::plan(py)?;
    let Buffers { text, mut extra } = BUFFERS.take();
    extra.clear();
    extra.push(1);
    let mut row = Row {
        py,
        plan,
        key_length,
        values: Default::default(),
        encoder: Encoder::new(py, plan, text, true, Foreign::LikeEvent),
        extra,
        whole: Vec::new(),
        order: Vec::new(),
    };
    row.fill(event)?;
    let buffers = Buffers { text: row.encoder.out, extra: row.extra };
    if buffers.text.capacity() + buffers.extra.capacity() <= MOST_KEPT {
        BUFFERS.set(buffers);
    }
    PyList::new(py, row.values)
}

/// The buffers with which a thread wrote its last event, kept for its next one.
#[derive(Default)]
struct Buffers {
    text: Vec<u8>,
    extra: Vec<u8>,
}

/// Larger buffers are given back, in bytes.
const MOST_KEPT: usize = 1 << 20;

thread_local! {
    static BUFFERS: Cell<Buffers> = Cell::default();
}

/// The values of one row while they are made.
struct Row<'py, 'p> {
    py: Python<'py>,
    plan: &'p Plan,
    key_length: usize,
    values: [Option<Bound<'py, PyBytes>>; COLUMNS.len()],
    /// Holds the JSON text written last.
    encoder: Encoder<'py, 'p>,
    /// A jsonb object without its closing brace, like the two below, which go into it in the end.
    extra: Vec<u8>,
    whole: Vec<u8>,
    order: Vec<u8>,
}

/// A field of an event: its name, what the plan says about it, and where it is kept.
#[derive(Clone, Copy)]
struct Field<'f> {
    key: &'f str,
    node: &'f Node,
    /// An index in [`COLUMNS`]; `None` for `extra`.
    column: Option<usize>,
}

impl<'py> Row<'py, '_> {
    fn fill(&mut self, event: &Bound<'py, PyAny>) -> PyResult<()> {
        let model = &self.plan.models[self.plan.event];
        let known = model.slow_to_encode.is_none() && event.get_type().is(&model.class);
        let mut values = Vec::with_capacity(16);
        let present = if known {
            present(model, &objects::dict(event)?, self.plan.dicts, &mut values).ok()
        } else {
            None
        };
        let Some(present) = present else {
            return self.fill_from_dump(event);
        };
        for (index, value) in bits(present).zip(values.iter().flatten()) {
            let (key, node) = (model.fields[index].key.as_str(), &model.fields[index].node);
            let field = Field { key, node, column: self.plan.columns[index] };
            let done = if model.fields[index].custom_serializer {
                Err(Failure::Foreign)
            } else {
                self.field(field, value, true)
            };
            let done = match done {
                Err(Failure::Foreign) => self.dumped_field(event, field),
                done => done,
            };
            done.map_err(|failure| failure.raise(self.py, &format!("event field {key}")))?;
        }
        self.finish();
        Ok(())
    }

    /// A field as pydantic dumps it.
    fn dumped_field(&mut self, event: &Bound<'py, PyAny>, field: Field<'_>) -> Converted<()> {
        match dump(event, Some(field.key))?.get_item(field.key)? {
            Some(value) => self.field(field, &value, false),
            None => Ok(()),
        }
    }

    /// For subclasses of `Event`, and for events that lack something: all fields as pydantic dumps them.
    fn fill_from_dump(&mut self, event: &Bound<'py, PyAny>) -> PyResult<()> {
        let model = &self.plan.models[self.plan.event];
        for (name, value) in dump(event, None)?.iter() {
            let name = name.cast_into::<PyString>()?;
            let key = name.to_str()?;
            let known = model.fields.iter().find(|field| field.key == key);
            let field = Field {
                key,
                node: known.map_or(&Node::Any, |field| &field.node),
                column: row::column_of_field(key),
            };
            self.field(field, &value, false)
                .map_err(|failure| failure.raise(self.py, &format!("event field {key}")))?;
        }
        self.finish();
        Ok(())
    }

    /// Puts one field where it belongs. `instances` tells objects of the models from their dumps.
    fn field(&mut self, field: Field<'_>, value: &Bound<'py, PyAny>, instances: bool) -> Converted<()> {
        let Field { key, node, column } = field;
        let Some(index) = column else {
            let hint = self.json(node, value, instances, true)?;
            start_member(&mut self.extra, key);
            self.extra.extend_from_slice(&self.encoder.out[1..]);
            self.hint(key, hint);
            return Ok(());
        };
        let column = COLUMNS[index];
        let bytes = match column.kind {
            Type::Jsonb => {
                let hint = self.json(node, value, instances, true)?;
                self.hint(key, hint);
                PyBytes::new(self.py, &self.encoder.out)
            }
            Type::Bytea => {
                self.json(node, value, instances, false)?;
                PyBytes::new(self.py, &self.encoder.out[1..])
            }
            Type::Boolean => PyBytes::new(self.py, &[u8::from(value.cast_exact::<PyBool>()?.is_true())]),
            Type::Timestamptz => self.timestamp(value)?,
            Type::Text => {
                // A set has no order, so the ids are kept sorted, as ADK itself writes them.
                let builtins = self.py.import(intern!(self.py, "builtins"))?;
                let sorted = builtins.call_method1(intern!(self.py, "sorted"), (value,))?;
                self.json(&Node::List(Box::new(Node::Str)), &sorted, true, false)?;
                PyBytes::new(self.py, &self.encoder.out[1..])
            }
            Type::Varchar => self.text(&column, value)?,
        };
        self.values[index] = Some(bytes);
        Ok(())
    }

    fn text(&mut self, column: &Column, value: &Bound<'py, PyAny>) -> Converted<Bound<'py, PyBytes>> {
        let text = stored(value.cast_exact::<PyString>()?)?;
        let Some(limit) = column.limit else {
            check_identifier(&text, self.key_length)?;
            return Ok(PyBytes::new(self.py, text.as_bytes()));
        };
        let (kept, is_cut) = row::cut(&text, limit);
        if is_cut {
            start_member(&mut self.whole, column.name);
            write::stored_string(&mut self.whole, &text);
        }
        Ok(PyBytes::new(self.py, kept.as_bytes()))
    }

    fn timestamp(&mut self, value: &Bound<'py, PyAny>) -> Converted<Bound<'py, PyBytes>> {
        let seconds = match value.cast_exact::<PyFloat>() {
            Ok(seconds) => seconds.value(),
            Err(_) => value.extract::<f64>().map_err(|_| Failure::Foreign)?,
        };
        let micros = columns::micros_from_seconds(seconds).ok_or_else(|| {
            Failure::Refused(format!("{seconds} is outside what is kept (4713 BC to 294246 AD)"))
        })?;
        if columns::seconds_from_micros(micros).to_bits() != seconds.to_bits() {
            start_member(&mut self.extra, EXACT_TIMESTAMP);
            write::float(&mut self.extra, seconds);
        }
        Ok(PyBytes::new(self.py, &columns::timestamptz(micros)))
    }

    /// Writes a JSON text, behind jsonb's version byte; gives its order hint if it is for JSONB (`sorted`).
    fn json(
        &mut self,
        node: &Node,
        value: &Bound<'py, PyAny>,
        instances: bool,
        sorted: bool,
    ) -> Converted<Option<String>> {
        self.encoder.restart(sorted);
        if instances {
            self.encoder.value(node, value, 0)?;
        } else {
            self.encoder.tree(Some(node), value, 0)?;
        }
        Ok(self.encoder.hint())
    }

    fn hint(&mut self, key: &str, hint: Option<String>) {
        if let Some(hint) = hint {
            start_member(&mut self.order, key);
            write::stored_string(&mut self.order, &hint);
        }
    }

    fn finish(&mut self) {
        for (name, members) in [(WHOLE_TEXTS, &self.whole), (ORDER, &self.order)] {
            if !members.is_empty() {
                start_member(&mut self.extra, name);
                self.extra.extend_from_slice(members);
                self.extra.push(b'}');
            }
        }
        if self.extra.len() > 1 {
            self.extra.push(b'}');
            self.values[EXTRA] = Some(PyBytes::new(self.py, &self.extra));
        }
    }
}

/// `event.model_dump(mode="json", exclude_none=True)`, of one field or all.
fn dump<'py>(event: &Bound<'py, PyAny>, field: Option<&str>) -> PyResult<Bound<'py, PyDict>> {
    let py = event.py();
    let settings = PyDict::new(py);
    settings.set_item(intern!(py, "mode"), intern!(py, "json"))?;
    settings.set_item(intern!(py, "exclude_none"), true)?;
    if let Some(field) = field {
        settings.set_item(intern!(py, "include"), PySet::new(py, [field])?)?;
    }
    Ok(event.call_method(intern!(py, "model_dump"), (), Some(&settings))?.cast_into::<PyDict>()?)
}

/// Appends a key and its colon to an object that is closed later; the first key opens it.
fn start_member(object: &mut Vec<u8>, key: &str) {
    object.push(if object.len() <= 1 { b'{' } else { b',' });
    write::stored_string(object, key);
    object.push(b':');
}

fn check_identifier(text: &str, limit: usize) -> Converted<()> {
    let is_plain = scan::is_plain_ascii(text.as_bytes());
    let length = if is_plain { text.len() } else { text.chars().count() };
    if length == 0 {
        return Err(Failure::Refused("must not be empty".into()));
    }
    if length > limit {
        return Err(Failure::Refused(format!(
            "has {length} characters, and at most {limit} are kept \
             (a larger PsqlpyADKStore(key_length=...) allows more)"
        )));
    }
    if !is_plain && crate::escape::is_escaped(text) {
        return Err(Failure::Refused("holds a character that PostgreSQL's text cannot hold".into()));
    }
    Ok(())
}
