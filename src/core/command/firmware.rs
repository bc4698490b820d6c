//! What commands say of EEPROM firmware.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::command::ImageRef;
use crate::core::firmware::BoardKind;
use crate::core::image::Digest;

/// What a project asks for the EEPROM of its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareWish {
    /// The firmware, by its SHA-256 or by a name that only one has.
    pub image: ImageRef,
    /// Lines of `bootconf.txt` that are changed: `{"BOOT_ORDER": "0xf2461"}`.
    #[serde(default, deserialize_with = "settings")]
    #[schemars(with = "BTreeMap<String, TextOrNumber>")]
    pub settings: BTreeMap<String, String>,
    /// Another whole `bootconf.txt`, in the place of `settings`.
    #[serde(default)]
    pub bootconf: Option<String>,
    /// Other boards are refused; empty: any board of the chip.
    #[serde(default)]
    pub allow_revisions: Vec<BoardKind>,
    /// A `BOOT_ORDER` without network is wanted: such a module never comes back by itself.
    #[serde(default)]
    pub force_boot_order: bool,
    /// An EEPROM with newer firmware gets this one all the same.
    #[serde(default)]
    pub allow_downgrade: bool,
}

/// How a setting may be written.
#[derive(JsonSchema)]
#[serde(untagged)]
#[expect(dead_code, reason = "it is there for the schema")]
enum TextOrNumber {
    Text(String),
    Number(i64),
}

/// `BOOT_UART: 1` is as good as `BOOT_UART: "1"`.
fn settings<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<BTreeMap<String, String>, D::Error> {
    let text = |(key, value): (String, Value)| match value {
        Value::String(text) => Ok((key, text)),
        Value::Number(number) => Ok((key, number.to_string())),
        _ => Err(serde::de::Error::custom(format!("the setting {key} is neither text nor a number"))),
    };
    BTreeMap::<String, Value>::deserialize(deserializer)?.into_iter().map(text).collect()
}

/// A file below the import folder of the station.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareAdd {
    /// Below the import folder of the station, without `..`.
    pub path: String,
    /// The name of the file where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    /// Of the file; another one is rejected.
    #[serde(default)]
    pub sha256: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FirmwareName {
    /// By its SHA-256, or by a name that only one has.
    pub firmware: ImageRef,
}
