//! Requests about places on the line.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::slot::{PowerAction, SlotName};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotWord {
    pub slot: SlotName,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SlotPower {
    pub slot: SlotName,
    pub action: PowerAction,
}
