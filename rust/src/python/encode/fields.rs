//! Finding the fields of an instance that have to be written.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::python::errors::{Converted, Failure};
use crate::python::objects::{self, DictLayout};
use crate::python::plan::Model;

/// Appends the fields of an instance that are not `None` to `values`, and returns a bit for each of them.
/// Returns foreign if a field is missing.
pub fn present<'py>(
    model: &Model,
    dict: &Bound<'py, PyDict>,
    layout: DictLayout,
    values: &mut Vec<Option<Bound<'py, PyAny>>>,
) -> Converted<u64> {
    let (start, mut present) = (values.len(), 0);
    // Pydantic fills `__dict__` in the order of the fields, with the very names that the plan holds.
    let in_order = objects::each_present(dict, &model.names, layout, |index, value| {
        present |= 1 << index;
        values.push(Some(value.to_owned()));
    });
    if in_order {
        return Ok(present);
    }
    values.truncate(start);
    // Assigned in another order, or not a field: a cached property, for one.
    let mut present = 0;
    for (index, name) in model.names.iter().enumerate() {
        let value = dict.get_item(name)?.ok_or(Failure::Foreign)?;
        if !value.is_none() {
            present |= 1 << index;
            values.push(Some(value));
        }
    }
    Ok(present)
}

/// The numbers of the bits that are set, from the lowest.
pub fn bits(mut left: u64) -> impl Iterator<Item = usize> {
    std::iter::from_fn(move || {
        let lowest = (left != 0).then(|| left.trailing_zeros() as usize);
        left &= left.wrapping_sub(1);
        lowest
    })
}
