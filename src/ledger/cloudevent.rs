//! The envelope of an event: CloudEvents 1.0, structured JSON (`contract.md` §5), made once and then only copied.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use uuid::Uuid;

use crate::core::event::Event;
use crate::core::time::Timestamp;
use crate::ledger::Identity;
use crate::store::journal::Recorded;

/// The command that an event follows from.
#[derive(Clone, Debug, Default)]
pub struct Cause {
    pub command_id: Option<String>,
    pub correlation_id: Option<String>,
}

/// What tells an event from all others.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    pub id: Uuid,
    pub seq: u64,
    pub at: Timestamp,
}

/// The envelope of every event: CloudEvents 1.0, structured JSON, at most 64 KiB with its data.
#[derive(Serialize, JsonSchema)]
pub struct CloudEvent<'a> {
    /// `1.0`
    specversion: &'static str,
    /// A UUID. With `source` it names the event for good: one that is sent again has the same, so keep both as a
    /// primary key.
    id: &'a str,
    /// `urn:bootline:station:{station}`
    source: String,
    /// `io.bootline.{event}.v1`. A change that is not an addition is a new type.
    #[serde(rename = "type")]
    kind: String,
    /// What it is about: `{kind}/{id}`; of a device the id is its MAC.
    subject: &'a str,
    /// When it happened.
    time: Timestamp,
    /// `application/json`
    datacontenttype: &'static str,
    /// The `$id` of the schema of `data`.
    dataschema: String,
    /// 20 digits, so that text sorts as numbers do. Rises by one from event to event of a `source` and `epoch`: a hole
    /// is an event that you have missed.
    #[schemars(regex(pattern = "^[0-9]{20}$"))]
    sequence: String,
    /// Changes when the database of the station is made anew or restored; sequences are compared within one only.
    #[schemars(regex(pattern = "^[a-z0-9]+$"))]
    epoch: &'a str,
    /// Events with the same key come in order on every transport; equals `subject`.
    partitionkey: &'a str,
    /// The `correlation_id` of the request that it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    /// The `command_id` of the request that it follows from.
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<&'a str>,
    /// As `dataschema` says.
    data: &'a Value,
}

/// The name of the schema of an event's data: stable, and changed with the schema.
pub fn schema(event: &str) -> String {
    format!("urn:bootline:schema:event:{event}:1.0")
}

pub fn record(identity: &Identity, event: &Event, seq: u64, at: Timestamp, cause: &Cause) -> Recorded {
    named(&Mark { id: Uuid::now_v7(), seq, at }, identity, event, cause)
}

/// The same with an id that is given: examples are the same each time.
pub fn named(mark: &Mark, identity: &Identity, event: &Event, cause: &Cause) -> Recorded {
    let Mark { id, seq, at } = *mark;
    let name = event.name();
    let subject = event.subject(&identity.station);
    let path = format!("{}/{}", subject.kind, subject.id);
    let data = match serde_json::to_value(event) {
        Ok(Value::Object(mut fields)) => fields.remove("data").unwrap_or_default(),
        _ => Value::Null,
    };
    let envelope = CloudEvent {
        specversion: "1.0",
        id: &id.to_string(),
        source: format!("urn:bootline:station:{}", identity.station),
        kind: format!("io.bootline.{name}.v1"),
        subject: &path,
        time: at,
        datacontenttype: "application/json",
        dataschema: schema(name),
        sequence: format!("{seq:020}"),
        epoch: &identity.epoch,
        partitionkey: &path,
        correlationid: cause.correlation_id.as_deref(),
        causationid: cause.command_id.as_deref(),
        data: &data,
    };
    let body = serde_json::to_vec(&envelope).expect("strings and JSON values always serialise");
    Recorded {
        seq,
        id,
        name: name.to_owned(),
        kind: subject.kind.to_owned(),
        subject: subject.id,
        occurred: at,
        body: Bytes::from(body),
    }
}
