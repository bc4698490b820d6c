//! The committed schemas as a judge: what the station says must be what is published, and not a field more.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use jsonschema::{Draft, Validator};
use serde_json::Value;

/// Of the source tree.
pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("schemas")
}

/// Every JSON file below a folder, by its path below it without `.json`.
pub fn jsons(folder: &Path) -> BTreeMap<String, Value> {
    fn walk(root: &Path, folder: &Path, found: &mut BTreeMap<String, Value>) {
        for path in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                walk(root, &path, found);
            } else if path.extension().is_some_and(|extension| extension == "json") {
                let name = path.strip_prefix(root).unwrap().with_extension("").to_string_lossy().into_owned();
                let text = fs::read_to_string(&path).unwrap();
                found.insert(name, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}")));
            }
        }
    }
    let mut found = BTreeMap::new();
    walk(folder, folder, &mut found);
    found
}

/// The schemas alone.
pub fn schemas() -> BTreeMap<String, Value> {
    let all = jsons(&folder());
    let other = |name: &String| {
        name.starts_with("examples/")
            || name.starts_with("vectors/")
            || ["asyncapi", "openapi"].contains(&name.as_str())
    };
    all.into_iter().filter(|(name, _)| !other(name)).collect()
}

pub fn validator(schema: &Value) -> Validator {
    let options = jsonschema::options().with_draft(Draft::Draft202012).should_validate_formats(true);
    options.build(schema).unwrap_or_else(|error| panic!("{}: {error}", schema["$id"]))
}

/// With no field that is not described.
pub fn closed(schema: &Value) -> Value {
    fn close(schema: &mut Value) {
        match schema {
            Value::Object(fields) => {
                for (key, value) in fields.iter_mut() {
                    // Conditions speak of fields that others describe.
                    if !["allOf", "if", "then", "else", "examples", "enum", "const"].contains(&key.as_str()) {
                        close(value);
                    }
                }
                if fields.get("properties").is_some_and(Value::is_object) {
                    fields.insert("unevaluatedProperties".to_owned(), false.into());
                }
            }
            Value::Array(items) => items.iter_mut().for_each(close),
            _ => {}
        }
    }
    let mut schema = schema.clone();
    close(&mut schema);
    schema
}

/// What is wrong, one line a fault.
pub fn faults(validator: &Validator, value: &Value) -> Vec<String> {
    validator.iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Every schema, closed.
pub struct Contract(BTreeMap<String, Validator>);

impl Contract {
    pub fn get() -> &'static Self {
        static CONTRACT: OnceLock<Contract> = OnceLock::new();
        CONTRACT.get_or_init(|| {
            Self(schemas().iter().map(|(name, schema)| (name.clone(), validator(&closed(schema)))).collect())
        })
    }

    /// `state` of `states/state`, and so on.
    pub fn holds(&self, name: &str, value: &Value) {
        let validator = self.0.get(name).unwrap_or_else(|| panic!("there is no schemas/{name}.json for {value}"));
        let faults = faults(validator, value);
        assert!(faults.is_empty(), "not what schemas/{name}.json says: {}\n{value}", faults.join("\n"));
    }

    /// The envelope and the data of an event; gives its name.
    pub fn event(&self, event: &Value) -> String {
        self.holds("cloudevent", event);
        let kind = event["type"].as_str().unwrap();
        let name = kind.strip_prefix("io.bootline.").and_then(|rest| rest.strip_suffix(".v1")).unwrap().to_owned();
        assert_eq!(event["dataschema"], format!("urn:bootline:schema:event:{name}:1.0"));
        self.holds(&format!("events/{name}"), &event["data"]);
        name
    }

    pub fn reply(&self, reply: &Value) {
        self.holds("reply", reply);
        let name = reply["name"].as_str().unwrap();
        if self.0.contains_key(&format!("replies/{name}")) {
            self.holds(&format!("replies/{name}"), reply);
        }
    }

    /// Every event that is published.
    pub fn events(&self) -> BTreeSet<&str> {
        self.0.keys().filter_map(|name| name.strip_prefix("events/")).collect()
    }

    /// Every command that is published.
    pub fn commands(&self) -> BTreeSet<&str> {
        self.0.keys().filter_map(|name| name.strip_prefix("commands/")).collect()
    }
}
