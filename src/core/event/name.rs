//! What an event is called, which device it is about, and where it goes.

use crate::core::event::{DeviceRef, Event};
use crate::core::label::Label;
use crate::core::script::Script;

/// What the topic and the subject of an event are made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// `device`, `project`, `image`, `firmware`, `rule`, `script`, `label`, `slot`, `station`, `command`.
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
            Self::EventsLost { .. } => "events.lost",
            Self::EventsDeadlettered { .. } => "events.deadlettered",
            Self::StationDrained { .. } => "station.drained",
            Self::StationResumed { .. } => "station.resumed",
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
            Self::DeviceLocated { .. } => "device.located",
            Self::DeviceAssigned { .. } => "device.assigned",
            Self::DeviceUnassigned { .. } => "device.unassigned",
            Self::SlotQuarantined { .. } => "slot.quarantined",
            Self::SlotReleased { .. } => "slot.released",
            Self::SlotPowerRequested { .. } => "slot.power.requested",
            Self::SlotPowered { .. } => "slot.powered",
            Self::SlotPowerFailed { .. } => "slot.power.failed",
            Self::ScriptAdded(_) => "script.added",
            Self::ScriptRemoved { .. } => "script.removed",
            Self::LabelAdded(_) => "label.added",
            Self::LabelRemoved { .. } => "label.removed",
            Self::LabelQueued { .. } => "label.queued",
            Self::LabelPrinted { .. } => "label.printed",
            Self::LabelFailed { .. } => "label.failed",
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
            | Self::DeviceLocated { device, .. }
            | Self::DeviceAssigned { device, .. }
            | Self::DeviceUnassigned { device, .. }
            | Self::LabelQueued { device, .. }
            | Self::LabelPrinted { device, .. }
            | Self::LabelFailed { device, .. } => Some(device),
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
            Self::LabelAdded(Label { id: label, .. })
            | Self::LabelRemoved { label }
            | Self::LabelQueued { label, .. }
            | Self::LabelPrinted { label, .. }
            | Self::LabelFailed { label, .. } => ("label", label.to_string()),
            Self::SlotQuarantined { slot, .. }
            | Self::SlotReleased { slot, .. }
            | Self::SlotPowerRequested { slot, .. }
            | Self::SlotPowered { slot, .. }
            | Self::SlotPowerFailed { slot, .. } => ("slot", slot.to_string()),
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
