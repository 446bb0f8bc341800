//! Instances of models, made through their slots.

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList, PySet};

use super::errors::{Converted, Failure};
use super::objects::{self, Contents};
use super::plan::{Factory, MOST_FIELDS, Model, Plan};

/// An instance in the making: a copy of the defaults, and which fields were set.
pub struct Instance<'py, 'p> {
    model: &'p Model,
    /// Its index in the plan.
    pub index: usize,
    dict: Bound<'py, PyDict>,
    /// A bit for each field.
    pub set: u64,
    /// Their indexes, in the order in which they were set, and how many.
    order: ([u8; MOST_FIELDS], usize),
}

impl<'py, 'p> Instance<'py, 'p> {
    /// Starts from the defaults.
    pub fn begin(py: Python<'py>, plan: &'p Plan, index: usize) -> PyResult<Self> {
        let model = &plan.models[index];
        let dict = model.defaults.bind(py).copy()?;
        Ok(Self { model, index, dict, set: 0, order: ([0; MOST_FIELDS], 0) })
    }

    /// Sets the field with this index.
    #[inline]
    pub fn set(&mut self, index: usize, value: &Bound<'py, PyAny>) -> Converted<()> {
        // If a key comes twice, or together with its alias, pydantic decides.
        if self.set >> index & 1 == 1 || (!self.model.null_sets_field && value.is_none()) {
            return Err(Failure::Foreign);
        }
        self.set |= 1 << index;
        #[expect(clippy::cast_possible_truncation, reason = "below MOST_FIELDS")]
        {
            self.order.0[self.order.1] = index as u8;
        }
        self.order.1 += 1;
        Ok(self.dict.set_item(self.model.fields[index].name.bind(value.py()), value)?)
    }

    /// The indexes of the fields that were set, in that order.
    pub fn fields(&self) -> &[u8] {
        &self.order.0[..self.order.1]
    }

    /// The names of the fields that were set.
    pub fn names(&self) -> PyResult<Bound<'py, PySet>> {
        let py = self.dict.py();
        let names = PySet::empty(py)?;
        let mut left = self.set;
        while left != 0 {
            names.add(self.model.fields[left.trailing_zeros() as usize].name.bind(py))?;
            left &= left - 1;
        }
        Ok(names)
    }

    /// The finished instance; foreign if a field without a default was not set.
    pub fn finish(self, plan: &Plan, names: Bound<'py, PySet>) -> Converted<Bound<'py, PyAny>> {
        let Self { model, dict, set, .. } = self;
        let py = dict.py();
        let is_set = |index: &usize| set >> index & 1 == 1;
        if !model.required.iter().all(is_set) {
            return Err(Failure::Foreign);
        }
        for (index, factory) in &model.factories {
            if is_set(index) {
                continue;
            }
            let value = match factory {
                Factory::Dict => PyDict::new(py).into_any(),
                Factory::List => PyList::empty(py).into_any(),
                Factory::Call(factory) => factory.bind(py).call0()?,
            };
            dict.set_item(model.fields[*index].name.bind(py), value)?;
        }
        let private = match &model.private {
            Some(private) => private.bind(py).copy()?.into_any(),
            None => py.None().into_bound(py),
        };
        let contents = Contents { dict, fields_set: names, private };
        Ok(objects::new_instance(model.class.bind(py), &plan.slots, contents)?)
    }
}
