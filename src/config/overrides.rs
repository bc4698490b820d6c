//! `BOOTLINE__NETWORK__INTERFACE=eth1`: any value of the file, from the environment.

use std::collections::BTreeMap;

use serde_yaml::{Mapping, Value};

use crate::config::ConfigError;

const PREFIX: &str = "BOOTLINE__";

/// The name of the variable, the path of keys, the value.
pub type Override = (String, Vec<String>, String);

pub fn of(environment: &BTreeMap<String, String>) -> Result<Vec<Override>, ConfigError> {
    environment
        .iter()
        .filter_map(|(name, word)| name.strip_prefix(PREFIX).map(|path| (name, path, word)))
        .map(|(name, path, word)| {
            let keys: Vec<String> = path.split("__").map(str::to_lowercase).collect();
            if keys.iter().any(String::is_empty) {
                let what = "not BOOTLINE__SECTION__KEY".to_owned();
                return Err(ConfigError::Override { name: name.clone(), what });
            }
            Ok((name.clone(), keys, word.clone()))
        })
        .collect()
}

/// The value is YAML itself, so `{url: mqtt://host:1883}` and `off` are what they are in the file.
pub fn set(value: &mut Value, keys: &[String], word: &str) -> Result<(), String> {
    let Some((key, rest)) = keys.split_first() else {
        *value = serde_yaml::from_str(word).map_err(|error| error.to_string())?;
        return Ok(());
    };
    if !matches!(value, Value::Mapping(_)) {
        *value = Value::Mapping(Mapping::new());
    }
    let Value::Mapping(fields) = value else { return Err(format!("{key} has no keys below it")) };
    set(fields.entry(Value::String(key.clone())).or_insert(Value::Null), rest, word)
}
