//! Requests about places on the line.

use serde::{Deserialize, Serialize};

use crate::core::slot::{PowerAction, SlotName};

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotWord {
    pub slot: SlotName,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SlotPower {
    pub slot: SlotName,
    pub action: PowerAction,
}
