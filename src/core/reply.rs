//! The answer to a request, the same on every transport, and the problem in it (RFC 9457).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::command::{Command, CommandId};
use crate::core::refusal::{Fault, Refusal};
use crate::core::time::Timestamp;

/// Where a request stands; the words of the contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Accepted,
    Succeeded,
    Failed,
    Rejected,
    Canceled,
    TimedOut,
}

/// The answer to a request, the same on every transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Reply {
    /// Version of this envelope: 1.
    pub v: u8,
    /// Of the request; made by the station where the request had none.
    pub command_id: CommandId,
    /// Of the command: `project.create`.
    pub name: String,
    /// That answers.
    pub station: String,
    /// Where the request stands.
    pub status: Status,
    /// No other reply follows.
    #[serde(rename = "final")]
    pub is_final: bool,
    /// As in HTTP: 200 done, 202 accepted, 4xx refused, 5xx try again.
    pub code: u16,
    /// The stored answer to an earlier request with the same `command_id`; nothing was done now.
    pub replayed: bool,
    /// When it was answered the first time.
    pub at: Timestamp,
    /// Of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Of long work: by which name its state is asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<CommandId>,
    /// What came of it; null where it came to nothing.
    pub result: Option<Value>,
    /// Why it came to nothing; else null.
    pub error: Option<Problem>,
}

/// RFC 9457, inside a reply and as the body of an HTTP error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Problem {
    /// `urn:bootline:problem:{code}`
    #[serde(rename = "type")]
    pub kind: String,
    /// The code in words.
    pub title: String,
    /// As in HTTP.
    pub status: u16,
    /// Stable, for programs.
    pub code: String,
    /// For people: what and which value.
    pub detail: String,
    /// The same request, with the same `command_id`, may succeed later.
    pub retryable: bool,
    /// Where in the request, as far as it can be told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<Fault>,
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        Self {
            kind: format!("urn:bootline:problem:{}", refusal.code),
            title: refusal.code.replace(['_', '.'], " "),
            status: refusal.status,
            code: refusal.code,
            detail: refusal.detail,
            retryable: refusal.retryable,
            errors: refusal.errors,
        }
    }
}

impl Reply {
    pub fn succeeded(command: &Command, station: &str, now: Timestamp, result: Value) -> Self {
        Self {
            v: 1,
            command_id: command.id.clone(),
            name: command.name.clone(),
            station: station.to_owned(),
            status: Status::Succeeded,
            is_final: true,
            code: 200,
            replayed: false,
            at: now,
            correlation_id: command.correlation_id.clone(),
            job: None,
            result: Some(result),
            error: None,
        }
    }

    /// Long work was begun. How it ends is the state of its job.
    pub fn accepted(command: &Command, station: &str, now: Timestamp, result: Value) -> Self {
        let reply = Self::succeeded(command, station, now, result);
        Self { status: Status::Accepted, is_final: false, code: 202, job: Some(command.id.clone()), ..reply }
    }

    pub fn rejected(id: CommandId, name: &str, station: &str, now: Timestamp, refusal: Refusal) -> Self {
        Self {
            v: 1,
            command_id: id,
            name: name.to_owned(),
            station: station.to_owned(),
            status: if refusal.status >= 500 { Status::Failed } else { Status::Rejected },
            is_final: true,
            code: refusal.status,
            replayed: false,
            at: now,
            correlation_id: None,
            job: None,
            result: None,
            error: Some(refusal.into()),
        }
    }
}
