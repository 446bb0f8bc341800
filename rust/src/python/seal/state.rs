//! State, sealed by its top-level keys, so that `state || delta` merges on the server as it does unsealed.

use std::borrow::Cow;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;
use pyo3::types::PyBytes;

use super::super::errors::{Converted, Failure};
use super::{NO_SEAL, Opener, Scope, json_of, no_random};
use crate::seal::{self, Envelope};
use crate::stored::members;
use crate::write;

/// Whose state: its name in the associated data and in messages.
#[derive(Clone, Copy)]
pub struct StateScope {
    /// The name.
    pub kind: &'static str,
    /// The prefix that ADK's keys of this scope have.
    pub prefix: &'static str,
}

/// A session's own state.
pub const SESSION_STATE: StateScope = StateScope { kind: "session state", prefix: "" };
/// The state of a user in an app.
pub const USER_STATE: StateScope = StateScope { kind: "user state", prefix: "user:" };
/// The state of an app.
pub const APP_STATE: StateScope = StateScope { kind: "app state", prefix: "app:" };

impl StateScope {
    /// The scope of a name.
    pub fn of(kind: &str) -> PyResult<Self> {
        let found = [SESSION_STATE, USER_STATE, APP_STATE].into_iter().find(|scope| scope.kind == kind);
        found.ok_or_else(|| PyValueError::new_err(format!("there is no {kind:?}")))
    }

    fn rest<'p>(self, session: &'p str, name: &'p str) -> [&'p [u8]; 2] {
        let session = if self.kind == SESSION_STATE.kind { session } else { "" };
        [session.as_bytes(), name.as_bytes()]
    }

    /// Whose key it is: an app's state belongs to no user.
    fn owner(self, user: &str) -> &str {
        if self.kind == APP_STATE.kind { "" } else { user }
    }
}

/// Fails where a jsonb value is sealed, or is an object of which a member is.
pub fn refuse_sealed(value: &[u8]) -> Converted<()> {
    if !seal::may_hold_sealed(value) {
        return Ok(());
    }
    let text = json_of(value)?;
    if Envelope::json(text.as_bytes()).is_some() {
        return Err(Failure::Sealed(NO_SEAL.into()));
    }
    // What is no object has no members.
    for (name, text) in members(text).unwrap_or_default() {
        if Envelope::json(text.as_bytes()).is_some() {
            return Err(Failure::Sealed(format!("key {name:?}: {NO_SEAL}")));
        }
    }
    Ok(())
}

/// A state as jsonb with its sealed members opened.
pub fn open_state<'b>(
    value: &'b [u8],
    scope: StateScope,
    opener: Option<&Opener<'_>>,
    whose: Option<(&str, &str)>,
) -> Converted<Cow<'b, [u8]>> {
    if !seal::may_hold_sealed(value) {
        return Ok(value.into());
    }
    let Some(opener) = opener else {
        refuse_sealed(value)?;
        return Ok(value.into());
    };
    let (user, session) = whose.unwrap_or((opener.user, opener.session));
    Ok(opener.state(value, scope, user, session)?.map_or(value.into(), Cow::Owned))
}

impl Opener<'_> {
    /// A state whose sealed members are opened; `None` where none is sealed.
    fn state(
        &self,
        value: &[u8],
        scope: StateScope,
        user: &str,
        session: &str,
    ) -> Converted<Option<Vec<u8>>> {
        let mut out = vec![1, b'{'];
        for (name, text) in members(json_of(value)?)? {
            if out.len() > 2 {
                out.push(b',');
            }
            write::stored_string(&mut out, &name);
            out.push(b':');
            let Some(envelope) = Envelope::json(text.as_bytes()) else {
                out.extend_from_slice(text.as_bytes());
                continue;
            };
            let rest = scope.rest(session, &name);
            let told = || {
                let whose =
                    if session.is_empty() { String::new() } else { format!("session {session:?} of ") };
                format!("{whose}user {user:?} in app {:?}, {}, key {name:?}", self.app, scope.kind)
            };
            match self.open(&mut out, envelope, (scope.kind, scope.owner(user)), &rest, told) {
                Ok(true) => {}
                Ok(false) => out.extend_from_slice(b"null"),
                Err(Failure::Sealed(words)) => return Err(Failure::Sealed(format!("key {name:?}: {words}"))),
                Err(failure) => return Err(failure),
            }
        }
        out.push(b'}');
        Ok(Some(out))
    }
}

/// A state, or a delta of one, as jsonb, with those members sealed whose keys are like one of `patterns` and
/// like none of `plain`. Patterns are of ADK's keys, with `app:` and `user:` before those of these scopes.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
#[pyo3(signature = (value, key_id, seal, *, scope, patterns, plain))]
pub fn seal_state<'py>(
    py: Python<'py>,
    value: &[u8],
    key_id: &str,
    seal: Scope<'py>,
    scope: &str,
    patterns: Vec<PyBackedStr>,
    plain: Vec<PyBackedStr>,
) -> PyResult<Bound<'py, PyBytes>> {
    let (keys, app, user, session) = &seal;
    let scope = StateScope::of(scope)?;
    let mut cipher = keys.get().required(key_id)?.cipher(scope.kind, app, scope.owner(user));
    let malformed = |failure: Failure| failure.raise(py, scope.kind);
    let mut out = vec![1, b'{'];
    for (name, text) in json_of(value).and_then(|text| Ok(members(text)?)).map_err(malformed)? {
        if out.len() > 2 {
            out.push(b',');
        }
        write::stored_string(&mut out, &name);
        out.push(b':');
        let full = format!("{}{name}", scope.prefix);
        let is_like = |pattern: &PyBackedStr| seal::is_like(&full, pattern);
        if patterns.iter().any(is_like) && !plain.iter().any(is_like) {
            let [nonce] = seal::nonces().map_err(|error| no_random(&error))?;
            let rest = scope.rest(session, &name);
            cipher.seal_json(&mut out, nonce, &rest, text.as_bytes());
        } else {
            out.extend_from_slice(text.as_bytes());
        }
    }
    out.push(b'}');
    Ok(PyBytes::new(py, &out))
}
