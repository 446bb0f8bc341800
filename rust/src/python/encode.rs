//! Walking Python objects along the plan, and writing JSON text.
//!
//! What is written equals `model_dump(mode="json", exclude_none=True)`, with the exceptions that the
//! fidelity rules ask for (NaN and infinities stay floats, for one). Objects in JSONB columns are written in
//! JSONB's order of keys; if a dict's own order differs, it is recorded as a hint. `actions` is not JSONB, so
//! it is written in its own order.

mod dict;
pub mod fields;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PySet, PyString, PyTuple};

use super::errors::{Converted, Failure};
use super::objects;
use super::plan::{Field, Model, Node, Plan};
use super::strings::stored;
use crate::json::MAX_DEPTH;
use crate::order::{Keys, Recorder};
use crate::write;
use dict::{Inner, Member, Table};
use fields::{bits, present};

/// Writes one JSON text.
pub struct Encoder<'py, 'p> {
    py: Python<'py>,
    plan: &'p Plan,
    /// The text so far.
    pub out: Vec<u8>,
    /// Whether the text is for JSONB. If not, keys keep their order.
    sorted: bool,
    /// The order of keys that JSONB will not keep.
    order: Recorder,
    /// The instances in the text: their place among its objects, their model, and a bit for each field.
    instances: Vec<(u32, &'p Model, u64)>,
    /// How objects that the plan does not know are turned into JSON values.
    foreign: Foreign,
    /// The values of the models and rows being written, those of inner ones last.
    values: Vec<Option<Bound<'py, PyAny>>>,
    /// The same for the members of dicts,
    members: Vec<Member<'py>>,
    /// and the texts of their keys.
    keys: String,
    /// Sets of keys that occurred twice: the rows of a table have the same keys.
    tables: Vec<Table<'py>>,
}

/// What to do with an object that is not JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Foreign {
    /// As `Event.model_dump(mode="json")` would.
    LikeEvent,
    /// Give up: the caller turns the whole value into JSON values.
    GiveUp,
}

impl<'py, 'p> Encoder<'py, 'p> {
    /// An encoder for a JSONB text (`sorted`) or another.
    pub fn new(py: Python<'py>, plan: &'p Plan, out: Vec<u8>, sorted: bool, foreign: Foreign) -> Self {
        Self {
            py,
            plan,
            out,
            sorted,
            order: Recorder::default(),
            instances: Vec::new(),
            foreign,
            values: Vec::with_capacity(32),
            members: Vec::new(),
            keys: String::new(),
            tables: Vec::new(),
        }
    }

    /// Starts another text behind jsonb's version byte, for JSONB (`sorted`) or not.
    pub fn restart(&mut self, sorted: bool) {
        self.out.clear();
        self.out.push(1);
        self.sorted = sorted;
        self.order.clear();
        self.instances.clear();
        // After a failure these may not be empty.
        self.values.clear();
        self.members.clear();
        self.keys.clear();
        self.tables.clear();
    }

    /// The order hint for a text for JSONB, if it needs one.
    pub fn hint(&mut self) -> Option<String> {
        if !self.sorted || !self.order.is_needed() {
            return None;
        }
        // Few texts need a hint, so the keys of their instances are counted only now.
        for (index, model, present) in &self.instances {
            let mut keys = Keys::default();
            let is_present = |field: &&usize| present >> **field & 1 == 1;
            model
                .stored_order
                .iter()
                .filter(is_present)
                .for_each(|field| keys.add(&model.fields[*field].key));
            self.order.pass(*index, keys);
        }
        self.order.hint()
    }

    /// Writes an object that pydantic has not touched: models are instances.
    pub fn value(&mut self, node: &Node, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        check_depth(depth)?;
        let node = match node {
            Node::Nullable(_) if value.is_none() => &Node::Any,
            Node::Nullable(inner) => inner,
            node => node,
        };
        match node {
            Node::Any => self.tree(None, value, depth)?,
            Node::Nullable(inner) => self.value(inner, value, depth)?,
            Node::Model(index) => self.instance(&self.plan.models[*index], value, depth)?,
            Node::Str | Node::Literal(_) => self.string(value.cast_exact::<PyString>()?)?,
            Node::Int => self.integer(value.cast_exact::<PyInt>()?)?,
            Node::Float => write::float(&mut self.out, value.cast_exact::<PyFloat>()?.value()),
            Node::Bool => self.boolean(value.cast_exact::<PyBool>()?.is_true()),
            Node::Bytes => self.base64(value.cast_exact::<PyBytes>()?.as_bytes()),
            Node::Enum(enumeration) => {
                if !value.get_type().is(&enumeration.class) {
                    return Err(Failure::Foreign);
                }
                // `value` is a property written in Python: 200 ns.
                if let Some((_, quoted)) = enumeration.quoted.iter().find(|(member, _)| value.is(member)) {
                    self.out.extend_from_slice(quoted.as_bytes());
                } else {
                    let member = value.getattr(intern!(self.py, "value"))?;
                    self.string(member.cast_exact::<PyString>()?)?;
                }
            }
            Node::List(items) => {
                let list = value.cast_exact::<PyList>()?;
                self.sequence(list.iter(), |this, item| this.value(items, item, depth + 1))?;
            }
            Node::Set(items) => {
                let set = value.cast_exact::<PySet>()?;
                self.sequence(set.iter(), |this, item| this.value(items, item, depth + 1))?;
            }
            Node::Dict(values) => {
                let dict = value.cast_exact::<PyDict>()?;
                if !self.row(dict, Inner::Instances(values), depth)? {
                    let start = self.take_members(dict)?;
                    self.object(start, true, |_| Inner::Instances(values), depth)?;
                }
            }
            Node::EmptyDict => {
                if value.cast_exact::<PyDict>()?.is_empty() {
                    self.object(self.members.len(), true, |_| Inner::Values(None), depth)?;
                } else {
                    // Auth configurations are written by alias. By name, as ADK dumps them, the scheme of an
                    // API key would be read back as another class.
                    self.converted(value, true, depth)?;
                }
            }
            Node::OneOf(choices) => {
                let fits = |choice: &&Node| match choice {
                    Node::Bool => value.is_exact_instance_of::<PyBool>(),
                    Node::Int => value.is_exact_instance_of::<PyInt>(),
                    Node::Str => value.is_exact_instance_of::<PyString>(),
                    _ => value.is_exact_instance_of::<PyList>(),
                };
                let choice = choices.iter().find(fits).ok_or(Failure::Foreign)?;
                self.value(choice, value, depth)?;
            }
            Node::Opaque => return Err(Failure::Foreign),
        }
        Ok(())
    }

    fn instance(&mut self, model: &'p Model, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        if model.slow_to_encode.is_some() || !value.get_type().is(&model.class) {
            return Err(Failure::Foreign);
        }
        let start = self.values.len();
        let present = present(model, &objects::dict(value)?, self.plan.dicts, &mut self.values)?;
        let begin = self.out.len();
        if self.sorted {
            self.instances.push((self.order.begin_object(), model, present));
            let ranks = bits(present).fold(0u64, |ranks, index| ranks | 1 << model.rank[index]);
            for rank in bits(ranks) {
                let index = model.stored_order[rank];
                let place = (present & ((1 << index) - 1)).count_ones() as usize;
                self.field(&model.fields[index], start + place, depth)?;
            }
        } else {
            for (place, index) in bits(present).enumerate() {
                self.field(&model.fields[index], start + place, depth)?;
            }
        }
        self.values.truncate(start);
        match self.out.get_mut(begin) {
            Some(comma) => *comma = b'{',
            None => self.out.push(b'{'),
        }
        self.out.push(b'}');
        Ok(())
    }

    /// Writes a field of a model, a comma in front; its value is at `place` among the values.
    fn field(&mut self, field: &'p Field, place: usize, depth: usize) -> Converted<()> {
        if field.custom_serializer {
            return Err(Failure::Foreign);
        }
        self.out.extend_from_slice(field.quoted.as_bytes());
        match self.values[place].take() {
            Some(value) => self.value(&field.node, &value, depth + 1),
            None => Err(Failure::Foreign),
        }
    }

    /// Writes JSON values: dicts, lists and scalars, with the plan at hand only to tell a model's dict
    /// (as `model_dump` gives it), whose order is the model's, from a dict whose order is the data's.
    pub fn tree(&mut self, node: Option<&Node>, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        check_depth(depth)?;
        if let Some(Node::Nullable(inner)) = node {
            return self.tree(Some(inner), value, depth);
        }
        if let Ok(text) = value.cast_exact::<PyString>() {
            self.string(text)?;
        } else if value.is_none() {
            self.out.extend_from_slice(b"null");
        } else if let Ok(dict) = value.cast_exact::<PyDict>() {
            let model = match node {
                Some(Node::Model(index)) => Some(&self.plan.models[*index]),
                _ => None,
            };
            if model.is_none() && self.row(dict, Inner::Values(None), depth)? {
                return Ok(());
            }
            let Ok(start) = self.take_members(dict) else {
                return self.foreign(value, depth);
            };
            let inner = |key: &str| match (model, node) {
                (Some(model), _) => {
                    model.fields.iter().find(|field| field.key == key).map(|field| &field.node)
                }
                (None, Some(Node::Dict(values))) => Some(&**values),
                _ => None,
            };
            self.object(start, model.is_none(), |key| Inner::Values(inner(key)), depth)?;
        } else if let Ok(list) = value.cast_exact::<PyList>() {
            let items = match node {
                Some(Node::List(items)) => Some(&**items),
                _ => None,
            };
            self.sequence(list.iter(), |this, item| this.tree(items, item, depth + 1))?;
        } else if let Ok(truth) = value.cast_exact::<PyBool>() {
            self.boolean(truth.is_true());
        } else if let Ok(integer) = value.cast_exact::<PyInt>() {
            self.integer(integer)?;
        } else if let Ok(float) = value.cast_exact::<PyFloat>() {
            write::float(&mut self.out, float.value());
        } else if let Ok(tuple) = value.cast_exact::<PyTuple>() {
            self.sequence(tuple.iter(), |this, item| this.tree(None, item, depth + 1))?;
        } else {
            self.foreign(value, depth)?;
        }
        Ok(())
    }

    /// Has pydantic turn an object into JSON values, then writes those.
    fn foreign(&mut self, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        if self.foreign == Foreign::GiveUp {
            return Err(Failure::Foreign);
        }
        self.converted(value, false, depth)
    }

    fn converted(&mut self, value: &Bound<'py, PyAny>, by_alias: bool, depth: usize) -> Converted<()> {
        let py = self.py;
        let settings = PyDict::new(py);
        settings.set_item(intern!(py, "by_alias"), by_alias)?;
        settings.set_item(intern!(py, "exclude_none"), true)?;
        settings.set_item(intern!(py, "bytes_mode"), intern!(py, "base64"))?;
        settings.set_item(intern!(py, "inf_nan_mode"), intern!(py, "constants"))?;
        // If this cannot convert a value either, the model's own serializer may replace it.
        let plain = self.plan.to_jsonable.bind(py).call((value,), Some(&settings));
        let plain = plain.map_err(|_| Failure::Foreign)?;
        let before = std::mem::replace(&mut self.foreign, Foreign::GiveUp);
        let written = self.tree(None, &plain, depth);
        self.foreign = before;
        written
    }

    fn sequence(
        &mut self,
        items: impl Iterator<Item = Bound<'py, PyAny>>,
        mut write_item: impl FnMut(&mut Self, &Bound<'py, PyAny>) -> Converted<()>,
    ) -> Converted<()> {
        self.out.push(b'[');
        let mut first = true;
        for item in items {
            self.separate(&mut first);
            write_item(self, &item)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn separate(&mut self, first: &mut bool) {
        if !std::mem::take(first) {
            self.out.push(b',');
        }
    }

    fn string(&mut self, text: &Bound<'py, PyString>) -> Converted<()> {
        match text.to_str() {
            Ok(plain) => write::string(&mut self.out, plain),
            // Lone surrogates.
            Err(_) => self.quoted(&stored(text)?),
        }
        Ok(())
    }

    /// Writes bytes as URL-safe base64, as the models' configuration says.
    fn base64(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        base64_simd::URL_SAFE.encode_append(bytes, &mut self.out);
        self.out.push(b'"');
    }

    /// Writes text that is escaped already.
    fn quoted(&mut self, stored: &str) {
        write::stored_string(&mut self.out, stored);
    }

    fn integer(&mut self, value: &Bound<'py, PyInt>) -> Converted<()> {
        if let Ok(value) = value.extract::<i64>() {
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
            return Ok(());
        }
        // Python refuses to write integers of more than 4,300 digits, in words that name the limit.
        let digits = value.str().map_err(|error| Failure::Refused(error.value(self.py).to_string()))?;
        self.out.extend_from_slice(digits.to_str()?.as_bytes());
        Ok(())
    }

    fn boolean(&mut self, value: bool) {
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }
}

fn check_depth(depth: usize) -> Converted<()> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(Failure::Refused(format!("nested deeper than {MAX_DEPTH} levels, or holding itself")))
}
