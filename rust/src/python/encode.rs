//! Walking Python objects beside the plan, writing JSON text.
//!
//! What is written equals `model_dump(mode="json", exclude_none=True)`, with the exceptions that the
//! fidelity rules ask for (NaN and infinities stay floats, for one). Objects in JSONB columns are written
//! in JSONB's order of keys, and the order of a dict that differs is recorded as a hint; `actions`, which
//! is not JSONB, keeps the order it comes in.

use std::borrow::Cow;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PySet, PyString, PyTuple};

use super::errors::{Converted, Failure};
use super::objects;
use super::plan::{Model, Node, Plan};
use super::strings::stored;
use crate::json::MAX_DEPTH;
use crate::order::Recorder;
use crate::write::{self, jsonb_key_order};

/// Writes one JSON text.
pub struct Encoder<'py, 'p> {
    py: Python<'py>,
    plan: &'p Plan,
    /// The text so far.
    pub out: Vec<u8>,
    /// For JSONB; without it, keys stay in the order they come in.
    pub order: Option<Recorder>,
    /// How objects that the plan does not know are turned into JSON values.
    foreign: Foreign,
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
        Self { py, plan, out, order: sorted.then(Recorder::default), foreign }
    }

    /// Writes an object that pydantic has not touched: models are instances.
    pub fn value(&mut self, node: &Node, value: &Bound<'py, PyAny>, depth: usize) -> Converted<()> {
        check_depth(depth)?;
        match node {
            Node::Any => self.tree(None, value, depth)?,
            Node::Nullable(_) if value.is_none() => self.out.extend_from_slice(b"null"),
            Node::Nullable(inner) => self.value(inner, value, depth)?,
            Node::Model(index) => self.instance(&self.plan.models[*index], value, depth)?,
            Node::Str | Node::Literal(_) => self.string(value.cast_exact::<PyString>()?)?,
            Node::Int => self.integer(value.cast_exact::<PyInt>()?)?,
            Node::Float => write::float(&mut self.out, value.cast_exact::<PyFloat>()?.value()),
            Node::Bool => self.boolean(value.cast_exact::<PyBool>()?.is_true()),
            Node::Bytes => {
                let encoded = URL_SAFE.encode(value.cast_exact::<PyBytes>()?.as_bytes());
                self.quoted(&encoded);
            }
            Node::Enum(enumeration) => {
                if !value.get_type().is(&enumeration.class) {
                    return Err(Failure::Foreign);
                }
                let member = value.getattr(intern!(self.py, "value"))?;
                self.string(member.cast_exact::<PyString>()?)?;
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
                let members = members(dict)?;
                self.object(&members, true, |this, _, value| this.value(values, value, depth + 1))?;
            }
            Node::EmptyDict => {
                if value.cast_exact::<PyDict>()?.is_empty() {
                    self.object(&[], true, |_, _, _| Ok(()))?;
                } else {
                    // Auth configurations. By name, as ADK dumps them, an API key's scheme is read back as
                    // another class; by alias it is itself.
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
        let mut present = present(model, &objects::dict(value)?)?;
        if let Some(order) = &mut self.order {
            order.begin_object();
            present.sort_unstable_by_key(|(index, _)| model.rank[*index]);
        }
        self.out.push(b'{');
        let mut first = true;
        for (index, value) in &present {
            let field = &model.fields[*index];
            if field.custom_serializer {
                return Err(Failure::Foreign);
            }
            self.separate(&mut first);
            self.out.extend_from_slice(field.quoted.as_bytes());
            self.value(&field.node, value, depth + 1)?;
        }
        self.out.push(b'}');
        Ok(())
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
            let Ok(members) = members(dict) else {
                return self.foreign(value, depth);
            };
            let model = match node {
                Some(Node::Model(index)) => Some(&self.plan.models[*index]),
                _ => None,
            };
            self.object(&members, model.is_none(), |this, key, value| {
                let inner = match (model, node) {
                    (Some(model), _) => {
                        model.fields.iter().find(|field| field.key == key).map(|field| &field.node)
                    }
                    (None, Some(Node::Dict(values))) => Some(&**values),
                    _ => None,
                };
                this.tree(inner, value, depth + 1)
            })?;
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
        // What this cannot convert either is for the model's own serializer, which may replace it.
        let plain = self.plan.to_jsonable.bind(py).call((value,), Some(&settings));
        let plain = plain.map_err(|_| Failure::Foreign)?;
        let before = std::mem::replace(&mut self.foreign, Foreign::GiveUp);
        let written = self.tree(None, &plain, depth);
        self.foreign = before;
        written
    }

    fn object(
        &mut self,
        members: &[Member<'py>],
        record: bool,
        mut write_value: impl FnMut(&mut Self, &str, &Bound<'py, PyAny>) -> Converted<()>,
    ) -> Converted<()> {
        self.out.push(b'{');
        let mut first = true;
        let mut member = |this: &mut Self, (key, value): &Member<'py>| {
            this.separate(&mut first);
            this.quoted(key.text());
            this.out.push(b':');
            write_value(this, key.text(), value)
        };
        let index = self.order.as_mut().map(Recorder::begin_object);
        let compare =
            |left: &Member<'py>, right: &Member<'py>| jsonb_key_order(left.0.text(), right.0.text());
        match index {
            Some(index) if !members.is_sorted_by(|left, right| compare(left, right).is_lt()) => {
                let mut places: Vec<usize> = (0..members.len()).collect();
                places.sort_by(|left, right| compare(&members[*left], &members[*right]));
                if record && let Some(order) = &mut self.order {
                    let mut stored_places = vec![0; members.len()];
                    for (stored_place, place) in places.iter().enumerate() {
                        stored_places[*place] = stored_place;
                    }
                    order.record(index, stored_places);
                }
                for place in places {
                    member(self, &members[place])?;
                }
            }
            _ => {
                for each in members {
                    member(self, each)?;
                }
            }
        }
        self.out.push(b'}');
        Ok(())
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

    /// Writes text that is in stored form already.
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

/// The fields of an instance that are not `None`, by index; foreign where one is missing altogether.
pub fn present<'py>(model: &Model, dict: &Bound<'py, PyDict>) -> Converted<Vec<(usize, Bound<'py, PyAny>)>> {
    let py = dict.py();
    let mut present = Vec::with_capacity(12);
    let mut seen = 0;
    objects::for_each_item(dict, |name, value| {
        // Pydantic fills `__dict__` in the order of the fields, with the very names that the plan holds.
        let index = match model.fields.get(seen) {
            Some(field) if field.name.as_ptr() == name.as_ptr() => seen,
            _ => match model.fields.iter().position(|field| name.eq(field.name.bind(py)).unwrap_or(false)) {
                Some(index) => index,
                // Not a field: a cached property, for one.
                None => return,
            },
        };
        seen += 1;
        if !value.is_none() {
            present.push((index, value.to_owned()));
        }
    });
    if seen == model.fields.len() { Ok(present) } else { Err(Failure::Foreign) }
}

/// A member of a dict: its key in stored form, and its value.
type Member<'py> = (Key<'py>, Bound<'py, PyAny>);

/// A key of a dict; nearly all are ASCII and stored as they are.
enum Key<'py> {
    Plain(Bound<'py, PyString>),
    Stored(String),
}

impl Key<'_> {
    fn text(&self) -> &str {
        match self {
            Self::Plain(key) => key.to_str().unwrap_or_default(),
            Self::Stored(key) => key,
        }
    }
}

/// The members of a dict; foreign where a key is not a string.
fn members<'py>(dict: &Bound<'py, PyDict>) -> Converted<Vec<Member<'py>>> {
    let mut members = Vec::with_capacity(dict.len());
    for (key, value) in dict.iter() {
        let key = key.cast_into_exact::<PyString>().map_err(|_| Failure::Foreign)?;
        let escaped = match stored(&key)? {
            Cow::Borrowed(_) => None,
            Cow::Owned(stored) => Some(stored),
        };
        members.push((escaped.map_or(Key::Plain(key), Key::Stored), value));
    }
    Ok(members)
}

fn check_depth(depth: usize) -> Converted<()> {
    if depth < MAX_DEPTH {
        return Ok(());
    }
    Err(Failure::Refused(format!("nested deeper than {MAX_DEPTH} levels, or holding itself")))
}
