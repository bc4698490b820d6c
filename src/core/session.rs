//! One attempt on one device: its steps, its deadlines, and exactly one outcome.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::device::{Facts, Mac};
use crate::core::observation::Evidence;
use crate::core::plan::{Plan, SessionId, Token};
use crate::core::project::ProjectId;
use crate::core::script::DeviceData;
use crate::core::shown::SessionShown;
use crate::core::time::Timestamp;

pub use crate::core::plan::StepName;

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Passed,
    Failed,
    Aborted,
    Interrupted,
}

impl Outcome {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
        }
    }
}

/// A step that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    pub step: StepName,
    pub since: Timestamp,
}

/// The end of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub outcome: Outcome,
    pub at: Timestamp,
    /// Why, where it did not pass.
    pub code: Option<String>,
    pub detail: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    pub id: SessionId,
    pub mac: Mac,
    pub attempt: u32,
    pub project: ProjectId,
    pub facts: Facts,
    /// Where its cable was when it began, if the switch says so.
    pub circuit: Option<String>,
    pub plan: Plan,
    pub token: Token,
    pub started_at: Timestamp,
    /// What runs now.
    pub running: Option<Running>,
    /// Steps that are done, in their order, with what they showed.
    pub done: Vec<(StepName, Evidence)>,
    /// Of the boot that led here; a boot file that was cut off may explain a failure.
    pub warnings: Vec<String>,
    /// What the device is told of itself; the secrets go with its end.
    pub data: DeviceData,
    pub ended: Option<Ended>,
    pub life: Life,
}

/// Signs of life: kept in memory only; a restart of the station begins them anew.
#[derive(Clone, Copy, Debug, Default)]
pub struct Life {
    /// The last report, progress or byte.
    pub last_sign: Timestamp,
    /// The last byte of the image that left the station.
    pub last_byte: Timestamp,
    pub open_images: u32,
    pub image_bytes: u64,
}

/// Two sessions are the same when the ledger says the same of them; signs of life are not part of that.
impl PartialEq for Life {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Life {}

impl Session {
    /// Once a step was reported, another call for a script means that the device came back from a reboot.
    pub fn has_reported(&self) -> bool {
        self.running.is_some() || !self.done.is_empty()
    }

    /// As every door shows it; the token stays inside.
    pub fn shown(&self) -> Value {
        json!(SessionShown::of(self))
    }

    pub fn is_open(&self) -> bool {
        self.ended.is_none()
    }

    pub fn has_done(&self, step: StepName) -> bool {
        self.done.iter().any(|(done, _)| *done == step)
    }

    pub fn current_step(&self) -> Option<StepName> {
        self.running.map(|running| running.step)
    }
}
