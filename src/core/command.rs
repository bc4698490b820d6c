//! What an operator or the ERP asks for: one envelope and one parser behind REST, MQTT and NATS.

mod firmware;
mod identify;
mod label;
mod mode;
mod project;
mod script;
mod slot;

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::core::delivery::{EventsDiscard, EventsReplay, StationDrain};
use crate::core::device::{Mac, Revision, Serial};
use crate::core::job::{ImageAdd, JobName};
use crate::core::params::read;
use crate::core::project::ProjectId;
use crate::core::refusal::Refusal;
use crate::core::role::Caller;
use crate::core::rule::Rule;
use crate::core::slot::SlotName;
use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;
use crate::core::token::{TokenCreate, TokenRevoke};

pub use crate::core::command::firmware::{FirmwareAdd, FirmwareName, FirmwareWish};
pub use crate::core::command::identify::DeviceIdentify;
pub use crate::core::command::label::{LabelName, LabelPrint, LabelPut};
pub use crate::core::command::mode::{is_job, is_read};
pub use crate::core::command::project::{ImageRef, ProjectCreate, ProjectUpdate, SizedImageRef};
pub use crate::core::command::script::{DeviceAssign, ScriptName, ScriptPut};
pub use crate::core::command::slot::{SlotPower, SlotWord};
pub use crate::core::reply::{Problem, Reply, ReplyTo, Status};

/// The largest request, in bytes.
pub const MAX_REQUEST: usize = 64 * 1024;
/// How long a request without `expires_at` may be carried out.
const DEFAULT_EXPIRY: Duration = Duration::from_secs(3600);
/// How far ahead `expires_at` may lie.
pub const MAX_EXPIRY: Duration = Duration::from_secs(7 * 24 * 3600);

/// The id of an actor of whom nothing is known.
const ANONYMOUS: &str = "anonymous";

/// Names one request for good: `[A-Za-z0-9_-]{8,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId(String);

impl CommandId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for CommandId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() >= 8 && crate::core::text::is_segment(text) {
            Ok(Self(text.to_owned()))
        } else {
            Err(format!("not a command id [A-Za-z0-9_-]{{8,64}}: {text:?}"))
        }
    }
}

serde_by_text!(CommandId);

/// Who says that he asks. Recorded, never trusted; but `token` is proven, and what its bearer says of himself then
/// stands in `claims`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Actor {
    /// `user`, `system`, `erp` or what you like.
    #[serde(rename = "type")]
    pub kind: String,
    /// Of him: a login, a service.
    pub id: String,
    /// What the bearer of a token says of himself.
    #[serde(default, skip_deserializing, skip_serializing_if = "Option::is_none")]
    pub claims: Option<Box<Self>>,
}

impl Actor {
    fn new(kind: &str, id: &str) -> Self {
        Self { kind: kind.to_owned(), id: id.to_owned(), claims: None }
    }

    pub fn anonymous(transport: Transport) -> Self {
        Self::new(transport.as_str(), ANONYMOUS)
    }

    /// Nobody but the station says that somebody has shown a token.
    pub fn proven(self, caller: &Caller, transport: Transport) -> Self {
        let claims = |claimed: Self| (claimed.id != ANONYMOUS).then(|| Box::new(claimed));
        match &caller.token {
            Some(token) => Self { claims: claims(self), ..Self::new("token", token) },
            None if self.kind == "token" => Self { claims: claims(self), ..Self::anonymous(transport) },
            None => self,
        }
    }
}

/// On which way a command came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    Rest,
    Mqtt,
    Nats,
}

impl Transport {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rest => "rest",
            Self::Mqtt => "mqtt",
            Self::Nats => "nats",
        }
    }
}

/// What the way in adds to the body of a request.
#[derive(Clone, Debug)]
pub struct Envelope<'a> {
    /// From the topic, the subject or the path: `project.create`.
    pub name: Option<&'a str>,
    /// From an `Idempotency-Key` header.
    pub id: Option<&'a str>,
    /// Used when the request names none; the request is then not idempotent.
    pub minted_id: CommandId,
    pub transport: Transport,
    pub now: Timestamp,
}

/// The body of a request, as `contract.md` §5 writes it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Request {
    /// Version of this envelope: 1.
    #[serde(default)]
    #[schemars(range(min = 1, max = 1))]
    v: Option<u64>,
    /// Chosen by you, once for each intent: the same id again gets the stored reply and does nothing. Left out, the
    /// station makes one, and a repetition is a second request.
    #[serde(default)]
    #[schemars(with = "Option<CommandId>")]
    command_id: Option<String>,
    /// Of the command; may be left out where the topic or the path says it.
    #[serde(default)]
    name: Option<String>,
    /// When it was asked.
    #[serde(default)]
    #[schemars(with = "Option<Timestamp>")]
    issued_at: Option<String>,
    /// Later it is not carried out (410); at most 7 days ahead, one hour after `issued_at` where it is left out.
    #[serde(default)]
    #[schemars(with = "Option<Timestamp>")]
    expires_at: Option<String>,
    /// Who asks.
    #[serde(default)]
    actor: Option<Actor>,
    /// Your own reference, such as an order; comes back in the reply and in every event that follows.
    #[serde(default)]
    correlation_id: Option<String>,
    /// The revision that is to be changed; another one is refused (412).
    #[serde(default)]
    if_match: Option<u64>,
    /// Says what would be done and does nothing.
    #[serde(default)]
    dry_run: bool,
    /// Where the reply goes on MQTT, if the message has no response topic: below `{root}/bootline/v1/_reply/`.
    // Read by the bus before it answers; part of the envelope, not of the order.
    #[serde(default, rename = "reply_to")]
    #[schemars(length(max = 256))]
    _reply_to: Option<String>,
    /// Of the command.
    #[serde(default)]
    params: Map<String, Value>,
}

/// A request that was understood.
#[derive(Clone, Debug)]
pub struct Command {
    pub id: CommandId,
    /// The requester chose the id, so the same id again gets the stored reply.
    pub idempotent: bool,
    pub name: String,
    pub actor: Actor,
    pub transport: Transport,
    pub expires_at: Timestamp,
    pub correlation_id: Option<String>,
    /// Where the last reply to long work goes, on a bus.
    pub reply_to: Option<ReplyTo>,
    pub if_match: Option<u64>,
    pub dry_run: bool,
    pub order: Order,
    /// Name, params, `if_match`, `dry_run` in canonical form: what "the same content" means.
    pub content: String,
}

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    ProjectCreate(ProjectCreate),
    ProjectUpdate(ProjectUpdate),
    ProjectActivate(ProjectName),
    ProjectDeactivate(ProjectName),
    ProjectDelete(ProjectName),
    ProjectGet(ProjectName),
    ProjectList,
    ImageList,
    ImageAdd(ImageAdd),
    ImageDelete(ImageName),
    FirmwareList,
    FirmwareAdd(FirmwareAdd),
    FirmwareDelete(FirmwareName),
    JobCancel(JobName),
    DeviceGet(DeviceName),
    DeviceAuthorize(DeviceName),
    DeviceAbort(DeviceName),
    DeviceAssign(DeviceAssign),
    DeviceUnassign(DeviceName),
    DevicePowerCycle(DeviceName),
    SlotList,
    SlotPower(SlotPower),
    SlotRelease(SlotWord),
    DeviceIdentify(DeviceIdentify),
    ScriptPut(ScriptPut),
    ScriptDelete(ScriptName),
    ScriptList,
    LabelPut(LabelPut),
    LabelDelete(LabelName),
    LabelList,
    LabelPrint(LabelPrint),
    RulesSet(RulesSet),
    RulesGet,
    RulesTest(RulesTest),
    StationInfo,
    StationDrain(StationDrain),
    StationResume,
    EventsReplay(EventsReplay),
    EventsDiscard(EventsDiscard),
    TokenCreate(TokenCreate),
    TokenRevoke(TokenRevoke),
    TokenList,
}

/// The commands of this version, as `state/info` announces them.
pub const NAMES: [&str; 42] = [
    "project.create",
    "project.update",
    "project.activate",
    "project.deactivate",
    "project.delete",
    "project.get",
    "project.list",
    "image.list",
    "image.add",
    "image.delete",
    "firmware.list",
    "firmware.add",
    "firmware.delete",
    "job.cancel",
    "device.get",
    "device.authorize",
    "device.abort",
    "device.assign",
    "device.unassign",
    "device.power_cycle",
    "slot.list",
    "slot.power",
    "slot.release",
    "device.identify",
    "script.put",
    "script.delete",
    "script.list",
    "label.put",
    "label.delete",
    "label.list",
    "label.print",
    "rules.set",
    "rules.get",
    "rules.test",
    "station.info",
    "station.drain",
    "station.resume",
    "events.replay",
    "events.discard",
    "token.create",
    "token.revoke",
    "token.list",
];

/// The whole list: what was there before goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesSet {
    /// In the order in which they are asked; at most 200.
    pub rules: Vec<Rule>,
}

/// Which rule would take this device? What is not given is taken from what the station knows of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RulesTest {
    /// By its MAC; it need not have been seen.
    pub device: Mac,
    /// As if it had this serial.
    #[serde(default)]
    pub serial: Option<Serial>,
    /// As if its board had this revision code.
    #[serde(default)]
    pub revision: Option<Revision>,
    /// As if its storage had this size, in bytes.
    #[serde(default)]
    pub storage_bytes: Option<u64>,
    /// As if its jumpers were set so: three digits, 0 = set.
    #[serde(default)]
    pub jumper: Option<String>,
    /// As if its cable were there.
    #[serde(default)]
    pub circuit: Option<String>,
    #[serde(default)]
    pub slot: Option<SlotName>,
    /// In the place of the station's own: to try them out.
    #[serde(default)]
    pub rules: Option<Vec<Rule>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectName {
    /// By its id.
    pub project: ProjectId,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageName {
    /// By its SHA-256, or by a name that only one image has.
    pub image: ImageRef,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceName {
    /// Its MAC, in any usual form.
    pub device: Mac,
}

/// Such a command takes no params.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

impl Command {
    /// Reads a request. What is wrong with it is said with a JSON pointer, and nothing has happened.
    pub fn parse(body: &[u8], envelope: &Envelope<'_>) -> Result<Self, Refusal> {
        if body.len() > MAX_REQUEST {
            return Err(Refusal::new(
                413,
                "too_large",
                format!("a request of {} bytes; at most {MAX_REQUEST}", body.len()),
            ));
        }
        let body = if body.is_empty() { b"{}" } else { body };
        let request: Request =
            serde_json::from_slice(body).map_err(|error| Refusal::invalid("", format!("not a request: {error}")))?;
        if let Some(v) = request.v.filter(|v| *v != 1) {
            return Err(Refusal::new(
                400,
                "unsupported_version",
                format!("/v: version {v}; this station speaks version 1"),
            ));
        }
        let name = one_of("/name", request.name, envelope.name)?
            .ok_or_else(|| Refusal::invalid("/name", "which command? name is missing"))?;
        let given = one_of("/command_id", request.command_id, envelope.id)?;
        let idempotent = given.is_some();
        let id = match given {
            Some(text) => text.parse().map_err(|wrong: String| Refusal::invalid("/command_id", wrong))?,
            None => envelope.minted_id.clone(),
        };
        let issued = moment("/issued_at", request.issued_at)?.unwrap_or(envelope.now);
        let expires_at = moment("/expires_at", request.expires_at)?.unwrap_or_else(|| issued.plus(DEFAULT_EXPIRY));
        if expires_at > envelope.now.plus(MAX_EXPIRY) {
            return Err(Refusal::invalid("/expires_at", format!("{expires_at} is more than 7 days ahead")));
        }
        let order = Order::parse(&name, request.params.clone())?;
        let content = canonical(&json!({
            "name": name, "params": request.params, "if_match": request.if_match, "dry_run": request.dry_run,
        }));
        let actor = request.actor.unwrap_or_else(|| Actor::anonymous(envelope.transport));
        Ok(Self {
            id,
            idempotent,
            name,
            actor,
            transport: envelope.transport,
            expires_at,
            correlation_id: request.correlation_id,
            reply_to: None,
            if_match: request.if_match,
            dry_run: request.dry_run,
            order,
            content,
        })
    }
}

/// The fields of a request that a reply needs even when the rest of it is wrong.
#[derive(Clone, Debug, Default)]
pub struct Salutation {
    pub command_id: Option<CommandId>,
    /// Only one that there is.
    pub name: Option<&'static str>,
    pub correlation_id: Option<String>,
    pub reply_to: Option<String>,
}

impl Salutation {
    /// Reads what can be read; nothing of it is trusted.
    pub fn glean(body: &[u8]) -> Self {
        let Some(Value::Object(fields)) =
            (body.len() <= MAX_REQUEST).then(|| serde_json::from_slice(body).ok()).flatten()
        else {
            return Self::default();
        };
        let text = |name: &str| fields.get(name).and_then(Value::as_str).map(str::to_owned);
        Self {
            command_id: text("command_id").and_then(|id| id.parse().ok()),
            name: text("name").and_then(|name| NAMES.into_iter().find(|known| *known == name)),
            correlation_id: text("correlation_id"),
            reply_to: text("reply_to"),
        }
    }
}

/// A value may stand in the body or on the way (topic, header); where it stands twice, both must agree.
fn one_of(pointer: &str, body: Option<String>, way: Option<&str>) -> Result<Option<String>, Refusal> {
    match (body, way) {
        (Some(body), Some(way)) if body != way => {
            Err(Refusal::invalid(pointer, format!("the body says {body:?}, the way it came says {way:?}")))
        }
        (Some(body), _) => Ok(Some(body)),
        (None, way) => Ok(way.map(str::to_owned)),
    }
}

fn moment(pointer: &str, text: Option<String>) -> Result<Option<Timestamp>, Refusal> {
    text.map(|text| text.parse().map_err(|wrong: String| Refusal::invalid(pointer, wrong))).transpose()
}

/// RFC 8785: keys in the order of their UTF-16 units, no spaces, and one spelling of each number.
fn canonical(value: &Value) -> String {
    match value {
        Value::Object(fields) => {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|(a, _), (b, _)| a.encode_utf16().cmp(b.encode_utf16()));
            let inner: Vec<String> =
                sorted.iter().map(|(key, value)| format!("{}:{}", json!(key), canonical(value))).collect();
            format!("{{{}}}", inner.join(","))
        }
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Number(number) => whole(number).map_or_else(|| number.to_string(), |whole| whole.to_string()),
        _ => value.to_string(),
    }
}

/// `1.0` and `1e0` are `1`, as far as a double tells whole numbers apart.
fn whole(number: &serde_json::Number) -> Option<i64> {
    let value = number.as_f64().filter(|_| number.is_f64())?;
    // The bound makes the cast exact.
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    (value.fract() == 0.0 && value.abs() < 9_007_199_254_740_992.0).then_some(value as i64)
}

impl Order {
    fn parse(name: &str, params: Map<String, Value>) -> Result<Self, Refusal> {
        Ok(match name {
            "project.create" => Self::ProjectCreate(read(params)?),
            "project.update" => Self::ProjectUpdate(read(params)?),
            "project.activate" => Self::ProjectActivate(read(params)?),
            "project.deactivate" => Self::ProjectDeactivate(read(params)?),
            "project.delete" => Self::ProjectDelete(read(params)?),
            "project.get" => Self::ProjectGet(read(params)?),
            "project.list" => read::<Nothing>(params).map(|_| Self::ProjectList)?,
            "image.list" => read::<Nothing>(params).map(|_| Self::ImageList)?,
            "image.add" => Self::ImageAdd(read(params)?),
            "image.delete" => Self::ImageDelete(read(params)?),
            "firmware.list" => read::<Nothing>(params).map(|_| Self::FirmwareList)?,
            "firmware.add" => Self::FirmwareAdd(read(params)?),
            "firmware.delete" => Self::FirmwareDelete(read(params)?),
            "job.cancel" => Self::JobCancel(read(params)?),
            "device.get" => Self::DeviceGet(read(params)?),
            "device.authorize" => Self::DeviceAuthorize(read(params)?),
            "device.abort" => Self::DeviceAbort(read(params)?),
            "device.assign" => Self::DeviceAssign(read(params)?),
            "device.unassign" => Self::DeviceUnassign(read(params)?),
            "device.power_cycle" => Self::DevicePowerCycle(read(params)?),
            "slot.list" => read::<Nothing>(params).map(|_| Self::SlotList)?,
            "slot.power" => Self::SlotPower(read(params)?),
            "slot.release" => Self::SlotRelease(read(params)?),
            "device.identify" => Self::DeviceIdentify(read(params)?),
            "script.put" => Self::ScriptPut(read(params)?),
            "script.delete" => Self::ScriptDelete(read(params)?),
            "script.list" => read::<Nothing>(params).map(|_| Self::ScriptList)?,
            "label.put" => Self::LabelPut(read(params)?),
            "label.delete" => Self::LabelDelete(read(params)?),
            "label.list" => read::<Nothing>(params).map(|_| Self::LabelList)?,
            "label.print" => Self::LabelPrint(read(params)?),
            "rules.set" => Self::RulesSet(read(params)?),
            "rules.get" => read::<Nothing>(params).map(|_| Self::RulesGet)?,
            "rules.test" => Self::RulesTest(read(params)?),
            "station.info" => read::<Nothing>(params).map(|_| Self::StationInfo)?,
            "station.drain" => Self::StationDrain(read(params)?),
            "station.resume" => read::<Nothing>(params).map(|_| Self::StationResume)?,
            "events.replay" => Self::EventsReplay(read(params)?),
            "events.discard" => Self::EventsDiscard(read(params)?),
            "token.create" => Self::TokenCreate(read(params)?),
            "token.revoke" => Self::TokenRevoke(read(params)?),
            "token.list" => read::<Nothing>(params).map(|_| Self::TokenList)?,
            _ => return Err(Refusal::new(400, "unknown_command", format!("/name: there is no command {name:?}"))),
        })
    }

    /// Reading orders change nothing and leave no audit event.
    pub const fn reads_only(&self) -> bool {
        matches!(
            self,
            Self::ProjectGet(_)
                | Self::ProjectList
                | Self::ImageList
                | Self::FirmwareList
                | Self::DeviceGet(_)
                | Self::SlotList
                | Self::ScriptList
                | Self::LabelList
                | Self::RulesGet
                | Self::RulesTest(_)
                | Self::StationInfo
                | Self::TokenList
        )
    }

    /// What it is about has a revision, so that `if_match` says something.
    pub const fn is_revised(&self) -> bool {
        matches!(
            self,
            Self::ProjectUpdate(_)
                | Self::ProjectActivate(_)
                | Self::ProjectDeactivate(_)
                | Self::ProjectDelete(_)
                | Self::ProjectGet(_)
                | Self::ScriptPut(_)
                | Self::ScriptDelete(_)
                | Self::LabelPut(_)
                | Self::LabelDelete(_)
                | Self::RulesSet(_)
        )
    }

    /// Answered before it is done.
    pub const fn is_long(&self) -> bool {
        matches!(self, Self::FirmwareAdd(_) | Self::SlotPower(_) | Self::DevicePowerCycle(_))
    }

    /// The device that it is about.
    pub const fn device(&self) -> Option<Mac> {
        match self {
            Self::DeviceGet(name)
            | Self::DeviceAuthorize(name)
            | Self::DeviceAbort(name)
            | Self::DevicePowerCycle(name)
            | Self::DeviceUnassign(name) => Some(name.device),
            Self::DeviceAssign(assign) => Some(assign.device),
            Self::DeviceIdentify(wanted) => Some(wanted.device),
            Self::RulesTest(test) => Some(test.device),
            Self::LabelPrint(print) => print.device,
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
