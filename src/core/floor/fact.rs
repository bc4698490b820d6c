//! What follows from an input, and which rows it changes.

use std::net::Ipv4Addr;

use crate::core::boot::Fetched;
use crate::core::delivery::Sink;
use crate::core::device::{BootIdentity, Mac};
use crate::core::event::Event;
use crate::core::floor::Doubt;
use crate::core::image::{Digest, Keeping, ZeroMap};
use crate::core::job::Job;
use crate::core::label::{Label, LabelId};
use crate::core::observation::{Reported, Vitals};
use crate::core::plan::{SessionId, Token};
use crate::core::project::ProjectId;
use crate::core::script::{DeviceData, Script, ScriptId};
use crate::core::time::Timestamp;
use crate::core::timeline::Moment;
use crate::core::token::AccessToken;

/// Two kinds of facts: those that everyone hears of, and those that only the ledger keeps.
#[derive(Clone, Debug, PartialEq)]
pub enum Fact {
    Event(Box<Event>),
    Note(Note),
}

/// A private fact: a row without a sequence number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    Leased {
        mac: Mac,
        address: Ipv4Addr,
        until: Timestamp,
    },
    Released {
        mac: Mac,
        address: Ipv4Addr,
    },
    Quarantined {
        address: Ipv4Addr,
        until: Timestamp,
    },
    /// Somebody says that the address of a tenant is theirs; in memory only.
    Contested {
        address: Ipv4Addr,
        by: Option<Mac>,
    },
    /// Nobody says so any more.
    Settled {
        address: Ipv4Addr,
    },
    /// What a device says of itself is at odds with what is known.
    Doubted {
        doubt: Doubt,
        mac: Mac,
    },
    /// It is not any more.
    Trusted {
        doubt: Doubt,
        mac: Mac,
    },
    /// A boot client showed itself by option 97.
    BootSeen {
        mac: Mac,
        identity: BootIdentity,
        circuit: Option<String>,
    },
    /// Secret, so not in the event that begins the session.
    TokenIssued {
        session: SessionId,
        token: Token,
    },
    /// What a device is told of itself; some of it is secret.
    DataAssigned {
        mac: Mac,
        data: DeviceData,
    },
    /// The same, for its session.
    DataIssued {
        session: SessionId,
        data: DeviceData,
    },
    /// The text of a script, too long for an event.
    ScriptText {
        script: ScriptId,
        revision: u64,
        text: String,
    },
    /// The text of a label, too long for an event.
    LabelText {
        label: LabelId,
        revision: u64,
        text: String,
    },
    /// What a script of a session has printed.
    ScriptOutput {
        session: SessionId,
        script: ScriptId,
        text: String,
        truncated: bool,
    },
    /// Rows of the device's timeline.
    Timeline {
        mac: Mac,
        moments: Vec<Moment>,
    },
    /// Boot files, for the sum of the boot.
    Fetched {
        mac: Mac,
        files: Fetched,
    },
    /// Lines of the bootloader's text, for their bound.
    ConsoleHeard {
        mac: Mac,
        lines: u32,
    },
    /// Something in a boot that did not stop it and may explain what comes later.
    BootWarned {
        mac: Mac,
        session: Option<SessionId>,
        text: String,
    },
    /// The device of the session is to blink until then; in memory only.
    Identify {
        session: SessionId,
        until: Timestamp,
    },
    /// A report for a session that had ended; recorded, and nothing changes.
    LateReport {
        session: SessionId,
        what: Reported,
    },
    /// What an EEPROM image with this `bootconf.txt` hashes to.
    FirmwareEdited {
        firmware: Digest,
        bootconf: String,
        sha256: Digest,
    },
    CursorMoved {
        sink: String,
        seq: u64,
    },
    /// The number of the newest Sparkplug connection.
    BirthCounted {
        number: u8,
    },
    /// A reply of the outbox is where it should be.
    ReplyDelivered {
        n: u64,
    },
    /// Whether a sink is wanted, and how it fares.
    SinkSet {
        name: String,
        sink: Sink,
    },
    /// A sink will never take this event.
    DeadLetter {
        sink: String,
        seq: u64,
        reason: String,
    },
    /// It was sent after all, or given up.
    DeadLetterGone {
        sink: String,
        seq: u64,
    },
    /// The journal begins after this event.
    JournalPruned {
        through: u64,
    },
    /// What the journal takes; in memory only.
    JournalMeasured {
        bytes: u64,
    },
    /// Answers to commands that were received before are forgotten.
    InboxAged {
        before: Timestamp,
    },
    /// Made, taken back or used; it holds a hash, so it is no event.
    Token(Box<AccessToken>),
    /// Where a job on an image stands.
    Job(Box<Job>),
    Kept {
        image: Digest,
        keeping: Box<Keeping>,
    },
    Zeros {
        image: Digest,
        zeros: ZeroMap,
    },
    /// How far work on an image is; in memory only.
    Progress {
        image: Digest,
        done: u64,
        total: u64,
    },
    /// A sign of life; in memory only.
    Sign {
        session: SessionId,
    },
    /// The device says how far its step is; in memory only.
    Pulse {
        session: SessionId,
        bytes: u64,
    },
    /// How the image response goes; in memory only.
    Flow {
        session: SessionId,
        bytes: u64,
        open: u32,
    },
}

impl Fact {
    /// How the device was when it failed, if it says so.
    pub(super) fn with_vitals(mut self, said: &Vitals) -> Self {
        if let Self::Event(event) = &mut self
            && let Event::DeviceFailed { vitals, .. } = event.as_mut()
        {
            vitals.clone_from(said);
        }
        self
    }
}

impl From<Event> for Fact {
    fn from(event: Event) -> Self {
        Self::Event(Box::new(event))
    }
}

impl From<Note> for Fact {
    fn from(note: Note) -> Self {
        Self::Note(note)
    }
}

/// The rows that a fact changes: the tables are written from the floor as it stands after.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub device: Option<Mac>,
    pub session: Option<SessionId>,
    pub project: Option<ProjectId>,
    pub image: Option<Digest>,
    pub firmware: Option<Digest>,
    pub alarm: Option<String>,
    pub rules: bool,
    pub script: Option<ScriptId>,
    pub slots: bool,
    pub label: Option<LabelId>,
    /// A row of a printer's queue.
    pub label_job: Option<u64>,
    /// Whether the station takes new devices.
    pub drained: bool,
}

impl Fact {
    pub fn touches(&self) -> Touched {
        let nothing = Touched::default();
        match self {
            Self::Event(event) => match event.as_ref() {
                Event::ImageAdded(image) => Touched { image: Some(image.id), ..nothing },
                Event::ImageRemoved { image, .. } => Touched { image: Some(*image), ..nothing },
                Event::FirmwareAdded(firmware) => Touched { firmware: Some(firmware.id), ..nothing },
                Event::FirmwareRemoved { firmware, .. } => Touched { firmware: Some(*firmware), ..nothing },
                Event::ProjectCreated(project) | Event::ProjectUpdated(project) => {
                    Touched { project: Some(project.id.clone()), ..nothing }
                }
                Event::ProjectActivated { project, .. }
                | Event::ProjectDeactivated { project, .. }
                | Event::ProjectDeleted { project } => Touched { project: Some(project.clone()), ..nothing },
                Event::ScriptAdded(Script { id, .. }) | Event::ScriptRemoved { script: id } => {
                    Touched { script: Some(id.clone()), ..nothing }
                }
                Event::LabelAdded(Label { id, .. }) | Event::LabelRemoved { label: id } => {
                    Touched { label: Some(id.clone()), ..nothing }
                }
                Event::LabelQueued { job, .. }
                | Event::LabelPrinted { job, .. }
                | Event::LabelFailed { job: Some(job), .. } => Touched { label_job: Some(*job), ..nothing },
                Event::LabelFailed { job: None, .. } => nothing,
                Event::RulesChanged { .. } => Touched { rules: true, ..nothing },
                Event::SlotQuarantined { .. }
                | Event::SlotReleased { .. }
                | Event::SlotPowered { .. }
                | Event::SlotPowerFailed { .. } => Touched { slots: true, ..nothing },
                Event::SlotPowerRequested { device, .. } => Touched { slots: true, device: *device, ..nothing },
                Event::StationDrained { .. } | Event::StationResumed { .. } => Touched { drained: true, ..nothing },
                Event::AlarmRaised { code, .. } | Event::AlarmCleared { code } => {
                    Touched { alarm: Some(code.clone()), ..nothing }
                }
                _ => match event.device() {
                    Some(device) => Touched {
                        device: Some(device.mac),
                        session: device.session,
                        slots: device.slot.is_some(),
                        ..nothing
                    },
                    None => nothing,
                },
            },
            Self::Note(Note::BootSeen { mac, .. } | Note::Fetched { mac, .. } | Note::ConsoleHeard { mac, .. }) => {
                Touched { device: Some(*mac), ..nothing }
            }
            Self::Note(Note::BootWarned { mac, session, .. }) => {
                Touched { device: Some(*mac), session: *session, ..nothing }
            }
            Self::Note(Note::DataAssigned { mac, .. }) => Touched { device: Some(*mac), ..nothing },
            Self::Note(Note::TokenIssued { session, .. } | Note::DataIssued { session, .. }) => {
                Touched { session: Some(*session), ..nothing }
            }
            Self::Note(_) => nothing,
        }
    }
}
