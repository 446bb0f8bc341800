//! From pydantic's core schema to a plan.
//!
//! Whatever is not listed here by name makes its field opaque or its model slow: a newer ADK is read
//! more slowly, never differently.

use std::collections::HashMap;

use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyList, PyString, PyTuple, PyType};

use super::plan::{Enumeration, Factory, Field, MOST_FIELDS, Model, Node, Plan, Slots};
use crate::row;
use crate::write::jsonb_key_order;

/// Validators that cannot change a value that came from JSON, and why.
const HARMLESS_VALIDATORS: [(&str, &str); 3] = [
    // Logs a warning when a field holds an instance of another model class; JSON holds no instances.
    ("google.genai._common", "BaseModel._check_field_type_mismatches"),
    // Moves the keys message, state, route and node_path, none of which is a field: an object that has
    // one of them has an unknown key, and such an object goes to pydantic.
    ("google.adk.events.event", "Event._accept_convenience_kwargs"),
    // Renames the key citationSources, which is not a field either.
    ("google.genai.types", "CitationMetadata._rename_citation_sources"),
];

/// Validators behind a dict that return an empty dict as it is.
const KEEPS_EMPTY_DICT: [(&str, &str); 1] =
    [("google.adk.events.event_actions", "EventActions._parse_auth_configs")];

/// Serializers that write JSON values as they are. The first two call the standard serializer and replace
/// what it cannot write, and such a value is pydantic's business here anyway; the third sorts, which the
/// encoder of that column does as well.
const HARMLESS_SERIALIZERS: [(&str, &str); 3] = [
    ("google.adk.events.event_actions", "EventActions._serialize_state_delta"),
    ("google.adk.events.event_actions", "EventActions._serialize_agent_state"),
    ("google.adk.events.event", "Event._serialize_long_running_tool_ids"),
];

/// `__init__` methods that hand JSON values on to pydantic's. `Part`'s leaves out nulls, so an object
/// with a null in it goes to pydantic.
const HARMLESS_INITS: [(&str, &str); 1] = [("google.genai.types", "Part.__init__")];

/// `model_post_init` methods. `Event`'s fills an empty id: an event with an empty id goes to pydantic.
const HARMLESS_POST_INITS: [(&str, &str); 2] = [
    ("google.adk.events.event", "Event.model_post_init"),
    ("pydantic._internal._model_construction", "init_private_attributes"),
];

/// Compiles the plan for `event`, the class `google.adk.events.event.Event`.
pub fn compile(event: &Bound<'_, PyAny>) -> PyResult<Plan> {
    let py = event.py();
    let schema = event.getattr("__pydantic_core_schema__")?.cast_into::<PyDict>()?;
    let mut compiler = Compiler { py, definitions: HashMap::new(), by_class: HashMap::new(), models: Vec::new() };
    compiler.collect_definitions(schema.as_any())?;
    let Node::Model(event) = compiler.node(&schema)? else {
        return Err(pyo3::exceptions::PyTypeError::new_err("the schema of Event is not that of a model"));
    };
    let models: Vec<Model> = compiler.models.into_iter().flatten().collect();
    let columns = models[event].fields.iter().map(|field| row::column_of_field(&field.key)).collect();
    let slots = Slots {
        dict: PyString::intern(py, "__dict__").unbind(),
        fields_set: PyString::intern(py, "__pydantic_fields_set__").unbind(),
        extra: PyString::intern(py, "__pydantic_extra__").unbind(),
        private: PyString::intern(py, "__pydantic_private__").unbind(),
    };
    let to_jsonable = py.import("pydantic_core")?.getattr("to_jsonable_python")?.unbind();
    Ok(Plan { models, event, columns, to_jsonable, slots })
}

struct Compiler<'py> {
    py: Python<'py>,
    definitions: HashMap<String, Bound<'py, PyDict>>,
    by_class: HashMap<usize, usize>,
    /// `None` while a model is being compiled.
    models: Vec<Option<Model>>,
}

/// A model, or the reason why pydantic makes its instances.
type Understood<T> = Result<T, String>;

impl<'py> Compiler<'py> {
    /// Remembers every schema that carries a `ref`, wherever it stands.
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
            "model" => Node::Model(self.model(schema)?),
            // Around a whole model (a validator for mode="after", say): its instances are pydantic's.
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
            stored_order: Vec::new(),
            defaults: PyDict::new(self.py).unbind(),
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
        if let Err(reason) = self.fill(&mut model, &class, schema)? {
            model.slow_to_encode.get_or_insert_with(|| reason.clone());
            model.slow = Some(reason);
        }
        self.models[index] = Some(model);
        Ok(index)
    }

    /// Fills in what is understood of a model. The outer result is for errors in Python.
    fn fill(
        &mut self,
        model: &mut Model,
        class: &Bound<'py, PyType>,
        schema: &Bound<'py, PyDict>,
    ) -> PyResult<Understood<()>> {
        if let Err(reason) = check_model(class, schema, model)? {
            return Ok(Err(reason));
        }
        let base64 = dict(schema, "config").and_then(|config| text(&config, "val_json_bytes"));
        let mut inner = dict(schema, "schema");
        // Peel off the validators around the fields.
        let fields = loop {
            let Some(layer) = inner else { return Ok(Err("has no fields in its schema".into())) };
            match text(&layer, "type").as_deref() {
                Some("model-fields") => break layer,
                Some("function-before") if names_one_of(&layer, &HARMLESS_VALIDATORS) => {
                    if !leaves_alone(class, &layer)? {
                        return Ok(Err(format!("{} changes its input", function_name(&layer))));
                    }
                    inner = dict(&layer, "schema");
                }
                _ => return Ok(Err(format!("has the validator {}", function_name(&layer)))),
            }
        };
        if !has_only(&fields, &["fields", "model_name", "computed_fields"]) {
            return Ok(Err("has fields with settings that are not known here".into()));
        }
        if fields.get_item("computed_fields")?.is_some_and(|computed| computed.len().is_ok_and(|n| n > 0)) {
            return Ok(Err("has computed fields".into()));
        }
        let fields = fields.as_any().get_item("fields")?.cast_into::<PyDict>()?;
        let defaults = model.defaults.bind(self.py).clone();
        for (name, field) in fields.iter() {
            let key = name.extract::<String>()?;
            let field = field.cast_into::<PyDict>()?;
            if !has_only(&field, &["schema", "validation_alias", "serialization_alias", "frozen"]) {
                return Ok(Err(format!("its field {key} has settings that are not known here")));
            }
            let alias = match field.get_item("validation_alias")? {
                None => None,
                Some(alias) => match alias.extract::<String>() {
                    Ok(alias) => Some(alias),
                    Err(_) => return Ok(Err(format!("its field {key} has an alias that is not a string"))),
                },
            };
            let Some(mut value) = dict(&field, "schema") else {
                return Ok(Err(format!("its field {key} has no schema")));
            };
            let index = model.fields.len();
            if text(&value, "type").as_deref() == Some("default") {
                if !has_only(&value, &["schema", "default", "default_factory", "default_factory_takes_data", "copy_default"]) {
                    return Ok(Err(format!("its field {key} has a default that is validated")));
                }
                if let Err(reason) = self.default(model, index, &key, &value, &defaults)? {
                    return Ok(Err(reason));
                }
                let Some(inner) = dict(&value, "schema") else {
                    return Ok(Err(format!("its field {key} has no schema")));
                };
                value = inner;
            } else {
                defaults.set_item(&name, self.py.None())?;
                model.required.push(index);
            }
            let mut node = self.node(&value)?;
            if holds_bytes(&node) && base64.as_deref() != Some("base64") {
                node = Node::Opaque;
            }
            model.fields.push(Field {
                name: PyString::intern(self.py, &key).unbind(),
                custom_serializer: has_custom_serializer(&value),
                alias: alias.filter(|alias| *alias != key),
                key,
                node,
            });
        }
        if model.fields.len() > MOST_FIELDS {
            return Ok(Err(format!("has more than {MOST_FIELDS} fields")));
        }
        let mut stored_order: Vec<usize> = (0..model.fields.len()).collect();
        stored_order.sort_by(|left, right| {
            jsonb_key_order(&model.fields[*left].key, &model.fields[*right].key)
        });
        model.stored_order = stored_order;
        Ok(Ok(()))
    }

    fn default(
        &self,
        model: &mut Model,
        index: usize,
        key: &str,
        schema: &Bound<'py, PyDict>,
        defaults: &Bound<'py, PyDict>,
    ) -> PyResult<Understood<()>> {
        if let Some(default) = schema.get_item("default")? {
            let plain = default.is_none()
                || default.hash().is_ok() && !default.hasattr(intern!(self.py, "__pydantic_fields_set__"))?;
            if !plain {
                return Ok(Err(format!("its field {key} has a default that must be copied")));
            }
            defaults.set_item(key, default)?;
            return Ok(Ok(()));
        }
        let Some(factory) = schema.get_item("default_factory")? else {
            return Ok(Err(format!("its field {key} has no default")));
        };
        let takes_data = schema.get_item("default_factory_takes_data")?;
        if takes_data.is_some_and(|takes| takes.is_truthy().unwrap_or(true)) {
            return Ok(Err(format!("its field {key} has a default made from other fields")));
        }
        // Holds the field's place in the order of `__dict__`.
        defaults.set_item(key, self.py.None())?;
        let factory = if factory.is(self.py.get_type::<PyDict>()) {
            Factory::Dict
        } else if factory.is(self.py.get_type::<PyList>()) {
            Factory::List
        } else {
            Factory::Call(factory.unbind())
        };
        model.factories.push((index, factory));
        Ok(Ok(()))
    }
}

/// What stands on the model itself, its fields apart.
fn check_model<'py>(
    class: &Bound<'py, PyType>,
    schema: &Bound<'py, PyDict>,
    model: &mut Model,
) -> PyResult<Understood<()>> {
    const SETTINGS: [&str; 8] =
        ["cls", "schema", "config", "custom_init", "root_model", "post_init", "serialization", "frozen"];
    const CONFIG: [&str; 8] = [
        "title",
        "extra_fields_behavior",
        "ser_json_bytes",
        "val_json_bytes",
        "validate_by_alias",
        "validate_by_name",
        "from_attributes",
        "frozen",
    ];
    if !has_only(schema, &SETTINGS) || is_true(schema, "root_model") {
        return Ok(Err("has model settings that are not known here".into()));
    }
    let Some(config) = dict(schema, "config") else { return Ok(Err("has no configuration".into())) };
    for (key, _) in config.iter() {
        let key = key.extract::<String>()?;
        if !CONFIG.contains(&key.as_str()) {
            return Ok(Err(format!("its configuration sets {key}")));
        }
    }
    // Without an alias, a field goes by its name whatever these two say.
    let by_both = is_true(&config, "validate_by_alias") && is_true(&config, "validate_by_name");
    let has_alias = class.getattr("model_fields")?.call_method0("values")?.try_iter()?.any(|field| {
        field.and_then(|field| Ok(!field.getattr("validation_alias")?.is_none())).unwrap_or(true)
    });
    if has_alias && !by_both {
        return Ok(Err("takes its fields by alias only".into()));
    }
    if text(&config, "extra_fields_behavior").as_deref() == Some("allow") {
        return Ok(Err("keeps unknown fields".into()));
    }
    if is_true(schema, "custom_init") {
        let init = class.getattr("__init__")?;
        if !is_one_of(&init, &HARMLESS_INITS) {
            return Ok(Err("has an __init__ of its own".into()));
        }
        model.null_sets_field = false;
    }
    if let Some(name) = text(schema, "post_init")
        && !is_one_of(&class.getattr(name.as_str())?, &HARMLESS_POST_INITS)
    {
        return Ok(Err(format!("has a {name} of its own")));
    }
    let private = class.getattr("__private_attributes__")?.cast_into::<PyDict>()?;
    if !private.is_empty() {
        let values = PyDict::new(class.py());
        for (name, attribute) in private.iter() {
            let default = attribute.getattr("default")?;
            if !attribute.getattr("default_factory")?.is_none() || !default.is_none() {
                return Ok(Err(format!("its private attribute {name} has a default that is not None")));
            }
            values.set_item(name, default)?;
        }
        model.private = Some(values.unbind());
    }
    Ok(Ok(()))
}

/// Whether a validator returns a dict with these fields equal to what it was given.
fn leaves_alone<'py>(class: &Bound<'py, PyType>, layer: &Bound<'py, PyDict>) -> PyResult<bool> {
    let Some(function) = function(layer) else { return Ok(false) };
    let probe = PyDict::new(class.py());
    for name in class.getattr("model_fields")?.try_iter()? {
        probe.set_item(name?, PyDict::new(class.py()))?;
    }
    let before = probe.copy()?;
    Ok(function.call1((&probe,)).is_ok_and(|after| after.eq(&before).unwrap_or(false)))
}

fn enumeration(schema: &Bound<'_, PyDict>) -> PyResult<Node> {
    let class = schema.as_any().get_item("cls")?.cast_into::<PyType>()?;
    let mut members = HashMap::new();
    for member in schema.as_any().get_item("members")?.try_iter()? {
        let member = member?;
        let Ok(value) = member.getattr("value")?.extract::<String>() else { return Ok(Node::Opaque) };
        members.insert(value, member.unbind());
    }
    Ok(Node::Enum(Enumeration { class: class.unbind(), members }))
}

fn literal(schema: &Bound<'_, PyDict>) -> PyResult<Node> {
    let mut expected = HashMap::new();
    for value in schema.as_any().get_item("expected")?.try_iter()? {
        let value = value?;
        if !value.is_exact_instance_of::<PyString>() {
            return Ok(Node::Opaque);
        }
        expected.insert(value.extract()?, value.unbind());
    }
    Ok(Node::Literal(expected))
}

fn holds_bytes(node: &Node) -> bool {
    match node {
        Node::Bytes => true,
        Node::Nullable(inner) | Node::List(inner) | Node::Set(inner) | Node::Dict(inner) => holds_bytes(inner),
        _ => false,
    }
}

/// Looks for a serializer that is not listed, on the value's schema or beneath it.
fn has_custom_serializer(schema: &Bound<'_, PyDict>) -> bool {
    let own = match dict(schema, "serialization") {
        None => false,
        Some(serialization) => !serialization
            .get_item("function")
            .ok()
            .flatten()
            .is_some_and(|function| is_one_of(&function, &HARMLESS_SERIALIZERS)),
    };
    let beneath = ["schema", "items_schema", "values_schema"].iter().any(|key| {
        dict(schema, key).is_some_and(|inner| {
            text(&inner, "type").as_deref() != Some("model") && has_custom_serializer(&inner)
        })
    });
    own || beneath
}

fn function<'py>(schema: &Bound<'py, PyDict>) -> Option<Bound<'py, PyAny>> {
    let function = schema.get_item("function").ok()??;
    match function.cast::<PyDict>() {
        Ok(wrapped) => wrapped.get_item("function").ok()?,
        Err(_) => Some(function),
    }
}

fn function_name(schema: &Bound<'_, PyDict>) -> String {
    let name = function(schema).and_then(|function| function.getattr("__qualname__").ok());
    name.map_or_else(|| text(schema, "type").unwrap_or_default(), |name| name.to_string())
}

fn names_one_of(schema: &Bound<'_, PyDict>, names: &[(&str, &str)]) -> bool {
    function(schema).is_some_and(|function| is_one_of(&function, names))
}

fn is_one_of(function: &Bound<'_, PyAny>, names: &[(&str, &str)]) -> bool {
    let attribute = |name| function.getattr(name).and_then(|value| value.extract::<String>());
    let (Ok(module), Ok(name)) = (attribute("__module__"), attribute("__qualname__")) else { return false };
    names.contains(&(module.as_str(), name.as_str()))
}

fn text(schema: &Bound<'_, PyDict>, key: &str) -> Option<String> {
    schema.get_item(key).ok()??.extract().ok()
}

fn dict<'py>(schema: &Bound<'py, PyDict>, key: &str) -> Option<Bound<'py, PyDict>> {
    schema.get_item(key).ok()??.cast_into().ok()
}

fn is_true(schema: &Bound<'_, PyDict>, key: &str) -> bool {
    schema.get_item(key).ok().flatten().is_some_and(|value| value.is_truthy().unwrap_or(false))
}

/// Whether a schema has no other settings than these: `metadata` and `ref` say nothing about values, and
/// serializers are looked at on their own.
fn has_only(schema: &Bound<'_, PyDict>, settings: &[&str]) -> bool {
    const SILENT: [&str; 4] = ["type", "metadata", "ref", "serialization"];
    schema.keys().iter().all(|key| {
        key.extract::<String>().is_ok_and(|key| SILENT.contains(&key.as_str()) || settings.contains(&key.as_str()))
    })
}
