//! What happened, for good and for everyone: the types of the contract, §5.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::boot::Boot;
use crate::core::device::{Facts, Mac, Revision, Serial, Serial8};
use crate::core::firmware::{Firmware, FirmwareSeen};
use crate::core::image::{Digest, Image};
use crate::core::observation::{Cache, Vitals};
use crate::core::plan::{Plan, SessionId};
use crate::core::project::{Project, ProjectId};
use crate::core::rule::Rule;
use crate::core::script::{Script, ScriptId, ScriptRun, VariableName, Variables};
use crate::core::session::StepName;

/// Which device, and as far as known in which attempt at what. Part of every device event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRef {
    pub mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial8: Option<Serial8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Where its cable is: what the switch or relay agent has added to its DHCP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
}

/// How a device was first seen in a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Dhcp,
    Tftp,
    Script,
}

/// A public fact. The tag is the `type` of the `CloudEvent` without its namespace and version.
#[expect(clippy::large_enum_variant, reason = "a fact holds it in a box")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    #[serde(rename = "station.started")]
    StationStarted { version: String },
    #[serde(rename = "station.stopped")]
    StationStopped { reason: String },
    #[serde(rename = "station.alarm.raised")]
    AlarmRaised { code: String, detail: String },
    #[serde(rename = "station.alarm.cleared")]
    AlarmCleared { code: String },
    /// In the place of an event that a sink would not take for good.
    #[serde(rename = "events.deadlettered")]
    EventsDeadlettered { sink: String, sequence: u64, reason: String },

    #[serde(rename = "image.added")]
    ImageAdded(Image),
    #[serde(rename = "image.rejected")]
    ImageRejected {
        name: String,
        code: String,
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    #[serde(rename = "image.removed")]
    ImageRemoved { image: Digest, name: String },

    /// It lies in the import folder and is to be taken in.
    #[serde(rename = "firmware.requested")]
    FirmwareRequested {
        name: String,
        path: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    #[serde(rename = "firmware.added")]
    FirmwareAdded(Firmware),
    #[serde(rename = "firmware.rejected")]
    FirmwareRejected {
        name: String,
        code: String,
        detail: String,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    #[serde(rename = "firmware.removed")]
    FirmwareRemoved { firmware: Digest, name: String },

    #[serde(rename = "project.created")]
    ProjectCreated(Project),
    #[serde(rename = "project.updated")]
    ProjectUpdated(Project),
    #[serde(rename = "project.activated")]
    ProjectActivated { project: ProjectId, revision: u64 },
    #[serde(rename = "project.deactivated")]
    ProjectDeactivated { project: ProjectId, revision: u64 },
    #[serde(rename = "project.deleted")]
    ProjectDeleted { project: ProjectId },

    /// First sight of a device in a boot.
    #[serde(rename = "device.discovered")]
    DeviceDiscovered {
        #[serde(flatten)]
        device: DeviceRef,
        via: Via,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_mb: Option<u32>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
    },
    /// It asked, and nothing is done; at most one a device and code in ten minutes.
    #[serde(rename = "device.refused")]
    DeviceRefused {
        #[serde(flatten)]
        device: DeviceRef,
        code: String,
        detail: String,
    },
    /// A session begins.
    #[serde(rename = "device.started")]
    DeviceStarted {
        #[serde(flatten)]
        device: DeviceRef,
        facts: Facts,
        plan: Plan,
        /// Of the boot that led here, such as a boot file that was cut off.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
        /// The boot that led here, where the station saw it; told with the first session of a boot alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<Boot>,
    },
    #[serde(rename = "device.step.started")]
    StepStarted {
        #[serde(flatten)]
        device: DeviceRef,
        step: StepName,
    },
    #[serde(rename = "device.step.completed")]
    StepCompleted {
        #[serde(flatten)]
        device: DeviceRef,
        step: StepName,
        duration_ms: u64,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Cache>,
        /// Of the firmware step: what the EEPROM held before and holds now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        firmware: Option<FirmwareSeen>,
        /// Of a step of scripts: how each has ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scripts: Vec<ScriptRun>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// Every step is done, and the medium was read back and equals the image.
    #[serde(rename = "device.provisioned")]
    DeviceProvisioned {
        #[serde(flatten)]
        device: DeviceRef,
        duration_ms: u64,
        sha256: Digest,
        bytes: u64,
        cache: Cache,
        #[serde(flatten)]
        vitals: Vitals,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        simulated: bool,
    },
    #[serde(rename = "device.failed")]
    DeviceFailed {
        #[serde(flatten)]
        device: DeviceRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        code: String,
        detail: String,
        /// What to do about it, for the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        retryable: bool,
        #[serde(flatten)]
        vitals: Vitals,
    },
    /// An operator or the ERP ended it.
    #[serde(rename = "device.aborted")]
    DeviceAborted {
        #[serde(flatten)]
        device: DeviceRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        by: String,
        detail: String,
    },
    /// It vanished, or came back from a reboot in the middle.
    #[serde(rename = "device.interrupted")]
    DeviceInterrupted {
        #[serde(flatten)]
        device: DeviceRef,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        code: String,
        detail: String,
        /// What to do about it, for the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        retryable: bool,
    },
    /// One more attempt is allowed.
    #[serde(rename = "device.authorized")]
    DeviceAuthorized {
        #[serde(flatten)]
        device: DeviceRef,
        by: String,
    },

    /// It has its project, whatever the rules say: the one that the device names.
    #[serde(rename = "device.assigned")]
    DeviceAssigned {
        #[serde(flatten)]
        device: DeviceRef,
        /// What it is told of itself.
        #[serde(default, skip_serializing_if = "Variables::is_empty")]
        variables: Variables,
        /// The names of what it is told in secret.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        secrets: Vec<VariableName>,
        by: String,
    },
    #[serde(rename = "device.unassigned")]
    DeviceUnassigned {
        #[serde(flatten)]
        device: DeviceRef,
        by: String,
    },

    /// It has a text, or another one.
    #[serde(rename = "script.added")]
    ScriptAdded(Script),
    #[serde(rename = "script.removed")]
    ScriptRemoved { script: ScriptId },

    /// The rules that hold from now on, all of them.
    #[serde(rename = "rules.changed")]
    RulesChanged { revision: u64, rules: Vec<Rule> },

    /// Audit: who asked for what, and what was answered.
    #[serde(rename = "command.completed")]
    CommandCompleted {
        command_id: String,
        name: String,
        actor: Value,
        transport: String,
        status: String,
        code: u16,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        correlation_id: Option<String>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}

/// What the topic and the subject of an event are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `device`, `project`, `image`, `firmware`, `rule`, `script`, `station`, `command`.
    pub kind: &'static str,
    /// Matches `[A-Za-z0-9_-]{1,64}`.
    pub id: String,
}

impl Event {
    /// `device.step.started`
    pub const fn name(&self) -> &'static str {
        match self {
            Self::StationStarted { .. } => "station.started",
            Self::StationStopped { .. } => "station.stopped",
            Self::AlarmRaised { .. } => "station.alarm.raised",
            Self::AlarmCleared { .. } => "station.alarm.cleared",
            Self::EventsDeadlettered { .. } => "events.deadlettered",
            Self::ImageAdded(_) => "image.added",
            Self::ImageRejected { .. } => "image.rejected",
            Self::ImageRemoved { .. } => "image.removed",
            Self::FirmwareRequested { .. } => "firmware.requested",
            Self::FirmwareAdded(_) => "firmware.added",
            Self::FirmwareRejected { .. } => "firmware.rejected",
            Self::FirmwareRemoved { .. } => "firmware.removed",
            Self::ProjectCreated(_) => "project.created",
            Self::ProjectUpdated(_) => "project.updated",
            Self::ProjectActivated { .. } => "project.activated",
            Self::ProjectDeactivated { .. } => "project.deactivated",
            Self::ProjectDeleted { .. } => "project.deleted",
            Self::DeviceDiscovered { .. } => "device.discovered",
            Self::DeviceRefused { .. } => "device.refused",
            Self::DeviceStarted { .. } => "device.started",
            Self::StepStarted { .. } => "device.step.started",
            Self::StepCompleted { .. } => "device.step.completed",
            Self::DeviceProvisioned { .. } => "device.provisioned",
            Self::DeviceFailed { .. } => "device.failed",
            Self::DeviceAborted { .. } => "device.aborted",
            Self::DeviceInterrupted { .. } => "device.interrupted",
            Self::DeviceAuthorized { .. } => "device.authorized",
            Self::DeviceAssigned { .. } => "device.assigned",
            Self::DeviceUnassigned { .. } => "device.unassigned",
            Self::ScriptAdded(_) => "script.added",
            Self::ScriptRemoved { .. } => "script.removed",
            Self::RulesChanged { .. } => "rules.changed",
            Self::CommandCompleted { .. } => "command.completed",
        }
    }

    /// The device that an event is about.
    pub const fn device(&self) -> Option<&DeviceRef> {
        match self {
            Self::DeviceDiscovered { device, .. }
            | Self::DeviceRefused { device, .. }
            | Self::DeviceStarted { device, .. }
            | Self::StepStarted { device, .. }
            | Self::StepCompleted { device, .. }
            | Self::DeviceProvisioned { device, .. }
            | Self::DeviceFailed { device, .. }
            | Self::DeviceAborted { device, .. }
            | Self::DeviceInterrupted { device, .. }
            | Self::DeviceAuthorized { device, .. }
            | Self::DeviceAssigned { device, .. }
            | Self::DeviceUnassigned { device, .. } => Some(device),
            _ => None,
        }
    }

    /// Where the event goes; `station` names those that are about the station itself.
    pub fn subject(&self, station: &str) -> Subject {
        let (kind, id) = match self {
            Self::ImageAdded(image) => ("image", image.id.to_string()),
            Self::ImageRejected { sha256: Some(id), .. } | Self::ImageRemoved { image: id, .. } => {
                ("image", id.to_string())
            }
            Self::ImageRejected { sha256: None, .. } => ("image", "rejected".to_owned()),
            Self::FirmwareAdded(firmware) => ("firmware", firmware.id.to_string()),
            Self::FirmwareRejected { sha256: Some(id), .. } | Self::FirmwareRemoved { firmware: id, .. } => {
                ("firmware", id.to_string())
            }
            Self::FirmwareRejected { sha256: None, .. } => ("firmware", "rejected".to_owned()),
            Self::FirmwareRequested { .. } => ("firmware", "requested".to_owned()),
            Self::ProjectCreated(project) | Self::ProjectUpdated(project) => ("project", project.id.to_string()),
            Self::ProjectActivated { project, .. }
            | Self::ProjectDeactivated { project, .. }
            | Self::ProjectDeleted { project } => ("project", project.to_string()),
            Self::ScriptAdded(Script { id, .. }) | Self::ScriptRemoved { script: id } => ("script", id.to_string()),
            Self::RulesChanged { .. } => ("rule", "rules".to_owned()),
            Self::CommandCompleted { command_id, .. } => ("command", command_id.clone()),
            _ => match self.device() {
                Some(device) => ("device", device.mac.to_string()),
                None => ("station", station.to_owned()),
            },
        };
        Subject { kind, id }
    }
}
