//! Making array parameters of values that are in PostgreSQL's binary format already.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyList};

use crate::columns::write_array;

/// Turns rows into columns: one array for each of `element_types`.
#[pyfunction]
pub fn encode_arrays<'py>(
    py: Python<'py>,
    element_types: &Bound<'py, PyList>,
    rows: &Bound<'py, PyList>,
) -> PyResult<Vec<Bound<'py, PyBytes>>> {
    let element_types: Vec<u32> = element_types.extract()?;
    let rows: Vec<Vec<Option<Bound<'py, PyBytes>>>> = rows.extract()?;
    if rows.iter().any(|row| row.len() != element_types.len()) {
        return Err(PyValueError::new_err("every row must have one value for each of the element types"));
    }
    let array = |(place, element_type): (usize, &u32)| {
        let elements = rows.iter().map(|row| row[place].as_ref().map(PyBytesMethods::as_bytes));
        let array = write_array(*element_type, elements)
            .ok_or_else(|| PyValueError::new_err("a value, or their number, is more than 32 bits can say"))?;
        Ok(PyBytes::new(py, &array))
    };
    element_types.iter().enumerate().map(array).collect()
}
