//! What the doors show of sessions, devices, jobs, images and the station: the results of reading commands. One type a
//! thing, so that every door shows the same and the schemas say so.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use crate::core::boot::Boot;
use crate::core::command::CommandId;
use crate::core::device::{Facts, Mac, Revision, Serial, Serial8};
use crate::core::firmware::{FirmwarePlan, FirmwareSeen};
use crate::core::image::{Digest, Image, Keeping};
use crate::core::job::JobState;
use crate::core::observation::{Cache, Evidence};
use crate::core::plan::{SessionId, StepName, StoragePath};
use crate::core::project::ProjectId;
use crate::core::refusal::Refusal;
use crate::core::rule::{Finding, Holds};
use crate::core::script::{PlannedScript, ScriptRun, Scripts, VariableName, Variables};
use crate::core::session::{Outcome, Session};
use crate::core::time::Timestamp;

/// One attempt on one device, open or ended.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Session")]
pub struct SessionShown {
    pub session: SessionId,
    pub mac: Mac,
    /// Counts the sessions of this device, from 1.
    pub attempt: u32,
    pub project: ProjectId,
    /// What is written, by the SHA-256 of its uploaded file.
    pub image: Digest,
    /// Where it is written to.
    pub storage: StoragePath,
    /// Goes into the EEPROM before.
    pub firmware: Option<FirmwarePlan>,
    /// Scripts of the site that are planned.
    pub scripts: Scripts<PlannedScript>,
    /// What the device is told of itself; secrets are shown nowhere.
    pub variables: Variables,
    /// What the device has told of itself.
    pub facts: Facts,
    /// Where its cable was when it began, if the switch says so.
    pub circuit: Option<String>,
    /// When it began.
    pub started_at: Timestamp,
    /// The step that runs.
    pub step: Option<StepName>,
    /// Those that are done, in their order.
    pub steps: Vec<StepShown>,
    /// Of the boot that led here.
    pub warnings: Vec<String>,
    /// How it ended; null while it is open.
    pub outcome: Option<Outcome>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it did not pass, for programs.
    pub code: Option<String>,
    /// Why it did not pass, for people.
    pub detail: Option<String>,
    /// What to do about it, for the operator.
    pub advice: Option<String>,
}

/// A step that is done, and what it showed.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Step")]
pub struct StepShown {
    /// Which one.
    pub step: StepName,
    /// Of a step that moves bytes: how many, decoded.
    pub bytes: Option<u64>,
    /// Of the verify step: what the medium read back as.
    pub sha256: Option<Digest>,
    /// Of the verify step: how the medium was read.
    pub cache: Option<Cache>,
    /// Of the firmware step.
    pub firmware: Option<FirmwareSeen>,
    /// Of a step of scripts: how each has ended.
    pub scripts: Vec<ScriptRun>,
    /// What was missing on the device and did not stop the step.
    pub warnings: Vec<String>,
}

impl StepShown {
    fn of((step, evidence): &(StepName, Evidence)) -> Self {
        Self {
            step: *step,
            bytes: evidence.bytes,
            sha256: evidence.sha256,
            cache: evidence.cache,
            firmware: evidence.firmware.clone(),
            scripts: evidence.scripts.clone(),
            warnings: evidence.warnings.clone(),
        }
    }
}

impl SessionShown {
    /// The token stays inside.
    pub fn of(session: &Session) -> Self {
        let ended = session.ended.as_ref();
        let code = ended.and_then(|ended| ended.code.clone());
        Self {
            session: session.id,
            mac: session.mac,
            attempt: session.attempt,
            project: session.project.clone(),
            image: session.plan.image,
            storage: session.plan.storage.clone(),
            firmware: session.plan.firmware.clone(),
            scripts: session.plan.scripts.clone(),
            variables: session.data.variables.clone(),
            facts: session.facts.clone(),
            circuit: session.circuit.clone(),
            started_at: session.started_at,
            step: session.current_step(),
            steps: session.done.iter().map(StepShown::of).collect(),
            warnings: session.warnings.clone(),
            outcome: ended.map(|ended| ended.outcome),
            ended_at: ended.map(|ended| ended.at),
            advice: code.as_deref().and_then(crate::core::advice::advice).map(str::to_owned),
            code,
            detail: ended.and_then(|ended| ended.detail.clone()),
        }
    }
}

/// What is known of a device.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Device")]
pub struct DeviceShown {
    pub mac: Mac,
    pub serial8: Option<Serial8>,
    pub serial: Option<Serial>,
    pub revision: Option<Revision>,
    /// Of the board, as its revision says: `CM4`.
    pub model: Option<String>,
    /// Where its cable was at the last boot, if the switch says so.
    pub circuit: Option<String>,
    /// When it was seen first.
    pub first_seen_at: Timestamp,
    /// When it was seen last.
    pub seen_at: Timestamp,
    /// Sessions so far.
    pub attempts: u32,
    /// Failed or interrupted ones since the last that passed or was authorised.
    pub failures: u32,
    /// Of the last session that ended.
    pub last_outcome: Option<Outcome>,
    /// Some project has finished it.
    pub finished: bool,
    /// One more attempt is allowed.
    pub authorized: bool,
    /// The project that it gets whatever the rules say.
    pub assigned: Option<ProjectId>,
    /// What it is told of itself at its next session.
    pub variables: Variables,
    /// The names of what it is told in secret.
    pub secrets: Vec<VariableName>,
    /// The session that runs.
    pub open_session: Option<SessionId>,
    /// What went wrong in the boot under way and did not stop it.
    pub warnings: Vec<String>,
    /// The boot under way, or the last one.
    pub boot: Option<Boot>,
}

/// Long work: an image that comes in.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Job")]
pub struct JobShown {
    /// Of the command that began it, or made by the station for an upload.
    pub id: CommandId,
    /// `image.add` or `image.upload`.
    pub kind: String,
    /// Of the image.
    pub name: String,
    /// Where it is fetched from, without the query.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// As it was announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sha256: Option<Digest>,
    /// Its file is here, in whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// Of the file, in bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
    /// Where it stands.
    pub state: JobState,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended_at: Option<Timestamp>,
    /// What is done now: `fetch` the file, then `ingest` it.
    pub stage: String,
}

/// An image that can be written.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ReadyImage {
    #[serde(flatten)]
    pub image: Image,
    /// `damaged`: its file is not what was taken in.
    pub state: ImageState,
    /// What becomes of it while it is kept.
    pub kept: Keeping,
}

/// Whether an image can be written.
#[derive(Clone, Copy, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ImageState {
    Ready,
    Damaged,
    /// Its file is here and is looked at.
    Ingesting,
}

/// An image that is being looked at; projects may name it already.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct ComingImage {
    /// SHA-256 of the file as it was uploaded.
    pub id: Digest,
    /// As it was uploaded.
    pub name: String,
    /// Of the file, in bytes.
    pub size_bytes: Option<u64>,
    /// `ingesting`
    pub state: ImageState,
    /// The job that looks at it.
    pub job: CommandId,
}

/// One of the library.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub enum ListedImage {
    Ready(Box<ReadyImage>),
    Coming(ComingImage),
}

/// The station at a glance.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "Station")]
pub struct StationShown {
    /// Its id.
    pub station: String,
    /// Of the program.
    pub version: String,
    /// That can be asked here.
    pub commands: Vec<String>,
    /// How many there are.
    pub projects: usize,
    /// Those that devices get.
    pub active_projects: Vec<ProjectId>,
    /// How many there are.
    pub rules: usize,
    /// How many are ready.
    pub images: usize,
    /// How many are in the library.
    pub firmware: usize,
    /// Sessions that run.
    pub open_sessions: usize,
    /// What somebody must act on: code and what to do.
    pub alarms: BTreeMap<String, String>,
}

/// Which project a device would get, and why.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct RulesTested {
    pub device: Mac,
    /// What the rules say.
    pub choice: ChoiceShown,
    /// Why it would get none all the same: finished already, too many failures. Null: it would be written.
    pub refusal: Option<Reason>,
    /// Each rule, in its order.
    pub rules: Vec<JudgedRule>,
}

/// What the rules say of a device.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(tag = "by", rename_all = "snake_case")]
#[schemars(rename = "Choice")]
pub enum ChoiceShown {
    /// `device.assign` named the project.
    Assignment { project: ProjectId },
    /// A rule takes it.
    Rule {
        /// Counted from 0, in the order of the rules.
        rule: usize,
        project: ProjectId,
    },
    /// It is the one active project without rules.
    Default { project: ProjectId },
    /// More must be known of the device.
    Undecided {
        /// Those that it may get.
        projects: Vec<ProjectId>,
    },
    /// None.
    Nothing {
        /// Why, for programs.
        code: String,
        /// Why, for people.
        detail: String,
    },
}

/// Why not.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct Reason {
    /// For programs.
    pub code: String,
    /// For people.
    pub detail: String,
}

/// One rule beside what is known of a device.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct JudgedRule {
    pub project: ProjectId,
    /// Of the rule.
    pub name: Option<String>,
    /// Its project is active; else the rule is passed over.
    pub active: bool,
    /// Whether all of it holds.
    pub holds: Holds,
    /// Each condition that is given.
    pub conditions: Vec<Finding>,
}
