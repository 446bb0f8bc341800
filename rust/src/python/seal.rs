//! Sealed values in Python: keys, opening the values of one result, and single values.

mod event;
mod state;

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use pyo3::exceptions::{PyException, PyKeyError, PyRuntimeError, PyValueError};
use pyo3::prelude::*;
use pyo3::pybacked::{PyBackedBytes, PyBackedStr};
use pyo3::types::{PyBytes, PyDict};

use super::errors::{Converted, Failure};
use crate::columns;
use crate::error::{Error, ErrorKind};
use crate::seal::{self, Cipher, Envelope, Key, LEAD, NONCE};

pub use event::{open_row, seal_event};
pub use state::{APP_STATE, SESSION_STATE, StateScope, USER_STATE, open_state, refuse_sealed, seal_state};

const NO_SEAL: &str = "sealed, and there is nothing to open it with: give the store or service the seal= that it was written with";

pyo3::create_exception!(_native, SealError, PyValueError, "A sealed value could not be opened.");
pyo3::create_exception!(
    _native,
    UnknownKeysError,
    PyException,
    "Values are sealed with keys that are not at hand: a dict of their ids, and where each was met first."
);

impl From<seal::SealError> for Failure {
    fn from(error: seal::SealError) -> Self {
        Self::Sealed(error.to_string())
    }
}

/// Keys by id. The caller fetches keys that are missing here.
#[pyclass(frozen, module = "adk_psqlpy._native")]
#[derive(Default)]
pub struct Keys {
    keys: Mutex<HashMap<String, Arc<Key>>>,
}

#[pymethods]
impl Keys {
    #[new]
    fn new() -> Self {
        Self::default()
    }

    /// Takes a key of 32 bytes in.
    fn add(&self, key_id: &str, key: &[u8]) -> PyResult<()> {
        let key = Key::new(key_id, key).map_err(|error| PyValueError::new_err(error.to_string()))?;
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).insert(key_id.to_owned(), Arc::new(key));
        Ok(())
    }

    /// Forgets a key.
    fn discard(&self, key_id: &str) {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).remove(key_id);
    }

    fn __contains__(&self, key_id: &str) -> bool {
        self.get(key_id).is_some()
    }

    fn __len__(&self) -> usize {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The keyed hash of each word, in the order given: 32 letters.
    #[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
    fn hash_words(
        &self,
        key_id: &str,
        app_name: &str,
        user_id: &str,
        words: Vec<PyBackedStr>,
    ) -> PyResult<Vec<String>> {
        let key = self.required(key_id)?;
        Ok(words.iter().map(|word| key.hash_word(app_name, user_id, word)).collect())
    }
}

impl Keys {
    fn get(&self, key_id: &str) -> Option<Arc<Key>> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner).get(key_id).cloned()
    }

    fn required(&self, key_id: &str) -> PyResult<Arc<Key>> {
        self.get(key_id).ok_or_else(|| PyKeyError::new_err(format!("no key {key_id:?} at hand")))
    }
}

/// Keys, app name, user id, session id: whose values are opened or sealed.
pub type Scope<'py> = (Bound<'py, Keys>, PyBackedStr, PyBackedStr, PyBackedStr);

/// Opens the values of one result, and takes note of the keys that are missing.
pub struct Opener<'s> {
    keys: &'s Keys,
    app: &'s str,
    user: &'s str,
    session: &'s str,
    /// The last one used, with the kind of row and the user that it is for: most values have the same.
    cipher: RefCell<Option<(&'static str, String, Cipher)>>,
    missing: RefCell<BTreeMap<String, String>>,
}

impl<'s> Opener<'s> {
    /// For the values of a scope.
    pub fn new<'py>(scope: &'s Scope<'py>) -> Self {
        let (keys, app, user, session) = scope;
        Self { keys: keys.get(), app, user, session, cipher: RefCell::default(), missing: RefCell::default() }
    }

    /// Appends an envelope's plain text. Where its key is missing, that is taken note of, and the answer is `false`.
    fn open(
        &self,
        out: &mut Vec<u8>,
        envelope: Result<Envelope<'_>, seal::SealError>,
        (kind, user): (&'static str, &str),
        rest: &[&[u8]],
        told: impl FnOnce() -> String,
    ) -> Converted<bool> {
        let envelope = envelope?;
        let mut last = self.cipher.borrow_mut();
        if let Some((known, whose, cipher)) = &mut *last
            && *known == kind
            && whose == user
            && cipher.id() == envelope.id
        {
            cipher.open(out, &envelope, rest)?;
            return Ok(true);
        }
        let Some(key) = self.keys.get(envelope.id) else {
            self.missing.borrow_mut().entry(envelope.id.to_owned()).or_insert_with(told);
            return Ok(false);
        };
        let (_, _, cipher) = last.insert((kind, user.to_owned(), key.cipher(kind, self.app, user)));
        cipher.open(out, &envelope, rest)?;
        Ok(true)
    }

    /// Whether keys were missing so far.
    pub fn lacks_keys(&self) -> bool {
        !self.missing.borrow().is_empty()
    }

    /// Raises `UnknownKeysError` where keys were missing.
    pub fn finish(self, py: Python<'_>) -> PyResult<()> {
        let missing = self.missing.into_inner();
        if missing.is_empty() {
            return Ok(());
        }
        let found = PyDict::new(py);
        for (id, told) in missing {
            found.set_item(id, told)?;
        }
        Err(UnknownKeysError::new_err((found.unbind(),)))
    }
}

/// The JSON text behind jsonb's version byte.
pub fn json_of(value: &[u8]) -> Converted<&str> {
    Ok(utf8(columns::jsonb(value)?)?)
}

/// A text.
pub fn utf8(bytes: &[u8]) -> crate::error::Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error { kind: ErrorKind::InvalidUtf8, at: error.valid_up_to() })
}

fn no_random(error: &seal::SealError) -> PyErr {
    PyRuntimeError::new_err(error.to_string())
}

/// A jsonb value, sealed as a jsonb string.
fn sealed_jsonb(cipher: &mut Cipher, nonce: [u8; NONCE], rest: &[&[u8]], value: &[u8]) -> Vec<u8> {
    let mut out = vec![1];
    cipher.seal_json(&mut out, nonce, rest, value.strip_prefix(&[1]).unwrap_or(value));
    out
}

/// Kind, app name, user id, and what else tells the place of a value.
type PlaceOf = (PyBackedStr, PyBackedStr, PyBackedStr, Vec<PyBackedBytes>);

/// Any other value, sealed. `form` is the type of its column: bytea, jsonb or text.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
#[pyo3(signature = (value, keys, key_id, place, *, form))]
pub fn seal_value<'py>(
    py: Python<'py>,
    value: &[u8],
    keys: &Bound<'py, Keys>,
    key_id: &str,
    place: PlaceOf,
    form: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let key = keys.get().required(key_id)?;
    let (kind, app, user, rest) = &place;
    let rest: Vec<&[u8]> = rest.iter().map(AsRef::as_ref).collect();
    let mut cipher = key.cipher(kind, app, user);
    let [nonce] = seal::nonces().map_err(|error| no_random(&error))?;
    let sealed = match form {
        "jsonb" => sealed_jsonb(&mut cipher, nonce, &rest, value),
        "text" => {
            let mut quoted = Vec::new();
            cipher.seal_json(&mut quoted, nonce, &rest, value);
            quoted[1..quoted.len() - 1].to_vec()
        }
        _ => cipher.seal(nonce, &rest, value),
    };
    Ok(PyBytes::new(py, &sealed))
}

/// What `seal_value` sealed, or the value itself where it is not sealed. `told` names the place in errors.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
#[pyo3(signature = (value, keys, place, *, form, told))]
pub fn open_value<'py>(
    py: Python<'py>,
    value: Bound<'py, PyBytes>,
    keys: Option<&Bound<'py, Keys>>,
    place: PlaceOf,
    form: &str,
    told: &str,
) -> PyResult<Bound<'py, PyBytes>> {
    let bytes = value.as_bytes();
    let quoted;
    let envelope = match form {
        "jsonb" => bytes.strip_prefix(&[1]).and_then(Envelope::json),
        "text" if bytes.starts_with(LEAD.as_bytes()) => {
            quoted = [b"\"", bytes, b"\""].concat();
            Envelope::json(&quoted)
        }
        "text" => None,
        _ => Envelope::bytea(bytes),
    };
    let Some(envelope) = envelope else { return Ok(value) };
    let (kind, app, user, rest) = &place;
    let rest: Vec<&[u8]> = rest.iter().map(AsRef::as_ref).collect();
    let raise = |failure: Failure| failure.raise(py, told);
    let keys = keys.ok_or_else(|| raise(Failure::Sealed(NO_SEAL.into())))?;
    let envelope = envelope.map_err(|error| raise(error.into()))?;
    let Some(key) = keys.get().get(envelope.id) else {
        let missing = PyDict::new(py);
        missing.set_item(envelope.id, told)?;
        return Err(UnknownKeysError::new_err((missing.unbind(),)));
    };
    let mut plain = if form == "jsonb" { vec![1] } else { Vec::new() };
    let opened = key.cipher(kind, app, user).open(&mut plain, &envelope, &rest);
    opened.map_err(|error| raise(error.into()))?;
    Ok(PyBytes::new(py, &plain))
}

/// The id of the key that a value is sealed with; `None` where it is not sealed.
#[pyfunction]
#[pyo3(signature = (value, *, form))]
pub fn sealed_with(value: &[u8], form: &str) -> Option<String> {
    // A text's envelope is read like bytea's: nothing behind the id is looked at.
    let envelope = if form == "jsonb" {
        value.strip_prefix(&[1]).and_then(Envelope::json)
    } else {
        Envelope::bytea(value)
    };
    envelope.and_then(Result::ok).map(|envelope| envelope.id.to_owned())
}
