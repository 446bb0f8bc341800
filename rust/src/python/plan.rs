//! The plan: what `Event.__pydantic_core_schema__` says about JSON, in a form that can be walked quickly.
//!
//! [`super::compile`] makes it; [`super::decode`] and [`super::encode`] walk it.

use std::collections::HashMap;

use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyType};

use super::objects::snapshot::DictVersions;
use super::objects::{DictLayout, SlotOffsets};

/// The plan for one installed pair of google-adk and google-genai.
pub struct Plan {
    /// Every model class reachable from `Event`; [`Node::Model`] is an index into it.
    pub models: Vec<Model>,
    /// The index of `Event` itself.
    pub event: usize,
    /// The index of `Session`.
    pub session: usize,
    /// For each field of `Event`, the index in [`crate::row::COLUMNS`] of its column; `None` for `extra`.
    pub columns: Vec<Option<usize>>,
    /// `pydantic_core.to_jsonable_python`.
    pub to_jsonable: Py<PyAny>,
    /// Where instances keep what is not in their `__dict__`.
    pub slots: SlotOffsets,
    /// How their `__dict__` may be read.
    pub dicts: DictLayout,
    /// Whether they say when they were changed.
    pub versions: DictVersions,
}

/// The fields that were set are counted in the bits of a `u64`. `Event` has 36 fields.
pub const MOST_FIELDS: usize = 64;

/// One model class.
pub struct Model {
    /// The class.
    pub class: Py<PyType>,
    /// Its name, for reports.
    pub name: String,
    /// In declaration order, which is the order of an instance's `__dict__`.
    pub fields: Vec<Field>,
    /// Their names, side by side: every walk over an instance looks at all of them.
    pub names: Vec<Py<PyString>>,
    /// Indexes of `fields` in the order in which JSONB keeps the names.
    pub stored_order: Vec<usize>,
    /// Their names in that order, close together for a search.
    pub stored_names: Vec<Box<str>>,
    /// For each of `fields`, its place in `stored_order`.
    pub rank: Vec<usize>,
    /// A `__dict__` with every field that has a plain default; copied for each instance.
    pub defaults: Py<PyDict>,
    /// The plain default of each field; `None` where it is made anew, or there is none.
    pub default_values: Vec<Option<Py<PyAny>>>,
    /// Fields whose default is made anew for each instance.
    pub factories: Vec<(usize, Factory)>,
    /// Fields without a default.
    pub required: Vec<usize>,
    /// Default private attributes, if the class has any.
    pub private: Option<Py<PyDict>>,
    /// Whether a null makes the field look set. `Part.__init__` drops nulls, so those go to pydantic.
    pub null_sets_field: bool,
    /// Why instances are made by pydantic, if they are.
    pub slow: Option<String>,
    /// Whether instances are written by pydantic.
    pub slow_to_encode: Option<String>,
}

/// A default that must not be shared.
pub enum Factory {
    /// `dict`
    Dict,
    /// `list`
    List,
    /// Anything else that is called without arguments.
    Call(Py<PyAny>),
}

/// One field of a model.
pub struct Field {
    /// The name, interned.
    pub name: Py<PyString>,
    /// The name as JSON key.
    pub key: String,
    /// The name as it stands in a JSON object behind other members: a comma, the name quoted, a colon.
    pub quoted: String,
    /// The alias under which JSON may give it, too.
    pub alias: Option<String>,
    /// What its value may be.
    pub node: Node,
    /// Whether it has a serializer that is not understood.
    pub custom_serializer: bool,
}

/// What a value may be.
pub enum Node {
    /// Whatever JSON can say.
    Any,
    /// A string.
    Str,
    /// An integer.
    Int,
    /// A float; JSON integers become floats.
    Float,
    /// A boolean.
    Bool,
    /// Bytes, as URL-safe base64.
    Bytes,
    /// Null, or what is inside.
    Nullable(Box<Node>),
    /// A list.
    List(Box<Node>),
    /// A set, from a JSON array.
    Set(Box<Node>),
    /// A dict with string keys.
    Dict(Box<Node>),
    /// A dict that a validator leaves alone while it is empty.
    EmptyDict,
    /// One of an enumeration's values; pydantic handles others.
    Enum(Enumeration),
    /// One of some strings.
    Literal(HashMap<String, Py<PyAny>>),
    /// One of several, told apart by the kind of JSON value.
    OneOf(Vec<Node>),
    /// An instance of a model.
    Model(usize),
    /// Not understood: pydantic validates the model around it.
    Opaque,
}

/// An enumeration whose values are strings.
pub struct Enumeration {
    /// The class.
    pub class: Py<PyType>,
    /// Members by value.
    pub members: HashMap<String, Py<PyAny>>,
    /// Each member with its value as a JSON string.
    pub quoted: Vec<(Py<PyAny>, String)>,
}
