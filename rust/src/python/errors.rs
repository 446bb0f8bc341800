//! The ways in which a conversion can fail.

use pyo3::exceptions::{PyException, PyMemoryError, PyRecursionError, PyValueError};
use pyo3::prelude::*;

use super::seal::SealError;
use crate::error::Error;

/// Why a value was not converted on the fast path.
pub enum Failure {
    /// The stored bytes are malformed.
    Malformed(Error),
    /// Well-formed, but not something that the plan understands: pydantic has to do it.
    Foreign,
    /// It cannot be stored; the words say why.
    Refused(String),
    /// It is sealed, and cannot be opened; the words say why.
    Sealed(String),
    /// Python raised.
    Raised(PyErr),
}

/// A result on the fast path.
pub type Converted<T> = Result<T, Failure>;

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Malformed(error)
    }
}

impl From<PyErr> for Failure {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<pyo3::CastError<'_, '_>> for Failure {
    fn from(_: pyo3::CastError<'_, '_>) -> Self {
        Self::Foreign
    }
}

impl Failure {
    /// The exception to raise, with the place it happened in front.
    pub fn raise(self, py: Python<'_>, place: &str) -> PyErr {
        match self {
            Self::Malformed(error) => PyValueError::new_err(format!("{place}: {error}")),
            Self::Foreign => PyValueError::new_err(format!("{place}: not a value that this column holds")),
            Self::Sealed(words) => SealError::new_err(format!("{place}: {words}")),
            Self::Refused(words) => PyValueError::new_err(format!("{place}: {words}")),
            // Validators raise AttributeError and TypeError too, on values of a kind they did not expect.
            Self::Raised(error) if is_about_the_value(py, &error) => {
                let raised = PyValueError::new_err(format!("{place}: {}", error.value(py)));
                raised.set_cause(py, Some(error));
                raised
            }
            Self::Raised(error) => error,
        }
    }
}

fn is_about_the_value(py: Python<'_>, error: &PyErr) -> bool {
    error.is_instance_of::<PyException>(py)
        && !error.is_instance_of::<PyMemoryError>(py)
        && !error.is_instance_of::<PyRecursionError>(py)
}
