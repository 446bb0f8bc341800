//! ADK events to PostgreSQL columns and back: the hot path of the Python package `adk-psqlpy`.
//!
//! The modules at this level know nothing of Python: the binary arrays in which a session's events arrive
//! ([`columns`]), the JSON in them ([`json`], [`mod@write`]), escapes for what JSONB cannot hold
//! ([`escape`]), the order of keys, which JSONB does not keep ([`order`]), which field of an event is kept in
//! which column ([`row`]), and how a row is read back ([`stored`]). With the feature `python` (the default),
//! the module `python` turns them into pydantic instances and is the extension module `adk_psqlpy._native`.
//! With the feature `serde`, the modules `event` and `value` turn them into serde types, for services in
//! Rust:
//!
//! ```toml
//! adk-psqlpy = { version = "0.1", default-features = false, features = ["serde"] }
//! ```
//!
//! `rust/examples/read_session.rs` is a small example of such a service.

pub mod columns;
pub mod error;
pub mod escape;
#[cfg(feature = "serde")]
pub mod event;
pub mod json;
pub mod order;
pub mod row;
mod scan;
#[cfg(feature = "seal")]
pub mod seal;
pub mod stored;
#[cfg(feature = "serde")]
pub mod value;
pub mod write;

#[cfg(feature = "python")]
mod python;
