//! The envelope of an event: CloudEvents 1.0, structured JSON (`contract.md` §5), made once and then only copied.

use bytes::Bytes;
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

#[derive(Serialize)]
struct CloudEvent<'a> {
    specversion: &'static str,
    id: &'a str,
    source: String,
    #[serde(rename = "type")]
    kind: String,
    subject: &'a str,
    time: Timestamp,
    datacontenttype: &'static str,
    dataschema: String,
    sequence: String,
    epoch: &'a str,
    partitionkey: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlationid: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causationid: Option<&'a str>,
    data: &'a Value,
}

pub fn record(identity: &Identity, event: &Event, seq: u64, at: Timestamp, cause: &Cause) -> Recorded {
    let id = Uuid::now_v7();
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
        dataschema: format!("urn:bootline:schema:event:{name}:1.0"),
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
