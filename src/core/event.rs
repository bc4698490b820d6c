//! What happened, for good and for everyone: the types of the contract, §5.

mod name;

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::boot::Boot;
use crate::core::command::Actor;
use crate::core::device::{Facts, Mac, Revision, Serial, Serial8};
use crate::core::firmware::{Firmware, FirmwareSeen};
use crate::core::image::{Digest, Image};
use crate::core::label::{Label, LabelId, PrinterName};
use crate::core::observation::{Cache, Vitals};
use crate::core::plan::{Plan, SessionId};
use crate::core::project::{Project, ProjectId};
use crate::core::rule::Rule;
use crate::core::script::{Script, ScriptId, ScriptRun, VariableName, Variables};
use crate::core::session::StepName;
use crate::core::slot::{PowerAction, PowerReason, SlotName, SwitchPort};
use crate::core::time::Timestamp;

/// Which device, and as far as known in which attempt at what. Part of every device event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct DeviceRef {
    pub mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial8: Option<Serial8>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial: Option<Serial>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// Counts the sessions of this device, from 1. Together with `mac` it names one attempt for good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub project: Option<ProjectId>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image: Option<Digest>,
    /// The place on the line: jumper setting or switch port, where one is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub board: Option<String>,
    /// Where its cable is: what the switch or relay agent has added to its DHCP request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
    /// Where the switch itself sees it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_port: Option<SwitchPort>,
    /// The place on the line that this makes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<SlotName>,
}

/// How a device was first seen in a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Via {
    Dhcp,
    Tftp,
    Script,
}

/// A public fact. The tag is the `type` of the `CloudEvent` without its namespace and version.
#[expect(clippy::large_enum_variant, reason = "a fact holds it in a box")]
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", content = "data")]
pub enum Event {
    /// The agent is up and serves.
    #[serde(rename = "station.started")]
    StationStarted {
        /// Of the program: `0.1.0`.
        version: String,
    },
    /// The agent ends in order. A power cut leaves no such event.
    #[serde(rename = "station.stopped")]
    StationStopped {
        /// Why, for people.
        reason: String,
    },
    /// Somebody must act. Told once, until it is cleared.
    #[serde(rename = "station.alarm.raised")]
    AlarmRaised {
        /// Which alarm: `image.damaged`, `bus.refused.mqtt`. Stable, and the name under which it is cleared.
        code: String,
        /// What is wrong, and what to do, for people.
        detail: String,
    },
    /// What an alarm told is over.
    #[serde(rename = "station.alarm.cleared")]
    AlarmCleared {
        /// Which alarm.
        code: String,
    },
    /// They were deleted before this sink had read them: the journal has reached its size, or the sink was turned off.
    #[serde(rename = "events.lost")]
    EventsLost {
        /// Which bus: `mqtt` or `nats`.
        sink: String,
        /// The first sequence that is gone.
        from: u64,
        /// The last one.
        to: u64,
        /// Why, for people.
        reason: String,
    },
    /// In the place of an event that a sink would not take for good.
    #[serde(rename = "events.deadlettered")]
    EventsDeadlettered {
        /// Which bus: `mqtt` or `nats`.
        sink: String,
        /// Of the event that is missing on that bus; REST has it.
        sequence: u64,
        /// Why, for people.
        reason: String,
    },
    /// No new sessions begin from now on.
    #[serde(rename = "station.drained")]
    StationDrained {
        /// Who asked.
        by: String,
        /// Why, for people.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// New sessions begin again.
    #[serde(rename = "station.resumed")]
    StationResumed {
        /// Who asked.
        by: String,
    },

    /// An image was taken in whole, decoded and hashed; devices can get it.
    #[serde(rename = "image.added")]
    ImageAdded(Image),
    /// A file was not taken as an image.
    #[serde(rename = "image.rejected")]
    ImageRejected {
        /// As it was announced or uploaded.
        name: String,
        /// Why, for programs: `sha256_mismatch`, `broken_xz` and the like.
        code: String,
        /// Why, for people.
        detail: String,
        /// Of the file, where it was here in whole or was announced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// An image is gone from the library.
    #[serde(rename = "image.removed")]
    ImageRemoved {
        /// The id that it had.
        image: Digest,
        /// The name that it had.
        name: String,
    },

    /// It lies in the import folder and is to be taken in.
    #[serde(rename = "firmware.requested")]
    FirmwareRequested {
        /// That it is to have in the library.
        name: String,
        /// Below the import folder of the station.
        path: String,
        /// As it was announced; another one is rejected.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// EEPROM firmware was taken into the library.
    #[serde(rename = "firmware.added")]
    FirmwareAdded(Firmware),
    /// A file was not taken as EEPROM firmware.
    #[serde(rename = "firmware.rejected")]
    FirmwareRejected {
        /// As it was announced or uploaded.
        name: String,
        /// Why, for programs.
        code: String,
        /// Why, for people.
        detail: String,
        /// Of the file, where it was here in whole or was announced.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
    },
    /// EEPROM firmware is gone from the library.
    #[serde(rename = "firmware.removed")]
    FirmwareRemoved {
        /// The id that it had.
        firmware: Digest,
        /// The name that it had.
        name: String,
    },

    /// There is a new project.
    #[serde(rename = "project.created")]
    ProjectCreated(Project),
    /// A project is another one now: as a whole.
    #[serde(rename = "project.updated")]
    ProjectUpdated(Project),
    /// Devices get this project now.
    #[serde(rename = "project.activated")]
    ProjectActivated {
        /// Which one.
        project: ProjectId,
        /// Of the project, from now on.
        revision: u64,
    },
    /// Devices get this project no more.
    #[serde(rename = "project.deactivated")]
    ProjectDeactivated {
        /// Which one.
        project: ProjectId,
        /// Of the project, from now on.
        revision: u64,
    },
    /// A project is gone.
    #[serde(rename = "project.deleted")]
    ProjectDeleted {
        /// Which one.
        project: ProjectId,
    },

    /// First sight of a device in a boot.
    #[serde(rename = "device.discovered")]
    DeviceDiscovered {
        #[serde(flatten)]
        device: DeviceRef,
        /// By what it was seen first.
        via: Via,
        /// As option 97 of DHCP has told it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revision: Option<Revision>,
        /// Of the board, as its revision says: `CM4`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        model: Option<String>,
        /// RAM in MiB, as its revision says.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        memory_mb: Option<u32>,
        /// IPv4 address that it has on the line.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        address: Option<Ipv4Addr>,
    },
    /// It asked, and nothing is done; at most one a device and code in ten minutes.
    #[serde(rename = "device.refused")]
    DeviceRefused {
        #[serde(flatten)]
        device: DeviceRef,
        /// Why, for programs: `no_project`, `hold`, `already_provisioned`, `image_too_large` and the like.
        code: String,
        /// Why and what to do, for people.
        detail: String,
    },
    /// A session begins.
    #[serde(rename = "device.started")]
    DeviceStarted {
        #[serde(flatten)]
        device: DeviceRef,
        /// What the device has told of itself.
        facts: Facts,
        /// What is going to be done to it.
        plan: Plan,
        /// Of the boot that led here, such as a boot file that was cut off.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
        /// The boot that led here, where the station saw it; told with the first session of a boot alone.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        boot: Option<Boot>,
    },
    /// A part of the session begins.
    #[serde(rename = "device.step.started")]
    StepStarted {
        #[serde(flatten)]
        device: DeviceRef,
        /// Which part of the session begins.
        step: StepName,
    },
    /// A part of the session is done, and this is what it showed.
    #[serde(rename = "device.step.completed")]
    StepCompleted {
        #[serde(flatten)]
        device: DeviceRef,
        /// Which part of the session is done.
        step: StepName,
        /// How long it took, in milliseconds.
        duration_ms: u64,
        /// Of a step that moves bytes: how many, decoded.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        bytes: Option<u64>,
        /// Of the verify step: what the medium read back as; lower-case hex.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        sha256: Option<Digest>,
        /// Of the verify step: how the medium was read.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        cache: Option<Cache>,
        /// Of the firmware step: what the EEPROM held before and holds now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        firmware: Option<FirmwareSeen>,
        /// Of a step of scripts: how each has ended.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        scripts: Vec<ScriptRun>,
        /// What was missing on the device and did not stop the step.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        warnings: Vec<String>,
    },
    /// Every step is done, and the medium was read back and equals the image.
    #[serde(rename = "device.provisioned")]
    DeviceProvisioned {
        #[serde(flatten)]
        device: DeviceRef,
        /// From the first report until the last, in milliseconds.
        duration_ms: u64,
        /// Of all bytes that were read back from the medium; equals `raw_sha256` of the image.
        sha256: Digest,
        /// How many bytes were read back.
        bytes: u64,
        /// How they were read.
        cache: Cache,
        #[serde(flatten)]
        vitals: Vitals,
        /// A simulated device: the proof is of the software, not of a module. Never book these.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        simulated: bool,
    },
    /// The session has failed: the device told so, or it was silent for too long in the middle of a download.
    #[serde(rename = "device.failed")]
    DeviceFailed {
        #[serde(flatten)]
        device: DeviceRef,
        /// The one that failed; none if no step ran.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        /// Why, for programs; stable: `verify.mismatch`, `write.decode`, `stalled` and the like.
        code: String,
        /// What was seen, for people.
        detail: String,
        /// What to do about it, for the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        /// Another attempt is allowed without `device.authorize`.
        retryable: bool,
        #[serde(flatten)]
        vitals: Vitals,
    },
    /// An operator or the ERP ended it.
    #[serde(rename = "device.aborted")]
    DeviceAborted {
        #[serde(flatten)]
        device: DeviceRef,
        /// The one that ran then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        /// The `actor.id` of the request.
        by: String,
        /// For people.
        detail: String,
    },
    /// It vanished, or came back from a reboot in the middle.
    #[serde(rename = "device.interrupted")]
    DeviceInterrupted {
        #[serde(flatten)]
        device: DeviceRef,
        /// The one that ran then.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        step: Option<StepName>,
        /// Why, for programs; stable: `silent`, `rebooted`.
        code: String,
        /// What was seen, for people.
        detail: String,
        /// What to do about it, for the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
        /// Another attempt is allowed without `device.authorize`.
        retryable: bool,
    },
    /// One more attempt is allowed.
    #[serde(rename = "device.authorized")]
    DeviceAuthorized {
        #[serde(flatten)]
        device: DeviceRef,
        /// The `actor.id` of the request.
        by: String,
    },

    /// A switch has told at which port it is; at several, when none of them can be told from the others.
    #[serde(rename = "device.located")]
    DeviceLocated {
        #[serde(flatten)]
        device: DeviceRef,
        /// Where it may be; empty when that is known.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        candidates: Vec<SwitchPort>,
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
        /// The `actor.id` of the request.
        by: String,
    },
    /// The rules decide again which project it gets.
    #[serde(rename = "device.unassigned")]
    DeviceUnassigned {
        #[serde(flatten)]
        device: DeviceRef,
        /// The `actor.id` of the request.
        by: String,
    },

    /// So many attempts in a row did not pass here that the place is closed.
    #[serde(rename = "slot.quarantined")]
    SlotQuarantined {
        slot: SlotName,
        /// Attempts in a row.
        failures: u32,
    },
    /// A closed place is open again.
    #[serde(rename = "slot.released")]
    SlotReleased {
        slot: SlotName,
        /// Who asked.
        by: String,
    },
    /// Power over Ethernet is to be switched.
    #[serde(rename = "slot.power.requested")]
    SlotPowerRequested {
        slot: SlotName,
        action: PowerAction,
        port: SwitchPort,
        /// For whose sake, if for one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        device: Option<Mac>,
        /// Who asked; `bootline` where nobody did.
        by: String,
        /// Why, where it was not asked for as such.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<PowerReason>,
    },
    /// The switch has done it, and says so when it is asked.
    #[serde(rename = "slot.powered")]
    SlotPowered {
        slot: SlotName,
        action: PowerAction,
        /// Who asked.
        by: String,
    },
    /// The switch has not done it, or was not to be asked.
    #[serde(rename = "slot.power.failed")]
    SlotPowerFailed {
        slot: SlotName,
        action: PowerAction,
        /// Who asked.
        by: String,
        /// Why it was not done.
        detail: String,
    },

    /// It has a text, or another one.
    #[serde(rename = "script.added")]
    ScriptAdded(Script),
    /// A script of the site is gone.
    #[serde(rename = "script.removed")]
    ScriptRemoved {
        /// Which one.
        script: ScriptId,
    },

    /// A template of the site has a text, or another one.
    #[serde(rename = "label.added")]
    LabelAdded(Label),
    /// A template is gone.
    #[serde(rename = "label.removed")]
    LabelRemoved {
        /// Which one.
        label: LabelId,
    },
    /// A label waits for its printer.
    #[serde(rename = "label.queued")]
    LabelQueued {
        #[serde(flatten)]
        device: DeviceRef,
        /// Of this one label; `label.printed` or `label.failed` names it again.
        job: u64,
        /// The template.
        label: LabelId,
        /// Of its text.
        revision: u64,
        printer: PrinterName,
        /// It says of itself that it is not the first.
        reprint: bool,
        /// The session does not pass without it.
        required: bool,
        /// Then it is given up.
        expires_at: Timestamp,
        /// Who asked, where it was not the project.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
    },
    /// The printer has taken it.
    #[serde(rename = "label.printed")]
    LabelPrinted {
        #[serde(flatten)]
        device: DeviceRef,
        /// As `label.queued` has named it.
        job: u64,
        /// The template.
        label: LabelId,
        printer: PrinterName,
        /// It says of itself that it is not the first.
        reprint: bool,
        /// The end of what a command has said.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        output: Option<String>,
    },
    /// It will not be printed any more.
    #[serde(rename = "label.failed")]
    LabelFailed {
        #[serde(flatten)]
        device: DeviceRef,
        /// As `label.queued` has named it; none where it was never queued.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        job: Option<u64>,
        /// The template.
        label: LabelId,
        /// If one was named.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        printer: Option<PrinterName>,
        /// Why, for programs: `label.expired`, `label.template`, `label.no_printer`, ..
        code: String,
        /// Why, for people.
        detail: String,
        /// What to do about it, for the operator.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        advice: Option<String>,
    },

    /// The rules that hold from now on, all of them.
    #[serde(rename = "rules.changed")]
    RulesChanged {
        /// Rises by one with every change; `if_match` compares it.
        revision: u64,
        /// In the order in which they are asked; the first that takes a device wins.
        rules: Vec<Rule>,
    },

    /// Audit: who asked for what, and what was answered.
    #[serde(rename = "command.completed")]
    CommandCompleted {
        /// Of the request; made by the station where the request had none.
        command_id: String,
        /// Of the command: `project.create`.
        name: String,
        /// Who says that he asked: `{type, id}` of the request; recorded, never trusted.
        #[schemars(with = "Actor")]
        actor: Value,
        /// How it came: `rest`, `mqtt` or `nats`.
        transport: String,
        /// `succeeded`, or `accepted` for long work.
        status: String,
        /// Of the reply, as in HTTP.
        code: u16,
        /// Of the request.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        correlation_id: Option<String>,
        /// Code of the error, where there was one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        error: Option<String>,
    },
}
