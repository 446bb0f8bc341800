//! Everything on a model other than its fields: settings, validators, initializers.

use pyo3::prelude::*;
use pyo3::types::{PyAnyMethods, PyDict, PyType};

use super::{Understood, because};
use crate::python::plan::Model;
use crate::python::schema::{
    HARMLESS_INITS, HARMLESS_POST_INITS, HARMLESS_VALIDATORS, dict, function, function_name, has_only,
    is_one_of, is_true, names_one_of, text,
};

/// The fields' schemas by name, with the validators around them peeled off.
pub(super) fn fields_of<'py>(
    class: &Bound<'py, PyType>,
    schema: &Bound<'py, PyDict>,
) -> Understood<Bound<'py, PyDict>> {
    let mut inner = dict(schema, "schema");
    let fields = loop {
        let Some(layer) = inner else {
            return because("has no fields in its schema");
        };
        match text(&layer, "type").as_deref() {
            Some("model-fields") => break layer,
            Some("function-before") if names_one_of(&layer, &HARMLESS_VALIDATORS) => {
                if !leaves_alone(class, &layer)? {
                    return because(format!("{} changes its input", function_name(&layer)));
                }
                inner = dict(&layer, "schema");
            }
            _ => return because(format!("has the validator {}", function_name(&layer))),
        }
    };
    if !has_only(&fields, &["fields", "model_name", "computed_fields"]) {
        return because("has fields with settings that are not known here");
    }
    if fields.get_item("computed_fields")?.is_some_and(|computed| computed.len().is_ok_and(|n| n > 0)) {
        return because("has computed fields");
    }
    Ok(fields.as_any().get_item("fields")?.cast_into()?)
}

/// Everything on the model itself, without its fields.
pub(super) fn check_model<'py>(
    class: &Bound<'py, PyType>,
    schema: &Bound<'py, PyDict>,
    model: &mut Model,
) -> Understood<()> {
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
        return because("has model settings that are not known here");
    }
    let Some(config) = dict(schema, "config") else {
        return because("has no configuration");
    };
    for (key, _) in config.iter() {
        let key = key.extract::<String>()?;
        if !CONFIG.contains(&key.as_str()) {
            return because(format!("its configuration sets {key}"));
        }
    }
    // Without an alias, a field goes by its name whatever these two say.
    let by_both = is_true(&config, "validate_by_alias") && is_true(&config, "validate_by_name");
    let has_alias = class.getattr("model_fields")?.call_method0("values")?.try_iter()?.any(|field| {
        field.and_then(|field| Ok(!field.getattr("validation_alias")?.is_none())).unwrap_or(true)
    });
    if has_alias && !by_both {
        return because("takes its fields by alias only");
    }
    if text(&config, "extra_fields_behavior").as_deref() == Some("allow") {
        return because("keeps unknown fields");
    }
    if is_true(schema, "custom_init") {
        let init = class.getattr("__init__")?;
        if !is_one_of(&init, &HARMLESS_INITS) {
            return because("has an __init__ of its own");
        }
        model.null_sets_field = false;
    }
    if let Some(name) = text(schema, "post_init")
        && !is_one_of(&class.getattr(name.as_str())?, &HARMLESS_POST_INITS)
    {
        return because(format!("has a {name} of its own"));
    }
    let private = class.getattr("__private_attributes__")?.cast_into::<PyDict>()?;
    if !private.is_empty() {
        let values = PyDict::new(class.py());
        for (name, attribute) in private.iter() {
            let default = attribute.getattr("default")?;
            if !attribute.getattr("default_factory")?.is_none() || !default.is_none() {
                return because(format!("its private attribute {name} has a default that is not None"));
            }
            values.set_item(name, default)?;
        }
        model.private = Some(values.unbind());
    }
    Ok(())
}

/// Whether a validator returns a dict with these fields equal to what it was given.
fn leaves_alone<'py>(class: &Bound<'py, PyType>, layer: &Bound<'py, PyDict>) -> PyResult<bool> {
    let Some(function) = function(layer) else {
        return Ok(false);
    };
    let probe = PyDict::new(class.py());
    for name in class.getattr("model_fields")?.try_iter()? {
        probe.set_item(name?, PyDict::new(class.py()))?;
    }
    let before = probe.copy()?;
    Ok(function.call1((&probe,)).is_ok_and(|after| after.eq(&before).unwrap_or(false)))
}
