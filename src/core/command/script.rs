//! What commands say of scripts, and of single devices.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::Mac;
use crate::core::project::ProjectId;
use crate::core::script::{OnFailure, ScriptId, Variables};

/// Makes a script, or gives the one of this name another text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptPut {
    /// Free text of up to 200 characters; its letters and digits become the id.
    pub name: String,
    /// POSIX shell, as busybox `ash` runs it; at most 48 KiB.
    pub text: String,
    /// What an end other than 0 means.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// It runs beside what comes after it, and is waited for at the end of the session.
    #[serde(default)]
    pub background: bool,
    /// After so many seconds it is ended: 1 to 86400.
    #[serde(default = "five_minutes")]
    pub timeout_s: u32,
}

const fn five_minutes() -> u32 {
    300
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScriptName {
    /// By its id.
    pub script: ScriptId,
}

/// What the ERP says of one device before it comes: its project, whatever the rules say, and what it is told of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceAssign {
    /// By its MAC; it need not have been seen.
    pub device: Mac,
    /// The one that it gets, whatever the rules say; left out, the rules decide.
    #[serde(default)]
    pub project: Option<ProjectId>,
    /// What it is told of itself: environment variables of its scripts, and the data file. Events show them.
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
