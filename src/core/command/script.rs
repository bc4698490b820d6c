//! What commands say of scripts, and of single devices.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::core::device::Mac;
use crate::core::project::ProjectId;
use crate::core::script::{OnFailure, ScriptId, Variables};

/// Makes a script, or gives the one of this name another text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptPut {
    pub name: String,
    pub text: String,
    #[serde(default)]
    pub on_failure: OnFailure,
    #[serde(default)]
    pub background: bool,
    #[serde(default = "five_minutes")]
    pub timeout_s: u32,
}

const fn five_minutes() -> u32 {
    300
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScriptName {
    pub script: ScriptId,
}

/// What the ERP says of one device before it comes: its project, whatever the rules say, and what it is told of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceAssign {
    pub device: Mac,
    #[serde(default)]
    pub project: Option<ProjectId>,
    #[serde(default)]
    pub variables: Variables,
    /// Never in an event, a log or an answer.
    #[serde(default)]
    pub secrets: Variables,
}

impl fmt::Debug for DeviceAssign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeviceAssign")
            .field("device", &self.device)
            .field("project", &self.project)
            .finish_non_exhaustive()
    }
}
