//! Walking a JSON text along the plan, and making Python objects.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyFloat, PyInt, PyList, PySet, PyString};

use super::errors::{Converted, Failure};
use super::instance::Instance;
use super::objects;
use super::plan::{Model, Node, Plan};
use super::recording::{Mark, Recorder};
use super::strings::{Cache, string};
use crate::error::ErrorKind;
use crate::escape;
use crate::json::{Kind, MAX_DEPTH, Reader};
use crate::order::{self, Hint, Keys};

/// What one read needs besides its position in a text.
pub struct Decoder<'py, 'p> {
    py: Python<'py>,
    plan: &'p Plan,
    strings: Cache<'py>,
    /// The members of dicts being read whose order a hint may change. Members of inner dicts come last.
    members: Vec<(Bound<'py, PyString>, Bound<'py, PyAny>)>,
    /// For each model, the latest sets of field names by their bits. Most instances have one of a few shapes.
    fields_sets: Vec<[FieldsSet<'py>; 4]>,
    /// What is read is recorded here, if it is to be made again.
    pub recorder: Option<Recorder>,
}

/// A set of field names, and the bits it was made for.
type FieldsSet<'py> = Option<(u64, Bound<'py, PySet>)>;

/// A text being read, with the hint for it.
pub struct Document<'j, 'h> {
    /// Where in the text the decoder is.
    pub reader: Reader<'j>,
    /// The order of keys to restore.
    pub hint: &'h Hint,
    /// All the keys so far, where there is a hint.
    pub keys: order::Document,
}

impl<'py, 'p> Decoder<'py, 'p> {
    /// A decoder with an empty string cache.
    pub fn new(py: Python<'py>, plan: &'p Plan) -> Self {
        let fields_sets = plan.models.iter().map(|_| Default::default()).collect();
        Self { py, plan, strings: Cache::new(), members: Vec::new(), fields_sets, recorder: None }
    }

    /// The interpreter's token.
    pub fn py(&self) -> Python<'py> {
        self.py
    }

    /// The plan being followed.
    pub fn plan(&self) -> &'p Plan {
        self.plan
    }

    /// A short text that other rows are likely to repeat.
    pub fn repeated(&mut self, stored: &str) -> PyResult<Bound<'py, PyString>> {
        self.strings.get(self.py, stored)
    }

    /// Records a value that cannot be changed.
    #[inline]
    pub fn leaf(&mut self, value: Bound<'py, PyAny>) -> Bound<'py, PyAny> {
        if let Some(recorder) = &mut self.recorder {
            recorder.value(&value);
        }
        value
    }

    /// Where the recording is, if there is one.
    pub fn mark(&self) -> Option<Mark> {
        self.recorder.as_ref().map(Recorder::mark)
    }

    /// Forgets what was recorded after a mark.
    pub fn rewind(&mut self, mark: Option<Mark>) {
        if let (Some(recorder), Some(mark)) = (&mut self.recorder, mark) {
            recorder.rewind(mark);
        }
    }

    /// Records, in place of what came after a mark, the object that pydantic made of it.
    pub fn copied(&mut self, since: Option<Mark>, made: &Bound<'py, PyAny>) -> PyResult<()> {
        match (&mut self.recorder, since) {
            (Some(recorder), Some(since)) => recorder.copied(since, made),
            _ => Ok(()),
        }
    }

    /// Reads the next value of a text that the caller goes on with.
    pub fn next_value(
        &mut self,
        reader: &mut Reader<'_>,
        node: &Node,
        hint: &Hint,
    ) -> Converted<Bound<'py, PyAny>> {
        let mut document = Document { reader: *reader, hint, keys: order::Document::default() };
        let value = self.value(&mut document, node, 1)?;
        *reader = document.reader;
        Ok(value)
    }

    /// Reads a whole text as `node` says.
    pub fn document(&mut self, text: &str, node: &Node, hint: &Hint) -> Converted<Bound<'py, PyAny>> {
        let mut document = Document { reader: Reader::new(text), hint, keys: order::Document::default() };
        let mark = self.mark();
        let value = self.value(&mut document, node, 0)?;
        document.reader.finish()?;
        if hint.is_empty() || hint.is_for(document.keys) {
            return Ok(value);
        }
        self.rewind(mark);
        self.document(text, node, &Hint::default())
    }

    /// Reads a whole text without a plan.
    pub fn any_document(&mut self, text: &str, hint: &Hint) -> Converted<Bound<'py, PyAny>> {
        self.document(text, &Node::Any, hint)
    }

    fn value(
        &mut self,
        doc: &mut Document<'_, '_>,
        node: &Node,
        depth: usize,
    ) -> Converted<Bound<'py, PyAny>> {
        let py = self.py;
        let kind = doc.reader.peek()?;
        match (node, kind) {
            (Node::Any, _) | (Node::Bool, Kind::True | Kind::False) => self.any(doc, kind, depth),
            (Node::Nullable(_), Kind::Null) => {
                doc.reader.literal(kind)?;
                Ok(self.leaf(py.None().into_bound(py)))
            }
            (Node::Nullable(inner), _) => self.value(doc, inner, depth),
            (Node::Str, Kind::String) => {
                let text = doc.reader.string()?;
                Ok(self.leaf(string(py, &text)?.into_any()))
            }
            (Node::Model(index), _) => self.model(doc, *index, kind, depth),
            (Node::Int, Kind::Number) => {
                let number = doc.reader.number()?;
                if number.is_float {
                    return Err(Failure::Foreign);
                }
                let value = self.integer(number.text)?;
                Ok(self.leaf(value))
            }
            (Node::Float, Kind::Number) => {
                let number = doc.reader.number()?;
                // An integer past 2^53 is rounded by Python as well, but past 1.8e308 it raises there.
                let value: f64 = number.text.parse().map_err(|_| Failure::Foreign)?;
                if value.is_infinite() {
                    Err(Failure::Foreign)
                } else {
                    Ok(self.leaf(PyFloat::new(py, value).into_any()))
                }
            }
            (Node::Float, Kind::String) => {
                let text = doc.reader.string()?;
                let value = escape::float(&text).ok_or(Failure::Foreign)?;
                Ok(self.leaf(PyFloat::new(py, value).into_any()))
            }
            (Node::Bytes, Kind::String) => {
                let text = doc.reader.string()?;
                let bytes = base64_simd::URL_SAFE.decode_to_vec(text.as_bytes());
                let bytes = bytes.map_err(|_| Failure::Foreign)?;
                Ok(self.leaf(PyBytes::new(py, &bytes).into_any()))
            }
            (Node::Enum(enumeration), Kind::String) => {
                let text = doc.reader.string()?;
                let member = enumeration.members.get(text.as_ref()).ok_or(Failure::Foreign)?;
                Ok(self.leaf(member.bind(py).clone()))
            }
            (Node::Literal(expected), Kind::String) => {
                let text = doc.reader.string()?;
                let value = expected.get(text.as_ref()).ok_or(Failure::Foreign)?;
                Ok(self.leaf(value.bind(py).clone()))
            }
            (Node::List(items), Kind::Array) => self.list(doc, items, depth),
            (Node::Set(items), Kind::Array) => {
                let list = self.list(doc, items, depth)?;
                let set = PySet::empty(py)?;
                for item in list.cast::<PyList>()?.iter() {
                    set.add(item)?;
                }
                if let Some(recorder) = &mut self.recorder {
                    recorder.list_is_set();
                }
                Ok(set.into_any())
            }
            (Node::Dict(values), Kind::Object) => self.dict(doc, values, depth),
            (Node::EmptyDict, Kind::Object) => {
                let value = self.dict(doc, &Node::Any, depth)?;
                if value.is_empty()? { Ok(value) } else { Err(Failure::Foreign) }
            }
            (Node::OneOf(choices), _) => {
                let fits = |choice: &&Node| {
                    matches!(
                        (choice, kind),
                        (Node::Bool, Kind::True | Kind::False)
                            | (Node::Int, Kind::Number)
                            | (Node::Str, Kind::String)
                            | (Node::List(_), Kind::Array)
                    )
                };
                let choice = choices.iter().find(fits).ok_or(Failure::Foreign)?;
                self.value(doc, choice, depth)
            }
            _ => Err(Failure::Foreign),
        }
    }

    /// Reads whatever comes.
    fn any(&mut self, doc: &mut Document<'_, '_>, kind: Kind, depth: usize) -> Converted<Bound<'py, PyAny>> {
        let py = self.py;
        match kind {
            Kind::Null => {
                doc.reader.literal(kind)?;
                Ok(self.leaf(py.None().into_bound(py)))
            }
            Kind::True | Kind::False => {
                doc.reader.literal(kind)?;
                let value = kind == Kind::True;
                Ok(self.leaf(value.into_pyobject(py).map_err(PyErr::from)?.to_owned().into_any()))
            }
            Kind::Number => {
                let number = doc.reader.number()?;
                if !number.is_float {
                    let value = self.integer(number.text)?;
                    return Ok(self.leaf(value));
                }
                let value: f64 =
                    number.text.parse().map_err(|_| doc.reader.error(ErrorKind::InvalidNumber))?;
                Ok(self.leaf(PyFloat::new(py, value).into_any()))
            }
            Kind::String => {
                let text = doc.reader.string()?;
                let value = match escape::float(&text) {
                    Some(value) => PyFloat::new(py, value).into_any(),
                    None => string(py, &text)?.into_any(),
                };
                Ok(self.leaf(value))
            }
            Kind::Array => self.list(doc, &Node::Any, depth),
            Kind::Object => self.dict(doc, &Node::Any, depth),
        }
    }

    fn integer(&self, digits: &str) -> Converted<Bound<'py, PyAny>> {
        let py = self.py;
        if let Ok(value) = digits.parse::<i64>() {
            return Ok(value.into_pyobject(py).map_err(PyErr::from)?.into_any());
        }
        Ok(py.get_type::<PyInt>().call1((digits,))?)
    }

    fn list(
        &mut self,
        doc: &mut Document<'_, '_>,
        items: &Node,
        depth: usize,
    ) -> Converted<Bound<'py, PyAny>> {
        check_depth(&doc.reader, depth)?;
        let list = PyList::empty(self.py);
        let mut more = doc.reader.begin_array()?;
        while more {
            list.append(self.value(doc, items, depth + 1)?)?;
            more = doc.reader.next_element()?;
        }
        if let Some(recorder) = &mut self.recorder {
            recorder.list(list.len());
        }
        Ok(list.into_any())
    }

    fn dict(
        &mut self,
        doc: &mut Document<'_, '_>,
        values: &Node,
        depth: usize,
    ) -> Converted<Bound<'py, PyAny>> {
        check_depth(&doc.reader, depth)?;
        let dict = PyDict::new(self.py);
        let index = doc.reader.objects();
        let mut key = doc.reader.begin_object()?;
        if doc.hint.is_empty() {
            let mut members = 0;
            while let Some(name) = key {
                let name = self.repeated(&name)?.into_any();
                let name = self.leaf(name);
                dict.set_item(name, self.value(doc, values, depth + 1)?)?;
                members += 1;
                key = doc.reader.next_key()?;
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.dict(members);
            }
            return Ok(dict.into_any());
        }
        let start = self.members.len();
        let mut keys = Keys::default();
        while let Some(name) = key {
            keys.add(&name);
            let name = self.repeated(&name)?;
            self.leaf(name.clone().into_any());
            let value = self.value(doc, values, depth + 1)?;
            self.members.push((name, value));
            key = doc.reader.next_key()?;
        }
        doc.keys.add(index, keys);
        if let Some(order) = doc.hint.order(index, keys) {
            for place in order {
                let (name, value) = &self.members[start + place];
                dict.set_item(name, value)?;
            }
            if let Some(recorder) = &mut self.recorder {
                recorder.ordered_dict(order);
            }
        } else {
            if let Some(recorder) = &mut self.recorder {
                recorder.dict(self.members.len() - start);
            }
            for (name, value) in &self.members[start..] {
                dict.set_item(name, value)?;
            }
        }
        self.members.truncate(start);
        Ok(dict.into_any())
    }

    /// Makes an instance of a model, or has pydantic make it.
    fn model(
        &mut self,
        doc: &mut Document<'_, '_>,
        index: usize,
        kind: Kind,
        depth: usize,
    ) -> Converted<Bound<'py, PyAny>> {
        let (start, mark) = ((doc.reader, doc.keys), self.mark());
        let model = &self.plan.models[index];
        if model.slow.is_none() && kind == Kind::Object {
            match self.instance(doc, index, depth) {
                Err(Failure::Foreign) => (doc.reader, doc.keys) = start,
                made => return made,
            }
            self.rewind(mark);
        }
        let value = self.any(doc, kind, depth)?;
        // pydantic may refuse this object but accept the outermost one, because of two equal keys only the
        // last one counts. So the outermost model decides.
        let made = model.class.bind(self.py).call_method1(intern!(self.py, "model_validate"), (value,));
        let made = made.map_err(|_| Failure::Foreign)?;
        self.copied(mark, &made)?;
        Ok(made)
    }

    fn instance(
        &mut self,
        doc: &mut Document<'_, '_>,
        index: usize,
        depth: usize,
    ) -> Converted<Bound<'py, PyAny>> {
        check_depth(&doc.reader, depth)?;
        let model = &self.plan.models[index];
        let mut instance = Instance::begin(self.py, self.plan, index)?;
        // The keys come in JSONB's order, as those of `stored_order` do, so the next key is mostly found at
        // once.
        let mut expected = 0;
        let (object, mut keys) = (doc.reader.objects(), Keys::default());
        let mut key = doc.reader.begin_object()?;
        while let Some(name) = key {
            if !doc.hint.is_empty() {
                keys.add(&name);
            }
            let index = find(model, &name, &mut expected).ok_or(Failure::Foreign)?;
            let value = self.value(doc, &model.fields[index].node, depth + 1)?;
            instance.set(index, &value)?;
            key = doc.reader.next_key()?;
        }
        doc.keys.add(object, keys);
        self.finish(instance)
    }

    /// The finished instance of what has been set.
    pub fn finish(&mut self, instance: Instance<'py, 'p>) -> Converted<Bound<'py, PyAny>> {
        // Most instances have one of a few shapes, so the set of names is mostly a copy of a recent one.
        let known = &mut self.fields_sets[instance.index];
        let recent = known.iter().flatten().find(|(bits, _)| *bits == instance.set);
        let names = if let Some((_, names)) = recent {
            objects::copy_set(names)?
        } else {
            let names = instance.names()?;
            known.rotate_right(1);
            known[0] = Some((instance.set, objects::copy_set(&names)?));
            names
        };
        if let Some(recorder) = &mut self.recorder {
            let fields = self.plan.models[instance.index].fields.len();
            recorder.instance((instance.index, fields), instance.fields(), &names)?;
        }
        instance.finish(self.plan, names)
    }
}

/// The field that a key names. `expected` is the place in `stored_order` to look first.
pub fn find(model: &Model, key: &str, expected: &mut usize) -> Option<usize> {
    let names = &model.stored_names;
    let (before, from) = names.split_at(*expected);
    let steps = from.iter().chain(before).position(|name| **name == *key);
    let Some(steps) = steps else {
        return model.fields.iter().position(|field| field.alias.as_deref() == Some(key));
    };
    let place = (*expected + steps) % names.len();
    *expected = place + 1;
    Some(model.stored_order[place])
}

fn check_depth(reader: &Reader<'_>, depth: usize) -> Converted<()> {
    if depth >= MAX_DEPTH { Err(reader.error(ErrorKind::TooDeep).into()) } else { Ok(()) }
}
