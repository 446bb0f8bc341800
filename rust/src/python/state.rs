//! Session, user and app state: JSONB values by scope, and the one dict in which ADK shows them.

use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyDict, PyString};

use super::decode::Decoder;
use super::encode::{Encoder, Foreign};
use super::errors::Failure;
use super::plan;
use super::seal::{
    APP_STATE, Opener, SESSION_STATE, Scope, StateScope, USER_STATE, open_state, refuse_sealed,
};
use super::strings::stored;
use crate::columns::{self, Array};
use crate::error::{Error, ErrorKind};
use crate::order::Hint;
use crate::write;

const APP: &str = "app:";
const USER: &str = "user:";
const TEMPORARY: &str = "temp:";

/// The state of a session as ADK shows it: its own, then `app:` and `user:` keys.
#[pyfunction]
#[pyo3(signature = (session, app=None, user=None, *, place, seal=None))]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
pub fn decode_state<'py>(
    py: Python<'py>,
    session: &Bound<'py, PyBytes>,
    app: Option<&Bound<'py, PyBytes>>,
    user: Option<&Bound<'py, PyBytes>>,
    place: &str,
    seal: Option<Scope<'py>>,
) -> PyResult<Bound<'py, PyDict>> {
    let opener = seal.as_ref().map(Opener::new);
    let mut decoder = Decoder::new(py, super::plan(py)?);
    let mut object = |value: &Bound<'py, PyBytes>, scope: StateScope| {
        open_state(value.as_bytes(), scope, opener.as_ref(), None)
            .and_then(|value| object(&mut decoder, &value))
            .map_err(|failure| failure.raise(py, &format!("{place}, {}", scope.kind)))
    };
    let state = object(session, SESSION_STATE)?;
    for (value, scope) in [(app, APP_STATE), (user, USER_STATE)] {
        if let Some(value) = value {
            merge(&state, scope.prefix, &object(value, scope)?)?;
        }
    }
    opener.map_or(Ok(()), |opener| opener.finish(py))?;
    Ok(state)
}

/// One of the shared states, keys without their prefix.
#[pyfunction]
#[pyo3(signature = (value, *, scope, place, seal=None))]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
pub fn decode_shared_state<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyBytes>,
    scope: &str,
    place: &str,
    seal: Option<Scope<'py>>,
) -> PyResult<Bound<'py, PyDict>> {
    let opener = seal.as_ref().map(Opener::new);
    let mut decoder = Decoder::new(py, super::plan(py)?);
    let state = open_state(value.as_bytes(), StateScope::of(scope)?, opener.as_ref(), None)
        .and_then(|value| object(&mut decoder, &value))
        .map_err(|failure| failure.raise(py, place))?;
    opener.map_or(Ok(()), |opener| opener.finish(py))?;
    Ok(state)
}

fn object<'py>(decoder: &mut Decoder<'py, '_>, value: &[u8]) -> Result<Bound<'py, PyDict>, Failure> {
    let value = decoder.any_document(utf8(columns::jsonb(value)?)?, &Hint::default())?;
    value.cast_into::<PyDict>().map_err(|_| Failure::Foreign)
}

/// A jsonb value as the Python object it stands for, escapes undone.
#[pyfunction]
#[pyo3(signature = (value, *, place))]
pub fn decode_json<'py>(
    py: Python<'py>,
    value: &Bound<'py, PyBytes>,
    place: &str,
) -> PyResult<Bound<'py, PyAny>> {
    let mut decoder = Decoder::new(py, super::plan(py)?);
    let text = columns::jsonb(value.as_bytes()).and_then(utf8).map_err(Failure::from);
    text.and_then(|text| refuse_sealed(value.as_bytes()).map(|()| text))
        .and_then(|text| decoder.any_document(text, &Hint::default()))
        .map_err(|failure| failure.raise(py, place))
}

/// A JSON value as jsonb; `None` where something in it is not a JSON value.
#[pyfunction]
pub fn encode_json<'py>(py: Python<'py>, value: &Bound<'py, PyAny>) -> PyResult<Option<Bound<'py, PyBytes>>> {
    let mut encoder = Encoder::new(py, super::plan(py)?, vec![1], true, Foreign::GiveUp);
    match encoder.tree(None, value, 0) {
        Ok(()) => Ok(Some(PyBytes::new(py, &encoder.out))),
        Err(Failure::Foreign) => Ok(None),
        Err(failure) => Err(failure.raise(py, "value")),
    }
}

type Scopes<'py> = (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>);

/// Splits a state delta into jsonb values for session, app and user; `None` for a scope without keys.
/// `temp:` keys are left out. Gives `None` where something in it is not a JSON value.
#[pyfunction]
pub fn encode_state<'py>(py: Python<'py>, delta: &Bound<'py, PyDict>) -> PyResult<Option<Scopes<'py>>> {
    let plan = super::plan(py)?;
    let mut scopes: [Vec<u8>; 3] = Default::default();
    for (key, value) in delta.iter() {
        match member(py, plan, &mut scopes, &key, &value) {
            Ok(()) => {}
            Err(Failure::Foreign) => return Ok(None),
            Err(failure) => return Err(failure.raise(py, &format!("state key {}", key.repr()?))),
        }
    }
    let [session, app, user] = scopes.map(|mut scope| {
        (!scope.is_empty()).then(|| {
            scope.push(b'}');
            PyBytes::new(py, &scope)
        })
    });
    Ok(Some((session, app, user)))
}

fn member<'py>(
    py: Python<'py>,
    plan: &plan::Plan,
    scopes: &mut [Vec<u8>; 3],
    key: &Bound<'py, PyAny>,
    value: &Bound<'py, PyAny>,
) -> Result<(), Failure> {
    let key = stored(key.cast_exact::<PyString>()?)?;
    let (scope, key) = if let Some(key) = key.strip_prefix(APP) {
        (&mut scopes[1], key)
    } else if let Some(key) = key.strip_prefix(USER) {
        (&mut scopes[2], key)
    } else if key.starts_with(TEMPORARY) {
        return Ok(());
    } else {
        (&mut scopes[0], &*key)
    };
    let mut out = std::mem::take(scope);
    out.extend_from_slice(if out.is_empty() { b"\x01{" } else { b"," });
    write::stored_string(&mut out, key);
    out.push(b':');
    let mut encoder = Encoder::new(py, plan, out, true, Foreign::GiveUp);
    encoder.tree(None, value, 1)?;
    *scope = encoder.out;
    Ok(())
}

/// One listed session: user, id, state as ADK shows it, times of creation and last update, revision.
type Listed<'py> = (Bound<'py, PyString>, Bound<'py, PyString>, Bound<'py, PyDict>, f64, f64, i64);

/// The sessions of one list, from an array a column (user ids, ids, states, create times, update times,
/// revisions), the app's state, and the states of users (ids and states).
#[pyfunction]
#[pyo3(signature = (sessions, app, user_states, *, place, seal=None))]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
pub fn decode_sessions<'py>(
    py: Python<'py>,
    sessions: [Option<Bound<'py, PyBytes>>; 6],
    app: Option<&Bound<'py, PyBytes>>,
    user_states: (Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>),
    place: &str,
    seal: Option<Scope<'py>>,
) -> PyResult<Vec<Listed<'py>>> {
    let opener = seal.as_ref().map(Opener::new);
    let mut decoder = Decoder::new(py, super::plan(py)?);
    let listed = list(&mut decoder, &sessions, app, &user_states, opener.as_ref());
    let listed = listed.map_err(|failure| failure.raise(py, place))?;
    opener.map_or(Ok(()), |opener| opener.finish(py))?;
    Ok(listed)
}

fn list<'py>(
    decoder: &mut Decoder<'py, '_>,
    sessions: &[Option<Bound<'py, PyBytes>>; 6],
    app: Option<&Bound<'py, PyBytes>>,
    user_states: &(Option<Bound<'py, PyBytes>>, Option<Bound<'py, PyBytes>>),
    opener: Option<&Opener<'_>>,
) -> Result<Vec<Listed<'py>>, Failure> {
    let py = decoder.py();
    let [Some(users), Some(ids), Some(states), Some(created), Some(updated), Some(revisions)] = sessions
    else {
        return Ok(Vec::new());
    };
    // Shared states are decoded again for every session, so that no two sessions share an object.
    let mut by_user = std::collections::HashMap::new();
    if let (Some(ids), Some(states)) = user_states {
        let (mut ids, mut states) = (Array::parse(ids.as_bytes())?, Array::parse(states.as_bytes())?);
        while !ids.is_empty() {
            by_user.insert(ids.element()?.unwrap_or_default(), states.element()?.unwrap_or_default());
        }
    }
    let mut columns = Vec::with_capacity(6);
    for column in [users, ids, states, created, updated, revisions] {
        columns.push(Array::parse(column.as_bytes())?);
    }
    let mut found = Vec::with_capacity(columns[0].len());
    while !columns[0].is_empty() {
        let mut values = [[].as_slice(); 6];
        for (column, value) in columns.iter_mut().zip(&mut values) {
            *value = column.element()?.unwrap_or_default();
        }
        let [user, id, state, created, updated, revision] = values;
        let (user_id, session_id) = (utf8(user)?, utf8(id)?);
        let named = |failure| match failure {
            Failure::Sealed(words) => {
                Failure::Sealed(format!("session {session_id:?} of user {user_id:?}: {words}"))
            }
            failure => failure,
        };
        let mut scoped = |value, scope| {
            let plain = open_state(value, scope, opener, Some((user_id, session_id))).map_err(named)?;
            object(decoder, &plain)
        };
        let shown = scoped(state, SESSION_STATE)?;
        if let Some(app) = app {
            merge(&shown, APP, &scoped(app.as_bytes(), APP_STATE)?)?;
        }
        if let Some(state) = by_user.get(user) {
            merge(&shown, USER, &scoped(state, USER_STATE)?)?;
        }
        found.push((
            decoder.repeated(user_id)?,
            PyString::new(py, session_id),
            shown,
            columns::seconds_from_micros(columns::unix_micros(created)?),
            columns::seconds_from_micros(columns::unix_micros(updated)?),
            columns::int64(revision)?,
        ));
    }
    Ok(found)
}

fn merge<'py>(state: &Bound<'py, PyDict>, prefix: &str, scope: &Bound<'py, PyDict>) -> PyResult<()> {
    for (key, value) in scope.iter() {
        state.set_item(PyString::new(state.py(), prefix).add(key)?, value)?;
    }
    Ok(())
}

fn utf8(bytes: &[u8]) -> crate::error::Result<&str> {
    std::str::from_utf8(bytes)
        .map_err(|error| Error { kind: ErrorKind::InvalidUtf8, at: error.valid_up_to() })
}
