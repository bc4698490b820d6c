//! What a device, a person or the clock was seen to do: the one way into the core.

use std::net::Ipv4Addr;

use crate::core::command::{Actor, Command, CommandId, Transport};
use crate::core::delivery::{Extent, SinkState};
use crate::core::device::{BootIdentity, Facts, Mac, Serial};
use crate::core::firmware::{Firmware, FirmwareSeen};
use crate::core::image::{Digest, Form, Image, ZeroMap};
use crate::core::job::Job;
use crate::core::plan::{SessionId, Token};
use crate::core::refusal::Refusal;
use crate::core::script::{ScriptId, ScriptRun};
use crate::core::session::StepName;
use crate::core::slot::{PowerAction, SlotName, SwitchPort};
use crate::core::time::Timestamp;
use crate::core::token::TokenName;

/// Everything that can happen to a station.
#[expect(clippy::large_enum_variant, reason = "nearly all inputs are observations")]
#[derive(Clone, Debug)]
pub enum Input {
    Observed(Observation),
    Commanded(Box<Command>),
    /// Once a second: passed deadlines become events.
    Tick,
}

#[derive(Clone, Debug)]
pub enum Observation {
    /// The agent is up; it says so before it serves anyone.
    StationStarted {
        version: String,
    },
    StationStopping {
        reason: String,
    },
    Dhcp(DhcpAsk),
    DhcpReleased {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// The client found that somebody else has the address.
    DhcpDeclined {
        mac: Mac,
        address: Ipv4Addr,
    },
    /// Somebody else was heard to have an address of the pool.
    AddressInUse {
        address: Ipv4Addr,
        by: Mac,
    },
    /// Boot files that one address has asked for, batched to one input a second.
    BootFiles {
        address: Ipv4Addr,
        files: Vec<FileServed>,
    },
    /// What a bootloader wrote to the network (`NETCONSOLE`), batched to one input a second.
    ConsoleText {
        mac: Mac,
        lines: Vec<ConsoleLine>,
    },
    ScriptAsked(Box<ScriptAsk>),
    Reported(Report),
    ScriptOutput(Box<ScriptOutput>),
    /// Bytes written or read by the device's running step; telemetry, never an event.
    Progressed {
        session: SessionId,
        token: Token,
        step: StepName,
        bytes: u64,
    },
    /// The station's side of an image response: bytes handed to the socket so far, and how many responses are open.
    ImageFlow {
        session: SessionId,
        bytes: u64,
        open: u32,
    },
    /// The library has taken an image in whole: hashed, decoded, on disk.
    ImageIngested(Image),
    /// The file of an image is here in whole; what is inside is looked at next.
    /// Work on a job begins, or goes on after a restart.
    JobBegun {
        job: CommandId,
    },
    /// How far the work on a job is; telemetry, never an event.
    JobProgressed {
        job: CommandId,
        done: u64,
        total: u64,
    },
    /// A Sparkplug connection is about to be made, with this number.
    BirthCounted {
        number: u8,
    },
    /// The broker has the last reply of this number in the outbox.
    ReplyDelivered {
        n: u64,
    },
    ImageStored(Box<Job>),
    /// Fetching an image, or looking at one, came to nothing.
    JobFailed {
        job: CommandId,
        refusal: Refusal,
    },
    /// How far looking at an image is, or making another form of it.
    ImageProgress {
        image: Digest,
        done: u64,
        total: u64,
    },
    /// The file of an image was measured or read again.
    ImageChecked {
        image: Digest,
        damage: Option<String>,
    },
    ZerosFound {
        image: Digest,
        zeros: ZeroMap,
    },
    /// Another form of an image is there to be served.
    FormMade {
        image: Digest,
        form: Form,
    },
    /// Another form of an image is to go.
    FormDropped {
        image: Digest,
    },
    /// The library would not take it.
    ImageRejected {
        name: String,
        code: String,
        detail: String,
        sha256: Option<Digest>,
    },
    /// The library has taken in an EEPROM image.
    FirmwareIngested(Firmware),
    /// The library would not take it.
    FirmwareRejected {
        name: String,
        code: String,
        detail: String,
        sha256: Option<Digest>,
    },
    /// What an EEPROM image with another `bootconf.txt` hashes to.
    FirmwareEdited {
        firmware: Digest,
        bootconf: String,
        sha256: Digest,
    },
    /// Switches were asked where a device is.
    Located(Located),
    /// Power of a place was switched, or could not be.
    PowerDone(PowerDone),
    /// When tokens were last shown, batched to one input a minute.
    TokensUsed(Vec<(TokenName, Timestamp)>),
    /// Something was asked for that is no command, such as an upload.
    Done(Deed),
    /// A printer has taken a label.
    LabelPrinted {
        job: u64,
        output: Option<String>,
    },
    /// A label that can never be printed.
    LabelFailed {
        job: u64,
        code: String,
        detail: String,
    },
    /// A follower has dealt with the journal up to here: its cursor.
    Delivered {
        sink: String,
        seq: u64,
    },
    /// The buses that the configuration turns on; all others are off.
    SinksNamed {
        names: Vec<String>,
    },
    SinkChanged {
        sink: String,
        state: SinkState,
        reason: Option<String>,
    },
    /// A sink will never take this event; `name` is its type.
    DeadLettered {
        sink: String,
        seq: u64,
        name: String,
        reason: String,
    },
    /// A dead letter was sent again, and taken.
    Redelivered {
        sink: String,
        seq: u64,
    },
    JournalMeasured(Extent),
    /// Answers to commands from before need not be kept.
    InboxAged {
        before: Timestamp,
    },
    /// How far a replay is.
    ReplayMoved {
        job: CommandId,
        reached: u64,
        sent: u64,
    },
    ReplayEnded {
        job: CommandId,
        sent: u64,
    },
    /// A follower met something that somebody must act on. Raised once until it is cleared.
    AlarmRaised {
        code: String,
        detail: String,
    },
    AlarmCleared {
        code: String,
    },
}

/// Where switches see a device: at one port, at several, or nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    pub mac: Mac,
    pub ports: Vec<SwitchPort>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PowerDone {
    pub slot: SlotName,
    pub action: PowerAction,
    pub by: String,
    /// Why it was not done.
    pub fault: Option<String>,
}

/// For the audit: who did what beside the commands.
#[derive(Clone, Debug)]
pub struct Deed {
    pub id: CommandId,
    /// `image.upload`
    pub name: String,
    pub actor: Actor,
    pub transport: Transport,
    /// As in HTTP.
    pub code: u16,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DhcpKind {
    Discover,
    /// With the server identifier of this station, or without one (renewal, INIT-REBOOT).
    Request,
    Inform,
    /// At the port of a boot server (4011): it has an address, and wants to know what to load.
    BootServer,
}

#[derive(Clone, Debug)]
pub struct DhcpAsk {
    pub kind: DhcpKind,
    pub mac: Mac,
    /// Present when option 97 shows a Raspberry Pi.
    pub identity: Option<BootIdentity>,
    /// Where its cable is, as the switch or relay agent says it.
    pub circuit: Option<String>,
    /// Option 50, or `ciaddr` of a renewal.
    pub requested: Option<Ipv4Addr>,
    /// True when the configuration says that this client is served whatever it is.
    pub anyone: bool,
    /// Another server gives the addresses; this station says only where to boot from.
    pub proxy: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileServed {
    pub name: String,
    pub bytes: u64,
    pub result: FileResult,
    pub at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileResult {
    Sent,
    Missing,
    /// The client looked whether the file is there and hung up.
    Probed,
    /// The client hung up or vanished in the middle.
    Aborted,
}

impl FileResult {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Missing => "missing",
            Self::Probed => "probed",
            Self::Aborted => "aborted",
        }
    }
}

/// One line of a bootloader: printable, and not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsoleLine {
    pub at: Timestamp,
    pub text: String,
}

#[derive(Clone, Debug)]
pub struct ScriptAsk {
    pub serial: Serial,
    /// Empty in the query of some devices: then the lease of the calling address names it.
    pub mac: Option<Mac>,
    pub address: Ipv4Addr,
    pub facts: Facts,
    /// Made by the adapter, because the core has no dice; used if a session begins.
    pub fresh_session: SessionId,
    pub fresh_token: Token,
}

/// What a script of a session has printed.
#[derive(Clone, Debug)]
pub struct ScriptOutput {
    pub session: SessionId,
    pub token: Token,
    pub script: ScriptId,
    pub text: String,
    /// There was more.
    pub truncated: bool,
}

#[derive(Clone, Debug)]
pub struct Report {
    pub session: SessionId,
    pub token: Token,
    pub what: Reported,
    pub vitals: Vitals,
}

/// How the device was at the end of its work, as far as it says so.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Vitals {
    /// As in the facts: `51.0'C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature_after: Option<String>,
    /// What its Ethernet port has agreed on, in Mbit/s: 1000 with all four pairs of the cable, 100 with two.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_mbps: Option<u32>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reported {
    StepStarted {
        step: StepName,
    },
    StepCompleted {
        step: StepName,
        evidence: Evidence,
    },
    StepFailed {
        step: StepName,
        code: String,
        detail: String,
    },
    /// All steps are done and the device has nothing more to do.
    Finished,
}

/// What a completed step can show for itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Evidence {
    pub bytes: Option<u64>,
    pub sha256: Option<Digest>,
    pub cache: Option<Cache>,
    /// Of the firmware step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwareSeen>,
    /// Of a step of scripts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub scripts: Vec<ScriptRun>,
    /// Things that were not there and did not stop the step.
    pub warnings: Vec<String>,
}

/// How the medium was read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Cache {
    /// The page cache was emptied before.
    Dropped,
    /// Read past the cache (`O_DIRECT`).
    Direct,
    /// The bytes may have come from memory: no proof on a block device.
    NotDropped,
}
