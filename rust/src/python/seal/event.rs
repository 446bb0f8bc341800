//! Rows of events.

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::{PyBytes, PyList};

use super::super::errors::{Converted, Failure};
use super::{NO_SEAL, Opener, Scope, json_of, no_random, sealed_jsonb, utf8};
use crate::columns;
use crate::row::{COLUMNS, EXTRA, OWN_ARRAYS, SEALED_TEXTS};
use crate::seal::{self, Envelope, LEAD, NONCE};
use crate::stored::members;
use crate::write;

const ID: usize = 0;
const ACTIONS: usize = 4;
const CONTENT: usize = 5;
const ERROR_MESSAGE: usize = 9;
const GROUNDING_METADATA: usize = 11;
const CUSTOM_METADATA: usize = 12;
/// The columns that are sealed each by itself. `error_message` has no room for it: its text goes into `extra`.
const SEALED: [usize; 5] = [ACTIONS, CONTENT, EXTRA, GROUNDING_METADATA, CUSTOM_METADATA];

/// The kind of row in the associated data.
const EVENT: &str = "event";
/// How the text of a column that is hidden in `extra` stands in the JSON object of the rare columns: [`LEAD`].
const MARK: &str = "\"\u{fdd0}seal1:\"";

/// The opened values of one row.
pub struct OpenedRow {
    values: [Option<Vec<u8>>; OWN_ARRAYS + 1],
}

impl OpenedRow {
    /// Puts them in the place of the sealed ones.
    pub fn replace<'b>(&'b self, values: &mut [Option<&'b [u8]>; OWN_ARRAYS + 1]) {
        for (value, opened) in values.iter_mut().zip(&self.values) {
            *value = opened.as_deref().or(*value);
        }
    }
}

/// Opens what is sealed in a row; `None` where nothing is. Failures come with their column.
pub fn open_row(
    values: &[Option<&[u8]>; OWN_ARRAYS + 1],
    opener: Option<&Opener<'_>>,
    place: &str,
) -> Result<Option<OpenedRow>, (&'static str, Failure)> {
    let envelope = |index: usize| {
        let value = values[index]?;
        match index {
            ACTIONS => Envelope::bytea(value),
            _ => Envelope::json(value.strip_prefix(&[1])?),
        }
    };
    let rare = values[OWN_ARRAYS].filter(|rare| seal::may_hold_sealed(rare));
    let own = [ACTIONS, CONTENT, EXTRA].map(|index| (index, envelope(index)));
    if rare.is_none() && own.iter().all(|(_, envelope)| envelope.is_none()) {
        return Ok(None);
    }
    let sealed = own.iter().find(|(_, envelope)| envelope.is_some());
    let first = sealed.map_or("rare", |(index, _)| COLUMNS[*index].name);
    let opener = opener.ok_or_else(|| (first, Failure::Sealed(NO_SEAL.into())))?;
    let event = values[ID].unwrap_or_default();
    let mut row = OpenedRow { values: Default::default() };
    for (index, envelope) in own {
        let Some(envelope) = envelope else { continue };
        let column = COLUMNS[index].name;
        // Behind jsonb's version byte, where the column is jsonb.
        let mut plain = if index == ACTIONS { Vec::new() } else { vec![1] };
        let found = opener.column(&mut plain, envelope, event, column, place);
        row.values[index] = found.map_err(|failure| (column, failure))?.then_some(plain);
    }
    if let Some(rare) = rare
        && !opener.lacks_keys()
    {
        let extra = row.values[EXTRA].as_deref().or(values[EXTRA]);
        row.values[OWN_ARRAYS] = opener.rare(rare, extra, event, place)?;
    }
    Ok(Some(row))
}

impl Opener<'_> {
    fn column(
        &self,
        out: &mut Vec<u8>,
        envelope: Result<Envelope<'_>, seal::SealError>,
        event: &[u8],
        column: &str,
        place: &str,
    ) -> Converted<bool> {
        let rest = [self.session.as_bytes(), event, column.as_bytes()];
        self.open(out, envelope, (EVENT, self.user), &rest, || {
            format!("{place}, event {:?}, column {column}", String::from_utf8_lossy(event))
        })
    }

    /// The JSON object of the columns without arrays of their own, opened.
    fn rare(
        &self,
        rare: &[u8],
        extra: Option<&[u8]>,
        event: &[u8],
        place: &str,
    ) -> Result<Option<Vec<u8>>, (&'static str, Failure)> {
        let mut out = vec![b'{'];
        let found = utf8(columns::json(rare)).and_then(members).map_err(|error| ("rare", error.into()))?;
        for (name, text) in found {
            let index = crate::row::index_of(&name);
            let column = index.map_or("rare", |index| COLUMNS[index].name);
            if out.len() > 1 {
                out.push(b',');
            }
            write::stored_string(&mut out, &name);
            out.push(b':');
            if index == Some(ERROR_MESSAGE) && text == MARK {
                let hidden = extra.map(|extra| hidden_text(extra, column)).transpose();
                let hidden = hidden.map_err(|failure| (column, failure))?.flatten();
                let hidden = hidden.ok_or((column, seal::SealError::Malformed.into()))?;
                out.extend_from_slice(&hidden);
            } else if let Some(envelope) = Envelope::json(text.as_bytes()) {
                let opened = self.column(&mut out, envelope, event, column, place);
                if !opened.map_err(|failure| (column, failure))? {
                    return Ok(None);
                }
            } else {
                out.extend_from_slice(text.as_bytes());
            }
        }
        out.push(b'}');
        Ok(Some(out))
    }
}

/// The JSON text under which `extra` keeps what the column had no room for.
fn hidden_text(extra: &[u8], column: &str) -> Converted<Option<Vec<u8>>> {
    for (name, text) in members(json_of(extra)?)? {
        if name == SEALED_TEXTS {
            let found = members(text)?.into_iter().find(|(name, _)| name == column);
            return Ok(found.map(|(_, text)| text.as_bytes().to_vec()));
        }
    }
    Ok(None)
}

/// An event's columns, as `encode_event` gives them, sealed with the key `key_id`.
#[pyfunction]
#[expect(clippy::needless_pass_by_value, reason = "what Python passes is extracted by value")]
pub fn seal_event<'py>(
    py: Python<'py>,
    columns: Vec<Option<PyBackedBytes>>,
    key_id: &str,
    seal: Scope<'py>,
) -> PyResult<Bound<'py, PyList>> {
    let (keys, app, user, session) = &seal;
    let mut cipher = keys.get().required(key_id)?.cipher(EVENT, app, user);
    let values: [Option<PyBackedBytes>; COLUMNS.len()] =
        columns.try_into().map_err(|_| PyValueError::new_err("not the columns of an event"))?;
    let nonces: [[u8; NONCE]; SEALED.len()] = seal::nonces().map_err(|error| no_random(&error))?;
    let mut sealed: [Option<Bound<'py, PyBytes>>; COLUMNS.len()] = Default::default();
    let extra = match &values[ERROR_MESSAGE] {
        Some(text) => {
            sealed[ERROR_MESSAGE] = Some(PyBytes::new(py, LEAD.as_bytes()));
            Some(
                hide(values[EXTRA].as_deref(), COLUMNS[ERROR_MESSAGE].name, text)
                    .map_err(|error| Failure::Malformed(error).raise(py, "event field error_message"))?,
            )
        }
        None => None,
    };
    let event = values[ID].as_deref().unwrap_or_default();
    for (index, nonce) in SEALED.into_iter().zip(nonces) {
        let Some(value) = (if index == EXTRA { extra.as_deref() } else { None }).or(values[index].as_deref())
        else {
            continue;
        };
        let rest = [session.as_bytes(), event, COLUMNS[index].name.as_bytes()];
        sealed[index] = Some(if index == ACTIONS {
            PyBytes::new(py, &cipher.seal(nonce, &rest, value))
        } else {
            PyBytes::new(py, &sealed_jsonb(&mut cipher, nonce, &rest, value))
        });
    }
    let list = PyList::empty(py);
    for (sealed, value) in sealed.into_iter().zip(&values) {
        match (sealed, value) {
            (Some(sealed), _) => list.append(sealed)?,
            (None, Some(value)) => list.append(value)?,
            (None, None) => list.append(py.None())?,
        }
    }
    Ok(list)
}

/// `extra` as jsonb with the text of another column in it.
fn hide(extra: Option<&[u8]>, column: &str, text: &[u8]) -> crate::error::Result<Vec<u8>> {
    let mut out = extra.map_or_else(|| b"\x01{".to_vec(), |extra| extra[..extra.len() - 1].to_vec());
    if out.len() > 2 {
        out.push(b',');
    }
    write::stored_string(&mut out, SEALED_TEXTS);
    out.extend_from_slice(b":{");
    write::stored_string(&mut out, column);
    out.push(b':');
    write::stored_string(&mut out, utf8(text)?);
    out.extend_from_slice(b"}}");
    Ok(out)
}
