//! From pydantic's core schema to a plan.
//!
//! A schema that is not listed here by name makes its field opaque or its model slow. So a newer ADK is read
//! more slowly, but never differently.

mod choices;
mod model;

use std::collections::HashMap;

use pyo3::CastIntoError;
use pyo3::exceptions::PyTypeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyList, PyString, PyTuple, PyType};

use super::objects::snapshot::DictVersions;
use super::objects::{DictLayout, SlotOffsets};
use super::plan::{Factory, Field, MOST_FIELDS, Model, Node, Plan};
use super::schema::{
    KEEPS_EMPTY_DICT, dict, function_name, has_custom_serializer, has_only, is_true, names_one_of, text,
};
use crate::row;
use crate::write::jsonb_key_order;
use choices::{enumeration, literal};
use model::{check_model, fields_of};

/// Compiles the plan for `Event` and `Session`, the classes of google-adk.
pub fn compile(event: &Bound<'_, PyAny>, session: &Bound<'_, PyAny>) -> PyResult<Plan> {
    let py = event.py();
    let mut compiler =
        Compiler { py, definitions: HashMap::new(), by_class: HashMap::new(), models: Vec::new() };
    let event = compiler.root(event)?;
    let session = compiler.root(session)?;
    let models: Vec<Model> = compiler.models.into_iter().flatten().collect();
    let columns = models[event].fields.iter().map(|field| row::column_of_field(&field.key)).collect();
    let base = py.import("pydantic")?.getattr("BaseModel")?.cast_into::<PyType>()?;
    let slots = SlotOffsets::of(&base)?;
    let to_jsonable = py.import("pydantic_core")?.getattr("to_jsonable_python")?.unbind();
    let dicts = DictLayout::of(py)?;
    let versions = DictVersions::of(py)?;
    Ok(Plan { models, event, session, columns, to_jsonable, slots, dicts, versions })
}

struct Compiler<'py> {
    py: Python<'py>,
    definitions: HashMap<String, Bound<'py, PyDict>>,
    by_class: HashMap<usize, usize>,
    /// `None` while a model is being compiled.
    models: Vec<Option<Model>>,
}

/// Why a model is left to pydantic, or an error in Python.
enum Obstacle {
    Reason(String),
    Raised(PyErr),
}

type Understood<T> = Result<T, Obstacle>;

impl From<PyErr> for Obstacle {
    fn from(error: PyErr) -> Self {
        Self::Raised(error)
    }
}

impl From<CastIntoError<'_>> for Obstacle {
    fn from(error: CastIntoError<'_>) -> Self {
        Self::Raised(error.into())
    }
}

fn because<T>(reason: impl Into<String>) -> Understood<T> {
    Err(Obstacle::Reason(reason.into()))
}

impl<'py> Compiler<'py> {
    /// A class that is asked for directly.
    fn root(&mut self, class: &Bound<'py, PyAny>) -> PyResult<usize> {
        let schema = class.getattr("__pydantic_core_schema__")?.cast_into::<PyDict>()?;
        self.collect_definitions(schema.as_any())?;
        match self.node(&schema)? {
            Node::Model(index) => Ok(index),
            _ => Err(PyTypeError::new_err(format!("the schema of {class} is not that of a model"))),
        }
    }

    /// Remembers every schema that has a `ref`, at any depth.
    fn collect_definitions(&mut self, value: &Bound<'py, PyAny>) -> PyResult<()> {
        if let Ok(schema) = value.cast::<PyDict>() {
            if let (Some(name), Some(_)) = (text(schema, "ref"), text(schema, "type")) {
                if self.definitions.contains_key(&name) {
                    return Ok(());
                }
                self.definitions.insert(name, schema.clone());
            }
            for (key, inner) in schema.iter() {
                if !key.eq("metadata")? && !key.eq("serialization")? {
                    self.collect_definitions(&inner)?;
                }
            }
        } else if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
            for inner in value.try_iter()? {
                self.collect_definitions(&inner?)?;
            }
        }
        Ok(())
    }

    fn node(&mut self, schema: &Bound<'py, PyDict>) -> PyResult<Node> {
        let kind = text(schema, "type").unwrap_or_default();
        let node = match kind.as_str() {
            "definitions" => self.inner(schema)?,
            "definition-ref" => {
                let name = text(schema, "schema_ref").unwrap_or_default();
                match self.definitions.get(&name).cloned() {
                    Some(found) => self.node(&found)?,
                    None => Node::Opaque,
                }
            }
            "any" if has_only(schema, &[]) => Node::Any,
            "str" if has_only(schema, &[]) => Node::Str,
            "int" if has_only(schema, &[]) => Node::Int,
            "float" if has_only(schema, &[]) => Node::Float,
            "bool" if has_only(schema, &[]) => Node::Bool,
            "bytes" if has_only(schema, &[]) => Node::Bytes,
            "nullable" if has_only(schema, &["schema"]) => match self.inner(schema)? {
                Node::Opaque => Node::Opaque,
                inner => Node::Nullable(Box::new(inner)),
            },
            "list" | "set" if has_only(schema, &["items_schema"]) => {
                let items = match dict(schema, "items_schema") {
                    Some(items) => self.node(&items)?,
                    None => Node::Any,
                };
                match (kind.as_str(), items) {
                    (_, Node::Opaque) => Node::Opaque,
                    ("list", items) => Node::List(Box::new(items)),
                    (_, items) => Node::Set(Box::new(items)),
                }
            }
            "dict" if has_only(schema, &["keys_schema", "values_schema"]) => self.dict_node(schema)?,
            "function-after" if names_one_of(schema, &KEEPS_EMPTY_DICT) => match self.inner(schema)? {
                Node::Dict(_) => Node::EmptyDict,
                _ => Node::Opaque,
            },
            "enum" if has_only(schema, &["cls", "members", "sub_type", "missing"]) => enumeration(schema)?,
            "literal" if has_only(schema, &["expected"]) => literal(schema)?,
            "union" if has_only(schema, &["choices"]) => self.union(schema)?,
            "model" => Node::Model(self.model(schema)?),
            // For something around a whole model, such as a validator with mode="after": pydantic makes its
            // instances.
            "function-after" | "function-before" | "function-wrap" => match self.inner(schema)? {
                Node::Model(index) => {
                    if let Some(model) = &mut self.models[index] {
                        let reason = format!("has the validator {}", function_name(schema));
                        model.slow.get_or_insert(reason);
                    }
                    Node::Model(index)
                }
                _ => Node::Opaque,
            },
            _ => Node::Opaque,
        };
        Ok(node)
    }

    fn inner(&mut self, schema: &Bound<'py, PyDict>) -> PyResult<Node> {
        match dict(schema, "schema") {
            Some(inner) => self.node(&inner),
            None => Ok(Node::Opaque),
        }
    }

    fn dict_node(&mut self, schema: &Bound<'py, PyDict>) -> PyResult<Node> {
        let keys_are_strings = match dict(schema, "keys_schema") {
            Some(keys) => matches!(self.node(&keys)?, Node::Str | Node::Any),
            None => true,
        };
        let values = match dict(schema, "values_schema") {
            Some(values) => self.node(&values)?,
            None => Node::Any,
        };
        Ok(match values {
            Node::Opaque => Node::Opaque,
            _ if !keys_are_strings => Node::Opaque,
            values => Node::Dict(Box::new(values)),
        })
    }

    /// A union in pydantic's smart mode takes the choice that fits exactly. Among booleans, integers, strings
    /// and lists, that is the one of the JSON value's kind.
    fn union(&mut self, schema: &Bound<'py, PyDict>) -> PyResult<Node> {
        let mut choices = Vec::new();
        for choice in schema.as_any().get_item("choices")?.try_iter()? {
            let Ok(choice) = choice?.cast_into::<PyDict>() else {
                return Ok(Node::Opaque);
            };
            let node = self.node(&choice)?;
            let twice =
                choices.iter().any(|other| std::mem::discriminant(other) == std::mem::discriminant(&node));
            if twice || !matches!(node, Node::Bool | Node::Int | Node::Str | Node::List(_)) {
                return Ok(Node::Opaque);
            }
            choices.push(node);
        }
        Ok(Node::OneOf(choices))
    }

    fn model(&mut self, schema: &Bound<'py, PyDict>) -> PyResult<usize> {
        let class = schema.as_any().get_item("cls")?.cast_into::<PyType>()?;
        let identity = class.as_ptr() as usize;
        if let Some(index) = self.by_class.get(&identity) {
            return Ok(*index);
        }
        let index = self.models.len();
        self.by_class.insert(identity, index);
        self.models.push(None);
        let name = class.name()?.to_string();
        let mut model = Model {
            class: class.clone().unbind(),
            name,
            fields: Vec::new(),
            names: Vec::new(),
            stored_order: Vec::new(),
            stored_names: Vec::new(),
            rank: Vec::new(),
            defaults: PyDict::new(self.py).unbind(),
            default_values: Vec::new(),
            factories: Vec::new(),
            required: Vec::new(),
            private: None,
            null_sets_field: true,
            slow: None,
            slow_to_encode: None,
        };
        if schema.contains("serialization")? {
            model.slow_to_encode = Some("has a model serializer".into());
        }
        match self.fill(&mut model, &class, schema) {
            Ok(()) => {}
            Err(Obstacle::Reason(reason)) => {
                model.slow_to_encode.get_or_insert_with(|| reason.clone());
                model.slow = Some(reason);
            }
            Err(Obstacle::Raised(error)) => return Err(error),
        }
        self.models[index] = Some(model);
        Ok(index)
    }

    /// Fills in what is understood of a model.
    fn fill(
        &mut self,
        model: &mut Model,
        class: &Bound<'py, PyType>,
        schema: &Bound<'py, PyDict>,
    ) -> Understood<()> {
        check_model(class, schema, model)?;
        let fields = fields_of(class, schema)?;
        if fields.len() > MOST_FIELDS {
            return because(format!("has more than {MOST_FIELDS} fields"));
        }
        let config = dict(schema, "config");
        let base64 = config.and_then(|config| text(&config, "val_json_bytes")).as_deref() == Some("base64");
        for (name, field) in fields.iter() {
            let field = self.field(model, name.extract()?, &field.cast_into()?, base64)?;
            model.names.push(field.name.clone_ref(self.py));
            model.fields.push(field);
        }
        let key = |index: &usize| model.fields[*index].key.as_str();
        let mut stored_order: Vec<usize> = (0..model.fields.len()).collect();
        stored_order.sort_by(|left, right| jsonb_key_order(key(left), key(right)));
        model.stored_names = stored_order.iter().map(|index| key(index).into()).collect();
        model.rank = vec![0; stored_order.len()];
        for (place, index) in stored_order.iter().enumerate() {
            model.rank[*index] = place;
        }
        model.stored_order = stored_order;
        let defaults = model.defaults.bind(self.py);
        let is_made = |index: usize| {
            model.required.contains(&index) || model.factories.iter().any(|(field, _)| *field == index)
        };
        for (index, name) in model.names.iter().enumerate() {
            let default = defaults.get_item(name)?.filter(|_| !is_made(index));
            model.default_values.push(default.map(Bound::unbind));
        }
        Ok(())
    }

    /// One field, its default put into the model.
    fn field(
        &mut self,
        model: &mut Model,
        key: String,
        schema: &Bound<'py, PyDict>,
        base64: bool,
    ) -> Understood<Field> {
        const DEFAULT: [&str; 5] =
            ["schema", "default", "default_factory", "default_factory_takes_data", "copy_default"];
        if !has_only(schema, &["schema", "validation_alias", "serialization_alias", "frozen"]) {
            return because(format!("its field {key} has settings that are not known here"));
        }
        let alias = match schema.get_item("validation_alias")? {
            None => None,
            Some(alias) => match alias.extract::<String>() {
                Ok(alias) => Some(alias),
                Err(_) => return because(format!("its field {key} has an alias that is not a string")),
            },
        };
        let mut value = dict(schema, "schema");
        let custom_serializer = value.as_ref().is_some_and(has_custom_serializer);
        if let Some(outer) = value.as_ref().filter(|value| text(value, "type").as_deref() == Some("default"))
        {
            if !has_only(outer, &DEFAULT) {
                return because(format!("its field {key} has a default that is validated"));
            }
            self.default(model, &key, outer)?;
            value = dict(outer, "schema");
        } else {
            model.defaults.bind(self.py).set_item(PyString::intern(self.py, &key), self.py.None())?;
            model.required.push(model.fields.len());
        }
        let Some(value) = value else {
            return because(format!("its field {key} has no schema"));
        };
        let mut node = self.node(&value)?;
        if holds_bytes(&node) && !base64 {
            node = Node::Opaque;
        }
        Ok(Field {
            name: PyString::intern(self.py, &key).unbind(),
            custom_serializer,
            alias: alias.filter(|alias| *alias != key),
            quoted: format!(",\"{key}\":"),
            key,
            node,
        })
    }

    fn default(&self, model: &mut Model, key: &str, schema: &Bound<'py, PyDict>) -> Understood<()> {
        let defaults = model.defaults.bind(self.py);
        // Interned, because code that reads an attribute has the interned name: it is then found by its
        // address.
        let name = PyString::intern(self.py, key);
        if let Some(default) = schema.get_item("default")? {
            let is_model = default.hasattr(intern!(self.py, "__pydantic_fields_set__"))?;
            if !default.is_none() && (is_model || default.hash().is_err()) {
                return because(format!("its field {key} has a default that must be copied"));
            }
            return Ok(defaults.set_item(name, default)?);
        }
        let Some(factory) = schema.get_item("default_factory")? else {
            return because(format!("its field {key} has no default"));
        };
        if is_true(schema, "default_factory_takes_data") {
            return because(format!("its field {key} has a default made from other fields"));
        }
        // Holds the field's place in the order of `__dict__`.
        defaults.set_item(name, self.py.None())?;
        let factory = if factory.is(self.py.get_type::<PyDict>()) {
            Factory::Dict
        } else if factory.is(self.py.get_type::<PyList>()) {
            Factory::List
        } else {
            Factory::Call(factory.unbind())
        };
        model.factories.push((model.fields.len(), factory));
        Ok(())
    }
}

fn holds_bytes(node: &Node) -> bool {
    match node {
        Node::Bytes => true,
        Node::Nullable(inner) | Node::List(inner) | Node::Set(inner) | Node::Dict(inner) => {
            holds_bytes(inner)
        }
        _ => false,
    }
}
