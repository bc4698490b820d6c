//! Requests about labels.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::Mac;
use crate::core::label::{LabelId, PrinterName};
use crate::core::plan::SessionId;

/// Makes a label, or gives the one of this name another text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelPut {
    /// Free text of up to 200 characters; its letters and digits become the id.
    pub name: String,
    /// A template of what the printer gets (ZPL, EPL, ..), as minijinja reads it; at most 48 KiB.
    pub text: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelName {
    /// By its id.
    pub label: LabelId,
}

/// Prints a label of one device, or of one of its sessions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LabelPrint {
    /// The template, by its id.
    pub label: LabelId,
    /// By its MAC: its newest session is meant. Either this or `session`.
    #[serde(default)]
    pub device: Option<Mac>,
    #[serde(default)]
    pub session: Option<SessionId>,
    /// Left out, the printer of the device's slot.
    #[serde(default)]
    pub printer: Option<PrinterName>,
    /// The label says of itself that it is not the first: the variable `reprint`.
    #[serde(default)]
    pub reprint: bool,
}
