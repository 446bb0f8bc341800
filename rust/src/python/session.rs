//! ADK's session objects.

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use super::instance::Instance;
use super::plan::Plan;

/// A `google.adk` `Session` of these values, its marker for stale writers set.
///
/// Equal to `Session(...)` of the same values, which would validate them once more: 1.5 against 15 µs, and
/// a list has thousands.
#[pyfunction]
#[pyo3(signature = (*, id, app_name, user_id, state, events, last_update_time, marker))]
#[expect(clippy::too_many_arguments, reason = "the fields of Session")]
pub fn make_session<'py>(
    py: Python<'py>,
    id: Bound<'py, PyAny>,
    app_name: Bound<'py, PyAny>,
    user_id: Bound<'py, PyAny>,
    state: Bound<'py, PyAny>,
    events: Bound<'py, PyAny>,
    last_update_time: Bound<'py, PyAny>,
    marker: Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    let plan = super::plan(py)?;
    let model = &plan.models[plan.session];
    let values = [
        ("id", id),
        ("app_name", app_name),
        ("user_id", user_id),
        ("state", state),
        ("events", events),
        ("last_update_time", last_update_time),
    ];
    let session = if let Some(session) = direct(py, plan, &values)? {
        session
    } else {
        let fields = PyDict::new(py);
        for (name, value) in values {
            fields.set_item(name, value)?;
        }
        model.class.bind(py).call((), Some(&fields))?
    };
    let private = session.getattr(intern!(py, "__pydantic_private__"))?.cast_into::<PyDict>()?;
    private.set_item(intern!(py, "_storage_update_marker"), marker)?;
    Ok(session)
}

/// The instance, if the plan covers the class and its fields.
fn direct<'py>(
    py: Python<'py>,
    plan: &Plan,
    values: &[(&str, Bound<'py, PyAny>)],
) -> PyResult<Option<Bound<'py, PyAny>>> {
    let model = &plan.models[plan.session];
    if model.slow.is_some() {
        return Ok(None);
    }
    let mut instance = Instance::begin(py, plan, plan.session)?;
    for (name, value) in values {
        let Some(field) = model.fields.iter().position(|field| field.key == *name) else {
            return Ok(None);
        };
        if instance.set(field, value).is_err() {
            return Ok(None);
        }
    }
    let names = instance.names()?;
    Ok(instance.finish(plan, names).ok())
}
