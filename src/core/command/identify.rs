//! Which one is it? A device is asked to blink.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::Mac;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceIdentify {
    pub device: Mac,
    /// How long, in seconds: 1 to 300; 0 ends it.
    #[serde(default = "fifteen")]
    pub seconds: u16,
}

const fn fifteen() -> u16 {
    15
}
