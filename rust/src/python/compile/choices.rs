//! Nodes with a fixed set of values: enumerations and literals.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyString, PyType};

use crate::python::plan::{Enumeration, Node};
use crate::write;

/// Members by their value, which has to be a string.
pub fn enumeration(schema: &Bound<'_, PyDict>) -> PyResult<Node> {
    let class = schema.as_any().get_item("cls")?.cast_into::<PyType>()?;
    let (mut members, mut quoted) = (HashMap::new(), Vec::new());
    for member in schema.as_any().get_item("members")?.try_iter()? {
        let member = member?;
        let Ok(value) = member.getattr("value")?.extract::<String>() else {
            return Ok(Node::Opaque);
        };
        let mut text = Vec::new();
        write::string(&mut text, &value);
        quoted.push((member.clone().unbind(), String::from_utf8_lossy(&text).into_owned()));
        members.insert(value, member.unbind());
    }
    Ok(Node::Enum(Enumeration { class: class.unbind(), members, quoted }))
}

/// Strings, and nothing else.
pub fn literal(schema: &Bound<'_, PyDict>) -> PyResult<Node> {
    let mut expected = HashMap::new();
    for value in schema.as_any().get_item("expected")?.try_iter()? {
        let value = value?;
        if !value.is_exact_instance_of::<PyString>() {
            return Ok(Node::Opaque);
        }
        expected.insert(value.extract()?, value.unbind());
    }
    Ok(Node::Literal(expected))
}
