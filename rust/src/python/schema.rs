//! Looking at pydantic's core schemas: their settings, and the functions in them that are known by name.

use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Validators that cannot change a value that came from JSON, and why.
pub const HARMLESS_VALIDATORS: [(&str, &str); 3] = [
    // Logs a warning when a field holds an instance of another model class; JSON holds no instances.
    ("google.genai._common", "BaseModel._check_field_type_mismatches"),
    // Moves the keys message, state, route and node_path, none of which is a field: an object that has
    // one of them has an unknown key, and such an object goes to pydantic.
    ("google.adk.events.event", "Event._accept_convenience_kwargs"),
    // Renames the key citationSources, which is not a field either.
    ("google.genai.types", "CitationMetadata._rename_citation_sources"),
];

/// Validators behind a dict that return an empty dict as it is.
pub const KEEPS_EMPTY_DICT: [(&str, &str); 1] =
    [("google.adk.events.event_actions", "EventActions._parse_auth_configs")];

/// Serializers that write JSON values as they are. The first two call the standard serializer and replace
/// what it cannot write, and such a value is pydantic's business here anyway; the third sorts, which the
/// encoder of that column does as well.
pub const HARMLESS_SERIALIZERS: [(&str, &str); 3] = [
    ("google.adk.events.event_actions", "EventActions._serialize_state_delta"),
    ("google.adk.events.event_actions", "EventActions._serialize_agent_state"),
    ("google.adk.events.event", "Event._serialize_long_running_tool_ids"),
];

/// `__init__` methods that hand JSON values on to pydantic's. `Part`'s leaves out nulls, so an object
/// with a null in it goes to pydantic.
pub const HARMLESS_INITS: [(&str, &str); 1] = [("google.genai.types", "Part.__init__")];

/// `model_post_init` methods. `Event`'s fills an empty id: an event with an empty id goes to pydantic.
pub const HARMLESS_POST_INITS: [(&str, &str); 2] = [
    ("google.adk.events.event", "Event.model_post_init"),
    ("pydantic._internal._model_construction", "init_private_attributes"),
];

/// Looks for a serializer that is not listed, on the value's schema or beneath it.
pub fn has_custom_serializer(schema: &Bound<'_, PyDict>) -> bool {
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

/// The function of a schema such as `function-before`, bound methods as they are.
pub fn function<'py>(schema: &Bound<'py, PyDict>) -> Option<Bound<'py, PyAny>> {
    let function = schema.get_item("function").ok()??;
    match function.cast::<PyDict>() {
        Ok(wrapped) => wrapped.get_item("function").ok()?,
        Err(_) => Some(function),
    }
}

/// Its qualified name, for reports.
pub fn function_name(schema: &Bound<'_, PyDict>) -> String {
    let name = function(schema).and_then(|function| function.getattr("__qualname__").ok());
    name.map_or_else(|| text(schema, "type").unwrap_or_default(), |name| name.to_string())
}

/// Whether the function of a schema is one of these.
pub fn names_one_of(schema: &Bound<'_, PyDict>, names: &[(&str, &str)]) -> bool {
    function(schema).is_some_and(|function| is_one_of(&function, names))
}

/// Whether a function is one of these, by module and qualified name.
pub fn is_one_of(function: &Bound<'_, PyAny>, names: &[(&str, &str)]) -> bool {
    let attribute = |name| function.getattr(name).and_then(|value| value.extract::<String>());
    let (Ok(module), Ok(name)) = (attribute("__module__"), attribute("__qualname__")) else {
        return false;
    };
    names.contains(&(module.as_str(), name.as_str()))
}

/// A setting that is a string.
pub fn text(schema: &Bound<'_, PyDict>, key: &str) -> Option<String> {
    schema.get_item(key).ok()??.extract().ok()
}

/// A setting that is a schema.
pub fn dict<'py>(schema: &Bound<'py, PyDict>, key: &str) -> Option<Bound<'py, PyDict>> {
    schema.get_item(key).ok()??.cast_into().ok()
}

/// Whether a setting is there and true.
pub fn is_true(schema: &Bound<'_, PyDict>, key: &str) -> bool {
    schema.get_item(key).ok().flatten().is_some_and(|value| value.is_truthy().unwrap_or(false))
}

/// Whether a schema has no other settings than these: `metadata` and `ref` say nothing about values, and
/// serializers are looked at on their own.
pub fn has_only(schema: &Bound<'_, PyDict>, settings: &[&str]) -> bool {
    const SILENT: [&str; 4] = ["type", "metadata", "ref", "serialization"];
    schema.keys().iter().all(|key| {
        key.extract::<String>()
            .is_ok_and(|key| SILENT.contains(&key.as_str()) || settings.contains(&key.as_str()))
    })
}
