//! The steps that made events. They are kept so that equal events can be made again.
//!
//! Without a recording, a read that finds a history unchanged would decode the same text again. Three ways
//! were measured: to keep the text and decode it again, to keep the instances and copy them, and a recording.
//!
//! A recording has a step for each value, after the steps of the value's parts. The step of a leaf pushes the
//! Python object itself, since nobody can change a leaf. The step of a container or an instance takes its
//! parts from a stack. No step parses, looks up a name, or makes a string. A recording takes a fifth of the
//! memory of the instances. The garbage collector does not visit it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet, PyTuple};

use super::errors::{Converted, Failure};
use super::instance::Instance;
use super::lent::{Found, Lent, Recipe, noted};
use super::objects;
use super::plan::Plan;

/// One step. It works on a stack of values.
pub enum Step {
    /// Push a value that cannot be changed.
    Value(Py<PyAny>),
    /// Push a deep copy of what pydantic made.
    Copy(Py<PyAny>),
    /// Pop this many items, push a list of them.
    List(u32),
    /// Pop this many items, push a set of them.
    Set(u32),
    /// Pop this many keys and their values, push a dict of them.
    Dict(u32),
    /// The same, but the members are inserted in another order: an index into `Recorder::orders`.
    OrderedDict(u32),
    /// Pop the values of some fields, push an instance: an index into `Recorder::shapes`.
    Instance(u32),
    /// Pop an event. It is complete.
    Event,
}

/// The model of an instance, and the fields that have values.
pub struct Shape {
    /// The model's index in the plan.
    pub model: usize,
    /// The fields, in the order in which their values were read.
    pub fields: Box<[u8]>,
    /// The same fields as bits.
    pub set: u64,
    /// The same fields by name.
    pub names: Py<PySet>,
}

impl Shape {
    fn clone_ref(&self, py: Python<'_>) -> Self {
        Self {
            model: self.model,
            fields: self.fields.clone(),
            set: self.set,
            names: self.names.clone_ref(py),
        }
    }
}

/// A recording that is being made.
#[derive(Default)]
pub struct Recorder {
    steps: Vec<Step>,
    shapes: Vec<Shape>,
    orders: Vec<Box<[u32]>>,
    /// For each event, the index after its last step.
    ends: Vec<usize>,
    bytes: usize,
    /// The bytes of memory that one set of its events takes.
    event_bytes: usize,
}

/// A position in a recording, to which [`Recorder::rewind`] goes back.
#[derive(Clone, Copy)]
pub struct Mark {
    steps: usize,
    bytes: usize,
    event_bytes: usize,
}

/// Bytes of an object that pydantic made, without its texts. An event with nothing in it took 4,700.
const COPIED_BYTES: usize = 6_000;
/// The parts of such an object take this many times the bytes that they take in a recording.
const COPIED_FACTOR: usize = 4;
/// Bytes of a shape with its set of names.
const SHAPE_BYTES: usize = 900;

impl Recorder {
    /// The current end of the recording.
    pub fn mark(&self) -> Mark {
        Mark { steps: self.steps.len(), bytes: self.bytes, event_bytes: self.event_bytes }
    }

    /// Removes what was recorded after a mark.
    pub fn rewind(&mut self, mark: Mark) {
        self.steps.truncate(mark.steps);
        self.bytes = mark.bytes;
        self.event_bytes = mark.event_bytes;
    }

    /// Records a value that cannot be changed: a string, number, bytes, boolean, `None`, or a member of an
    /// enumeration.
    #[inline]
    pub fn value(&mut self, value: &Bound<'_, PyAny>) {
        self.bytes += objects::leaf_bytes(value);
        self.steps.push(Step::Value(value.clone().unbind()));
    }

    /// Replaces what was recorded since a mark by a copy of an object that pydantic made.
    pub fn copied(&mut self, since: Mark, made: &Bound<'_, PyAny>) -> PyResult<()> {
        let bytes = COPIED_BYTES + COPIED_FACTOR * (self.bytes - since.bytes);
        self.rewind(since);
        self.bytes += bytes;
        let copy = made.py().import("copy")?.getattr(intern!(made.py(), "deepcopy"))?.call1((made,))?;
        self.event_bytes += bytes;
        self.steps.push(Step::Copy(copy.unbind()));
        Ok(())
    }

    /// Records a list of the last items.
    pub fn list(&mut self, items: usize) {
        self.event_bytes += 96 + 16 * items;
        self.steps.push(Step::List(count(items)));
    }

    /// Turns the last step from a list into a set.
    pub fn list_is_set(&mut self) {
        if let Some(Step::List(items)) = self.steps.pop() {
            self.steps.push(Step::Set(items));
        }
    }

    /// Records a dict of the last members.
    pub fn dict(&mut self, members: usize) {
        self.event_bytes += dict_bytes(members);
        self.steps.push(Step::Dict(count(members)));
    }

    /// Records a dict of the last members, which are inserted in this order.
    pub fn ordered_dict(&mut self, order: &[usize]) {
        self.event_bytes += dict_bytes(order.len());
        let order: Box<[u32]> = order.iter().copied().map(count).collect();
        let known = self.orders.iter().rposition(|known| *known == order).unwrap_or_else(|| {
            self.bytes += 32 + 4 * order.len();
            self.orders.push(order);
            self.orders.len() - 1
        });
        self.steps.push(Step::OrderedDict(count(known)));
    }

    /// Records an instance. The last values are those of its fields.
    pub fn instance(
        &mut self,
        (model, of_model): (usize, usize),
        fields: &[u8],
        names: &Bound<'_, PySet>,
    ) -> PyResult<()> {
        // The sum of the object, its dict, and its set of names.
        self.event_bytes += 120 + dict_bytes(of_model) + if fields.len() > 4 { 760 } else { 240 };
        // Most instances have one of a few shapes, often the shape of a recent event.
        let shapes = &self.shapes;
        let known = shapes.iter().position(|shape| shape.model == model && *shape.fields == *fields);
        let shape = if let Some(shape) = known {
            shape
        } else {
            let names = objects::copy_set(names)?.unbind();
            let set = fields.iter().fold(0, |set, field| set | 1 << field);
            self.shape(Shape { model, fields: fields.into(), set, names })
        };
        self.steps.push(Step::Instance(count(shape)));
        Ok(())
    }

    fn shape(&mut self, shape: Shape) -> usize {
        self.bytes += SHAPE_BYTES;
        self.shapes.push(shape);
        self.shapes.len() - 1
    }

    /// Records that an event is complete.
    pub fn event(&mut self) {
        self.steps.push(Step::Event);
        self.ends.push(self.steps.len());
    }

    /// Returns the recording, without spare capacity.
    pub fn finish(mut self) -> Recording {
        self.steps.shrink_to_fit();
        self.ends.shrink_to_fit();
        self.shapes.shrink_to_fit();
        Recording { recorder: self, lent: Mutex::default() }
    }

    /// Appends the steps of another recording.
    fn extend(&mut self, py: Python<'_>, other: &Self) {
        let (steps, orders) = (self.steps.len(), self.orders.len());
        self.orders.extend(other.orders.iter().cloned());
        let shapes: Vec<u32> = other
            .shapes
            .iter()
            .map(|shape| {
                let same = |known: &Shape| known.model == shape.model && known.fields == shape.fields;
                let known = self.shapes.iter().position(same);
                count(known.unwrap_or_else(|| self.shape(shape.clone_ref(py))))
            })
            .collect();
        self.steps.reserve(other.steps.len());
        self.steps.extend(other.steps.iter().map(|step| match step {
            Step::Value(value) => Step::Value(value.clone_ref(py)),
            Step::Copy(made) => Step::Copy(made.clone_ref(py)),
            Step::List(items) => Step::List(*items),
            Step::Set(items) => Step::Set(*items),
            Step::Dict(members) => Step::Dict(*members),
            Step::OrderedDict(order) => Step::OrderedDict(count(orders) + order),
            Step::Instance(shape) => Step::Instance(shapes[*shape as usize]),
            Step::Event => Step::Event,
        }));
        self.ends.extend(other.ends.iter().map(|end| steps + end));
        self.event_bytes += other.event_bytes;
        self.bytes += other.bytes.saturating_sub(SHAPE_BYTES * other.shapes.len());
    }

    /// Makes one event from its steps.
    fn play<'py>(
        &self,
        py: Python<'py>,
        plan: &Plan,
        steps: &[Step],
        stack: &mut Vec<Bound<'py, PyAny>>,
    ) -> Converted<Bound<'py, PyAny>> {
        for step in steps {
            let made = match step {
                Step::Value(value) => value.bind(py).clone(),
                Step::Copy(made) => {
                    py.import("copy")?.getattr(intern!(py, "deepcopy"))?.call1((made.bind(py),))?
                }
                Step::List(items) => PyList::new(py, top(stack, *items as usize)?)?.into_any(),
                Step::Set(items) => {
                    let set = PySet::empty(py)?;
                    for item in top(stack, *items as usize)? {
                        set.add(item)?;
                    }
                    set.into_any()
                }
                Step::Dict(members) => {
                    let dict = PyDict::new(py);
                    let mut parts = top(stack, *members as usize * 2)?;
                    while let (Some(key), Some(value)) = (parts.next(), parts.next()) {
                        dict.set_item(key, value)?;
                    }
                    dict.into_any()
                }
                Step::OrderedDict(order) => {
                    let order = &self.orders[*order as usize];
                    let dict = PyDict::new(py);
                    let parts = top(stack, order.len() * 2)?;
                    let parts = parts.as_slice();
                    for place in order {
                        let place = *place as usize * 2;
                        dict.set_item(&parts[place], &parts[place + 1])?;
                    }
                    dict.into_any()
                }
                Step::Instance(shape) => {
                    let Shape { model, fields, names, .. } = &self.shapes[*shape as usize];
                    let mut instance = Instance::begin(py, plan, *model)?;
                    for (field, value) in fields.iter().zip(top(stack, fields.len())?) {
                        instance.set((*field).into(), &value)?;
                    }
                    instance.finish(plan, objects::copy_set(names.bind(py))?)?
                }
                Step::Event => break,
            };
            stack.push(made);
        }
        Ok(stack.pop().ok_or_else(damaged)?)
    }

    /// Appends the events to a list. An event that was handed out before is used again if it is untouched;
    /// any other event is made.
    fn events<'py>(
        &self,
        py: Python<'py>,
        plan: &Plan,
        lent: &mut [[Option<Lent>; 2]],
        events: &Bound<'py, PyList>,
    ) -> Converted<()> {
        let mut stack = Vec::with_capacity(64);
        for (recipe, lent) in self.recipes(plan).zip(lent) {
            let (mut untouched, mut other) = (None, None);
            for found in lent.iter_mut().filter_map(Option::take) {
                match found.look(py, recipe)? {
                    Found::Untouched(event, snapshot) if untouched.is_none() => {
                        untouched = Some((event, snapshot));
                    }
                    Found::Untouched(event, snapshot) => other = other.or(Some(Lent::new(&event, snapshot))),
                    Found::Held(found) => other = other.or(Some(found)),
                    Found::Touched => {}
                }
            }
            let (event, snapshot) = if let Some(untouched) = untouched {
                untouched
            } else {
                let event = self.play(py, plan, recipe.steps, &mut stack)?;
                let snapshot = noted(&event, recipe)?;
                (event, snapshot)
            };
            *lent = [Some(Lent::new(&event, snapshot)), other];
            events.append(event)?;
        }
        Ok(())
    }

    fn recipes<'r>(&'r self, plan: &'r Plan) -> impl Iterator<Item = Recipe<'r>> {
        let mut start = 0;
        self.ends.iter().map(move |end| {
            let steps = &self.steps[start..end - 1];
            start = *end;
            Recipe { steps, orders: &self.orders, shapes: &self.shapes, plan }
        })
    }
}

/// Takes the last values off the stack.
fn top<T>(stack: &mut Vec<T>, count: usize) -> PyResult<std::vec::Drain<'_, T>> {
    let from = stack.len().checked_sub(count).ok_or_else(damaged)?;
    Ok(stack.drain(from..))
}

fn damaged() -> PyErr {
    PyRuntimeError::new_err("a recording of events takes more values than it has made: a bug in adk-psqlpy")
}

/// Bytes of a dict with this many members. It has a power of two of places, and uses two thirds of them at
/// most.
fn dict_bytes(members: usize) -> usize {
    if members == 0 { 80 } else { 120 + 20 * (members * 3 / 2 + 1).next_power_of_two().max(8) }
}

/// A count of items as 32 bits. No text has more items, since values of PostgreSQL are below 1 GB.
fn count(items: usize) -> u32 {
    u32::try_from(items).unwrap_or(u32::MAX)
}

/// Events, kept as the steps that make them.
///
/// Two events that it hands out share no object, and an event shares none with the recording. The exception
/// is values that cannot be changed.
#[pyclass(frozen, module = "adk_psqlpy._native")]
pub struct Recording {
    recorder: Recorder,
    /// For each event, up to two instances that were handed out, for `super::lent`. The first is the latest
    /// one. The second is an earlier one that somebody still had when the latest one was handed out. Some
    /// callers keep a session until they have read it again: `session = await get_session(...)` in a loop.
    /// They get the two instances in turns. The list is empty while it is being checked.
    lent: Mutex<Vec<[Option<Lent>; 2]>>,
}

impl Recording {
    /// Appends the events to a list. Each is made anew, or was handed out before and is used again.
    pub fn play<'py>(&self, py: Python<'py>, plan: &Plan, events: &Bound<'py, PyList>) -> PyResult<()> {
        // The mutex is not held during this: pydantic may run Python code, and then another thread may come.
        let mut lent = std::mem::take(&mut *self.lent());
        lent.resize_with(self.recorder.ends.len(), Default::default);
        self.recorder.events(py, plan, &mut lent, events).map_err(|failure| match failure {
            Failure::Raised(error) => error,
            _ => damaged(),
        })?;
        // What another thread has put there is dropped without the mutex: that may run Python code.
        let others = std::mem::replace(&mut *self.lent(), lent);
        drop(others);
        Ok(())
    }

    /// Keeps the events that were made together with the recording.
    pub fn lend<'py>(&self, events: impl Iterator<Item = Bound<'py, PyAny>>) {
        *self.lent() = events.map(|event| [Some(Lent::new(&event, None)), None]).collect();
    }

    fn lent(&self) -> MutexGuard<'_, Vec<[Option<Lent>; 2]>> {
        self.lent.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl Recording {
    /// The number of events.
    fn __len__(&self) -> usize {
        self.recorder.ends.len()
    }

    /// Bytes of memory, at least. A string that several recordings share counts for each of them.
    #[getter]
    fn nbytes(&self) -> usize {
        const STEP: usize = size_of::<Step>();
        let Recorder { steps, ends, bytes, .. } = &self.recorder;
        size_of::<Self>() + bytes + steps.capacity() * STEP + ends.capacity() * size_of::<usize>()
    }

    /// Bytes of the events that it handed out and keeps.
    #[getter]
    fn lent_nbytes(&self) -> usize {
        let lent = self.lent();
        let noted: usize = lent.iter().flatten().flatten().map(Lent::nbytes).sum();
        let held = lent.iter().flatten().flatten().count();
        let events = (self.recorder.event_bytes * held).div_ceil(self.recorder.ends.len().max(1));
        events + noted + size_of::<[Option<Lent>; 2]>() * lent.len()
    }

    /// Releases the events that it handed out and keeps.
    fn release(&self) {
        let lent = std::mem::take(&mut *self.lent());
        drop(lent);
    }

    /// Joins several recordings to one. The events that they handed out move to it.
    #[staticmethod]
    #[pyo3(signature = (*recordings))]
    fn joined(py: Python<'_>, recordings: &Bound<'_, PyTuple>) -> PyResult<Self> {
        let (mut joined, mut lent) = (Recorder::default(), Vec::new());
        for recording in recordings.iter() {
            let recording = recording.cast::<Self>().map_err(PyErr::from)?.get();
            joined.extend(py, &recording.recorder);
            lent.append(&mut recording.lent());
        }
        let joined = joined.finish();
        // An event is found by its place. If some were missing, the others would be taken for wrong events.
        if lent.len() == joined.recorder.ends.len() {
            *joined.lent() = lent;
        }
        Ok(joined)
    }
}
