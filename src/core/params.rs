//! The params of a request: from JSON to a value, or to a pointer at what is wrong.

use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::core::refusal::Refusal;

/// Reads params; the pointer names the field that is wrong where serde can tell it.
pub fn read<T: DeserializeOwned>(params: Map<String, Value>) -> Result<T, Refusal> {
    match serde_json::from_value(Value::Object(params.clone())) {
        Ok(value) => Ok(value),
        Err(error) => {
            let text = error.to_string();
            let complaint =
                |params| serde_json::from_value::<T>(Value::Object(params)).err().map(|error| error.to_string());
            let path =
                if text.starts_with("missing field") { String::new() } else { wrong(&params, &text, &complaint) };
            Err(Refusal::invalid(&format!("/params{path}"), text))
        }
    }
}

/// The field whose value is wrong by itself, as a JSON pointer: without it the complaint changes.
fn wrong(fields: &Map<String, Value>, text: &str, complaint: &dyn Fn(Map<String, Value>) -> Option<String>) -> String {
    let changes = |key: &str| {
        let mut rest = fields.clone();
        rest.remove(key);
        complaint(rest).as_deref() != Some(text)
    };
    let unknown = |key: &str| text.starts_with(&format!("unknown field `{key}`"));
    let Some((key, value)) = fields.iter().find(|(key, _)| unknown(key) || changes(key)) else {
        return String::new();
    };
    let inner = match value {
        Value::Object(inner) => wrong(inner, text, &|inner| {
            let mut all = fields.clone();
            all.insert(key.clone(), Value::Object(inner));
            complaint(all)
        }),
        _ => String::new(),
    };
    format!("/{}{inner}", key.replace('~', "~0").replace('/', "~1"))
}
