//! From a derived schema to a file that stands on its own: with a name, only the definitions that it needs, and open.

use std::collections::BTreeSet;

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

/// Of what the station writes.
pub fn writes() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_serialize().into_generator()
}

/// Of what the station reads.
pub fn reads() -> SchemaGenerator {
    SchemaSettings::draft2020_12().for_deserialize().into_generator()
}

/// Who reads what the station writes.
const READERS: &str = "Readers ignore fields that they do not know: a field may be added without a new major version.";
/// Who writes what the station reads.
const WRITERS: &str = "The station refuses fields that it does not know.";

/// Whether unknown fields are let through.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Written,
    Read,
}

pub struct Document<'a> {
    pub id: String,
    pub title: String,
    pub schema: Value,
    /// Of the generator that made it.
    pub definitions: &'a Map<String, Value>,
    pub side: Side,
}

impl Document<'_> {
    pub fn finish(self) -> Value {
        let mut schema = self.schema;
        // A file whose whole schema is somewhere else would say nothing at first sight.
        if let Some(target) = reference(&schema).and_then(|name| self.definitions.get(name)) {
            let mut target = target.clone();
            for (key, value) in schema.as_object().into_iter().flatten().filter(|(key, _)| *key != "$ref") {
                target[key] = value.clone();
            }
            schema = target;
        }
        let mut needed = BTreeSet::new();
        collect(&schema, self.definitions, &mut needed);
        let mut definitions: Map<String, Value> =
            needed.iter().filter_map(|name| Some((name.clone(), self.definitions.get(name)?.clone()))).collect();
        let mut fields = Map::new();
        fields.insert("$schema".to_owned(), json!("https://json-schema.org/draft/2020-12/schema"));
        fields.insert("$id".to_owned(), json!(self.id));
        let comment = if self.side == Side::Written { READERS } else { WRITERS };
        fields.insert("$comment".to_owned(), json!(comment));
        fields.insert("title".to_owned(), json!(self.title));
        if let Value::Object(own) = schema {
            fields.extend(own.into_iter().filter(|(key, _)| key != "title" && key != "$schema" && key != "$defs"));
        }
        for value in fields.values_mut().chain(definitions.values_mut()) {
            clean(value, self.side);
        }
        if self.side == Side::Written {
            fields.remove("additionalProperties");
        }
        if !definitions.is_empty() {
            fields.insert("$defs".to_owned(), Value::Object(definitions));
        }
        Value::Object(fields)
    }
}

fn reference(schema: &Value) -> Option<&str> {
    schema.get("$ref")?.as_str()?.strip_prefix("#/$defs/")
}

/// The definitions that a schema needs, and those that these need.
fn collect(schema: &Value, definitions: &Map<String, Value>, needed: &mut BTreeSet<String>) {
    match schema {
        Value::Object(fields) => {
            if let Some(name) = reference(schema)
                && needed.insert(name.to_owned())
                && let Some(definition) = definitions.get(name)
            {
                collect(definition, definitions, needed);
            }
            fields.values().for_each(|value| collect(value, definitions, needed));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, definitions, needed)),
        _ => {}
    }
}

/// Takes away formats that JSON Schema does not know (validators stumble over `uint64`), and opens what is written.
fn clean(schema: &mut Value, side: Side) {
    match schema {
        Value::Object(fields) => {
            let foreign = |format: &str| {
                let width = format.trim_start_matches("uint").trim_start_matches("int");
                format != width && width.bytes().all(|b| b.is_ascii_digit())
            };
            if fields.get("format").and_then(Value::as_str).is_some_and(foreign) {
                fields.remove("format");
            }
            if side == Side::Written && fields.get("additionalProperties") == Some(&Value::Bool(false)) {
                fields.remove("additionalProperties");
            }
            if side == Side::Written {
                never_null(fields);
            }
            if let Some(Value::String(text)) = fields.get_mut("description") {
                *text = text.replace('\n', " ");
            }
            fields.values_mut().for_each(|value| clean(value, side));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| clean(item, side)),
        _ => {}
    }
}

/// What may be left out is left out where there is nothing to say: it is never null.
fn never_null(object: &mut Map<String, Value>) {
    let required = object.get("required").cloned().unwrap_or_default();
    let is_required = |name: &str| required.as_array().is_some_and(|names| names.iter().any(|one| one == name));
    let Some(Value::Object(properties)) = object.get_mut("properties") else { return };
    for (_, property) in properties.iter_mut().filter(|(name, _)| !is_required(name)) {
        if let Some(Value::Array(types)) = property.get_mut("type") {
            types.retain(|one| one != "null");
            if let [one] = types.as_slice() {
                property["type"] = one.clone();
            }
        }
        if let Some(Value::Array(choices)) = property.get_mut("anyOf") {
            choices.retain(|one| *one != json!({"type": "null"}));
            if let [one] = choices.as_slice() {
                let one = one.clone();
                if let (Some(fields), Value::Object(one)) = (property.as_object_mut(), one) {
                    fields.remove("anyOf");
                    fields.extend(one);
                }
            }
        }
    }
}

/// As it stands in a file.
pub fn text(value: &Value) -> String {
    format!("{value:#}\n")
}
