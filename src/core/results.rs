//! The short answers of commands, which the core makes in place: their shapes, for the schemas and for `OpenAPI`.

use schemars::JsonSchema;

use crate::core::delivery::Drained;
use crate::core::device::Mac;
use crate::core::label::{LabelId, PrinterName};
use crate::core::plan::{SessionId, StepName};
use crate::core::project::ProjectId;
use crate::core::script::{VariableName, Variables};
use crate::core::session::Outcome;
use crate::core::shown::{DeviceShown, SessionShown};
use crate::core::slot::{PowerAction, SlotName, SwitchPort};
use crate::core::time::Timestamp;

/// What waits for the printer now.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct LabelQueued {
    /// `label.printed` or `label.failed` names it.
    job: u64,
    label: LabelId,
    printer: PrinterName,
}

/// What the switch is going to be asked for.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct PowerAsked {
    slot: SlotName,
    action: PowerAction,
    port: SwitchPort,
}

/// What is known of the device.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct OneDevice {
    device: DeviceAndSession,
}

/// A device, and its session.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
struct DeviceAndSession {
    #[serde(flatten)]
    device: DeviceShown,
    /// The one that runs.
    session: Option<SessionShown>,
}

/// One more attempt is allowed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Authorized {
    device: Mac,
    /// `true`
    authorized: bool,
}

/// The session is over.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Aborted {
    device: Mac,
    session: SessionId,
    /// `aborted`
    outcome: Outcome,
}

/// What is assigned to the device now.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Assigned {
    device: Mac,
    /// The one that it gets whatever the rules say.
    project: Option<ProjectId>,
    /// What it is told of itself.
    variables: Variables,
    /// The names of what it is told in secret.
    secrets: Vec<VariableName>,
}

/// Nothing is assigned to the device.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Unassigned {
    device: Mac,
    /// Always null.
    project: (),
}

/// What is going to be taken in.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct FirmwareRequested {
    /// That it is to have in the library.
    name: String,
    /// Below the import folder of the station.
    path: String,
}

/// The station begins no new sessions.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct NowDrained {
    /// Since when, and by whom.
    drained: Drained,
    /// Sessions that still run.
    open_sessions: u64,
}

/// The station begins new sessions.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Resumed {
    /// Always null.
    drained: (),
}

/// What was given up.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Discarded {
    /// Of which bus.
    sink: String,
    /// How many.
    discarded: u64,
}

/// What shows which one it is.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[expect(dead_code, reason = "it is there for the schema")]
enum Sign {
    /// LEDs of the device: it blinks.
    Led,
    /// The LED of its port, which goes off and on with its power.
    Port,
}

/// It shows which one it is.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct Identified {
    device: Mac,
    /// By what; older stations do not say so, and know `led` alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    by: Option<Sign>,
    /// Of `led`: the one that runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<SessionId>,
    /// Of `led`: what it does meanwhile.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<StepName>,
    /// Of `led`: for so long.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds: Option<u16>,
    /// Of `led`: until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    until: Option<Timestamp>,
    /// Of `port`: its place.
    #[serde(skip_serializing_if = "Option::is_none")]
    slot: Option<SlotName>,
    /// Of `port`: `cycle`.
    #[serde(skip_serializing_if = "Option::is_none")]
    action: Option<PowerAction>,
    /// Of `port`: which one. Then `slot.powered` or `slot.power.failed` is said.
    #[serde(skip_serializing_if = "Option::is_none")]
    port: Option<SwitchPort>,
}
