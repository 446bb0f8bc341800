//! The extension module `adk_psqlpy._native`; its contract is `python/adk_psqlpy/_native.pyi`.

mod array;
mod compile;
mod decode;
mod encode;
mod errors;
mod event_to_row;
mod instance;
mod lent;
mod objects;
mod plan;
mod recording;
mod row_to_event;
mod schema;
mod seal;
mod session;
mod state;
mod strings;

use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

use plan::Plan;

static PLAN: PyOnceLock<Plan> = PyOnceLock::new();

/// The plan, compiled when first asked for.
fn plan(py: Python<'_>) -> PyResult<&'static Plan> {
    PLAN.get_or_try_init(py, || {
        let event = py.import("google.adk.events.event")?.getattr("Event")?;
        let session = py.import("google.adk.sessions.session")?.getattr("Session")?;
        compile::compile(&event, &session)
    })
}

/// ADK events to PostgreSQL columns and back.
#[pymodule(gil_used = true)]
mod _native {
    #[pymodule_export]
    use super::array::encode_arrays;
    #[pymodule_export]
    use super::event_to_row::encode_event;
    #[pymodule_export]
    use super::recording::Recording;
    #[pymodule_export]
    use super::row_to_event::{decode_events, record_events};
    #[pymodule_export]
    use super::seal::{
        Keys, SealError, UnknownKeysError, open_value, seal_event, seal_state, seal_value, sealed_with,
    };
    #[pymodule_export]
    use super::session::make_session;
    #[pymodule_export]
    use super::state::{
        decode_json, decode_sessions, decode_shared_state, decode_state, encode_json, encode_state,
    };

    use pyo3::prelude::*;
    use pyo3::types::PyTuple;

    use crate::row;

    /// A class, why it is not decoded on the fast path, and why not encoded.
    type ModelReport = (String, Option<String>, Option<String>);

    /// Per model class reachable from `Event`: its name, and why not where the fast path is not taken.
    #[pyfunction]
    fn model_report(py: Python<'_>) -> PyResult<Vec<ModelReport>> {
        let plan = super::plan(py)?;
        let row = |model: &super::plan::Model| {
            (model.name.clone(), model.slow.clone(), model.slow_to_encode.clone())
        };
        Ok(plan.models.iter().map(row).collect())
    }

    /// Whether the entries of dicts are read where they lie, which depends on the version of Python.
    #[pyfunction]
    fn reads_dict_entries(py: Python<'_>) -> PyResult<bool> {
        Ok(super::plan(py)?.dicts.is_known())
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        let columns: Vec<_> = row::COLUMNS.iter().map(|column| (column.name, column.kind.sql())).collect();
        module.add("EVENT_COLUMNS", PyTuple::new(py, columns)?)?;
        module.add("OWN_ARRAYS", row::OWN_ARRAYS)?;
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("DEBUG_BUILD", cfg!(debug_assertions))?;
        Ok(())
    }
}
