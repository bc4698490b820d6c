//! What replies hold that the core makes in place: a thing or a list under its name, and the short answers. Real traffic
//! is checked against them.

use schemars::JsonSchema;

use crate::core::delivery::Drained;
use crate::core::device::Mac;
use crate::core::firmware::Firmware;
use crate::core::image::Image;
use crate::core::label::{Label, LabelId, PrinterName};
use crate::core::plan::SessionId;
use crate::core::project::{Project, ProjectId};
use crate::core::script::{Script, VariableName, Variables};
use crate::core::session::Outcome;
use crate::core::shown::{DeviceShown, JobShown, ListedImage, SessionShown, SlotShown};
use crate::core::slot::{PowerAction, SlotName, SwitchPort};

/// Stands alone under this name.
pub trait OneOf: JsonSchema {
    const FIELD: &'static str;
}

/// Stands in a list under this name.
pub trait ListOf: JsonSchema {
    const FIELD: &'static str;
}

impl OneOf for Project {
    const FIELD: &'static str = "project";
}

impl OneOf for Image {
    const FIELD: &'static str = "image";
}

impl OneOf for Firmware {
    const FIELD: &'static str = "firmware";
}

impl OneOf for Script {
    const FIELD: &'static str = "script";
}

impl OneOf for Label {
    const FIELD: &'static str = "label";
}

impl OneOf for JobShown {
    const FIELD: &'static str = "job";
}

impl ListOf for Project {
    const FIELD: &'static str = "projects";
}

impl ListOf for ListedImage {
    const FIELD: &'static str = "images";
}

impl ListOf for Firmware {
    const FIELD: &'static str = "firmware";
}

impl ListOf for Script {
    const FIELD: &'static str = "scripts";
}

impl ListOf for Label {
    const FIELD: &'static str = "labels";
}

impl ListOf for SlotShown {
    const FIELD: &'static str = "slots";
}

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

/// Whether the station begins new sessions.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is there for the schema")]
pub struct DrainedOrNot {
    /// Since when, and by whom; null when it does.
    drained: Option<Drained>,
    /// Sessions that still run.
    #[serde(default)]
    open_sessions: Option<u64>,
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
