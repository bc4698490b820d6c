//! What commands say of EEPROM firmware.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::command::ImageRef;
use crate::core::firmware::BoardKind;
use crate::core::image::Digest;

/// What a project asks for the EEPROM of its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareWish {
    pub image: ImageRef,
    #[serde(default, deserialize_with = "settings")]
    pub settings: BTreeMap<String, String>,
    #[serde(default)]
    pub bootconf: Option<String>,
    #[serde(default)]
    pub allow_revisions: Vec<BoardKind>,
    #[serde(default)]
    pub force_boot_order: bool,
    #[serde(default)]
    pub allow_downgrade: bool,
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareAdd {
    pub path: String,
    /// The name of the file where it is left out.
    #[serde(default)]
    pub name: Option<String>,
    #[serde(default)]
    pub sha256: Option<Digest>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FirmwareName {
    pub firmware: ImageRef,
}
