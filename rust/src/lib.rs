//! ADK events to PostgreSQL columns and back: the hot path of the Python package `adk-psqlpy`.
//!
//! The modules at this level know nothing of Python: the binary arrays in which a session's events
//! arrive ([`columns`]), the JSON in them ([`json`], [`write`]), what JSONB cannot hold ([`escape`]), the
//! order of keys that JSONB forgets ([`order`]), and which field of an event is kept in which column
//! ([`row`]). With the feature `python` (the default), the module `python` turns them into pydantic
//! instances and is the extension module `adk_psqlpy._native`.

pub mod columns;
pub mod error;
pub mod escape;
pub mod json;
pub mod order;
pub mod row;
pub mod write;

#[cfg(feature = "python")]
mod python;
