//! History: sessions with their filters, as pages and as CSV; devices; sums.

use std::borrow::Cow;
use std::fmt;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream::unfold;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::device::{Mac, Serial};
use crate::core::image::Digest;
use crate::core::plan::SessionId;
use crate::core::project::ProjectId;
use crate::core::refusal::Refusal;
use crate::core::shown::{DeviceShown, SessionShown};
use crate::core::time::Timestamp;
use crate::http::error::Failure;
use crate::http::extract::{Asked, Limit, Search};
use crate::http::operator::Operator;
use crate::ledger::{DeviceFilter, Ledger, Listed, SessionFilter};

/// So many sessions at a time go into a CSV; of the first fewer, so that it begins at once.
const ROWS: u32 = 500;
const FIRST_ROWS: u32 = 50;

/// How a session ended, or that it has not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    Passed,
    Failed,
    Aborted,
    Interrupted,
    Open,
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Passed => "passed",
            Self::Failed => "failed",
            Self::Aborted => "aborted",
            Self::Interrupted => "interrupted",
            Self::Open => "open",
        })
    }
}

/// Which sessions, newest first.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SessionQuery<L: Default> {
    mac: Option<Mac>,
    serial: Option<Serial>,
    project: Option<ProjectId>,
    outcome: Option<Standing>,
    /// `true`: those that run.
    open: Option<bool>,
    /// Why it did not pass.
    code: Option<String>,
    /// Jumpers as the module tells them, or where its cable was.
    board: Option<String>,
    /// Where its cable was, as the switch says.
    circuit: Option<String>,
    image: Option<Digest>,
    /// Started then or later.
    from: Option<Timestamp>,
    /// Started before.
    to: Option<Timestamp>,
    /// Occurs in MAC, serial, project, code, detail, board or circuit.
    q: Option<Search>,
    /// Older than this session: `next_before` of the page before.
    before: Option<SessionId>,
    #[serde(default)]
    limit: L,
}

impl<L: Default> SessionQuery<L> {
    fn filter(self, limit: u32) -> SessionFilter {
        SessionFilter {
            mac: self.mac,
            serial: self.serial,
            project: self.project.map(|project| project.to_string()),
            outcome: self.outcome.map(|outcome| outcome.to_string()),
            open: self.open,
            code: self.code,
            board: self.board,
            circuit: self.circuit,
            image: self.image,
            from: self.from,
            to: self.to,
            text: self.q.map(|Search(text)| text),
            before: self.before,
            limit,
        }
    }
}

#[derive(Serialize, JsonSchema)]
pub struct ListedSession {
    #[serde(flatten)]
    session: SessionShown,
    /// Of its device, where it is known.
    serial: Option<Serial>,
}

impl From<Listed> for ListedSession {
    fn from(listed: Listed) -> Self {
        Self { session: SessionShown::of(&listed.session), serial: listed.serial }
    }
}

#[derive(Serialize, JsonSchema)]
pub struct SessionPage {
    sessions: Vec<ListedSession>,
    /// `before` of the next page; null on the last.
    next_before: Option<SessionId>,
}

async fn known(ledger: &Ledger, before: Option<SessionId>) -> Result<(), Failure> {
    let Some(id) = before else { return Ok(()) };
    if ledger.session(id).await?.is_none() {
        return Err(Refusal::invalid("/before", format!("there is no session {id}")).into());
    }
    Ok(())
}

pub async fn sessions(
    State(operator): State<Operator>,
    Asked(query): Asked<SessionQuery<Limit>>,
) -> Result<Json<SessionPage>, Failure> {
    known(&operator.ledger, query.before).await?;
    let limit = query.limit.0;
    let found = operator.ledger.sessions(query.filter(limit)).await?;
    let next_before = found.last().filter(|_| found.len() == limit as usize).map(|last| last.session.id);
    Ok(Json(SessionPage { sessions: found.into_iter().map(ListedSession::from).collect(), next_before }))
}

pub async fn session(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let parsed = id.parse().map_err(|wrong: String| Refusal::invalid("/session", wrong))?;
    let session = operator.ledger.session(parsed).await?.ok_or_else(|| Refusal::not_found("session", &id))?;
    let timeline = operator.ledger.timeline_of(&session).await?;
    let serial = operator.ledger.device(session.mac).await?.and_then(|device| device.serial);
    let shown = ListedSession { session: SessionShown::of(&session), serial };
    Ok(Json(json!({"session": shown, "timeline": timeline})))
}

/// What the scripts of a session have printed.
pub async fn output(State(operator): State<Operator>, Path(id): Path<String>) -> Result<Json<Value>, Failure> {
    let parsed: SessionId = id.parse().map_err(|wrong: String| Refusal::invalid("/session", wrong))?;
    let outputs = operator.ledger.script_outputs(parsed).await?;
    if outputs.is_empty() && operator.ledger.session(parsed).await?.is_none() {
        return Err(Refusal::not_found("session", &id).into());
    }
    Ok(Json(json!({"session": parsed, "output": outputs})))
}

/// `GET /api/v1/sessions.csv`: all that the filters take, or `limit` of them, as they are read.
pub async fn csv(
    State(operator): State<Operator>,
    Asked(query): Asked<SessionQuery<Most>>,
) -> Result<Response, Failure> {
    known(&operator.ledger, query.before).await?;
    let left = query.limit.0;
    let filter = query.filter(FIRST_ROWS);
    let first = operator.ledger.sessions(filter.clone()).await?;
    let begun = Export { ledger: operator.ledger, filter, left, page: Some(first), heads: true };
    let stream = unfold(begun, async |mut export| {
        let page = export.page.take()?;
        let text = export.write(&page);
        match export.turn(&page).await {
            Ok(()) => Some((Ok(text), export)),
            // The connection breaks off, so that nobody takes a part for the whole.
            Err(refusal) => Some((Err(std::io::Error::other(refusal.detail)), export)),
        }
    });
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/csv; charset=utf-8; header=present")),
        (header::CONTENT_DISPOSITION, HeaderValue::from_static("attachment; filename=\"sessions.csv\"")),
    ];
    Ok((headers, Body::from_stream(stream)).into_response())
}

/// How many rows a CSV has at most; without it, all.
#[derive(Clone, Copy, Debug)]
pub struct Most(u64);

impl Most {
    const LARGEST: u64 = 1_000_000_000;
}

impl<'de> Deserialize<'de> for Most {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.parse() {
            Ok(rows @ 0..=Self::LARGEST) => Ok(Self(rows)),
            _ => Err(serde::de::Error::custom(format!("not a number of 0 to {}", Self::LARGEST))),
        }
    }
}

impl Default for Most {
    fn default() -> Self {
        Self(u64::MAX)
    }
}

impl JsonSchema for Most {
    fn schema_name() -> Cow<'static, str> {
        "Most".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "integer", "minimum": 0, "maximum": Self::LARGEST, "description": "At most so many rows; all without it."})
    }
}

const COLUMNS: [&str; 18] = [
    "session",
    "mac",
    "serial",
    "attempt",
    "project",
    "image",
    "storage",
    "model",
    "board",
    "circuit",
    "outcome",
    "code",
    "detail",
    "started_at",
    "ended_at",
    "duration_s",
    "sha256",
    "cache",
];

struct Export {
    ledger: Ledger,
    filter: SessionFilter,
    left: u64,
    page: Option<Vec<Listed>>,
    heads: bool,
}

impl Export {
    fn write(&mut self, page: &[Listed]) -> Vec<u8> {
        let mut writer = csv::WriterBuilder::new().terminator(csv::Terminator::CRLF).from_writer(Vec::new());
        if std::mem::take(&mut self.heads) {
            writer.write_record(COLUMNS).expect("memory takes every row");
        }
        for listed in page.iter().take(usize::try_from(self.left).unwrap_or(usize::MAX)) {
            writer.write_record(row(listed).iter().map(|cell| guarded(cell))).expect("memory takes every row");
        }
        writer.into_inner().expect("memory takes every row")
    }

    /// Reads the next page, while there is one.
    async fn turn(&mut self, page: &[Listed]) -> Result<(), Refusal> {
        self.left = self.left.saturating_sub(page.len() as u64);
        let Some(last) = page.last().filter(|_| page.len() == self.filter.limit as usize && self.left > 0) else {
            return Ok(());
        };
        (self.filter.before, self.filter.limit) = (Some(last.session.id), ROWS);
        self.page = Some(self.ledger.sessions(self.filter.clone()).await?);
        Ok(())
    }
}

fn row(Listed { session, serial }: &Listed) -> [String; COLUMNS.len()] {
    let ended = session.ended.as_ref();
    let proof = session.done.iter().map(|(_, evidence)| evidence).find(|evidence| evidence.cache.is_some());
    let text = |value: Option<&String>| value.cloned().unwrap_or_default();
    [
        session.id.to_string(),
        session.mac.to_string(),
        serial.map(|serial| serial.to_string()).unwrap_or_default(),
        session.attempt.to_string(),
        session.project.to_string(),
        session.plan.image.to_string(),
        session.plan.storage.to_string(),
        text(session.facts.model.as_ref()),
        text(session.facts.jumper.as_ref()),
        text(session.circuit.as_ref()),
        ended.map_or("open", |ended| ended.outcome.as_str()).to_owned(),
        text(ended.and_then(|ended| ended.code.as_ref())),
        text(ended.and_then(|ended| ended.detail.as_ref())),
        session.started_at.to_string(),
        ended.map(|ended| ended.at.to_string()).unwrap_or_default(),
        ended.map(|ended| format!("{:.3}", ended.at.since(session.started_at).as_secs_f64())).unwrap_or_default(),
        proof.and_then(|evidence| evidence.sha256).map(|sha256| sha256.to_string()).unwrap_or_default(),
        proof.and_then(|evidence| evidence.cache).map(|cache| word(&cache)).unwrap_or_default(),
    ]
}

/// The word that JSON has for it.
fn word<T: Serialize>(value: &T) -> String {
    json!(value).as_str().unwrap_or_default().to_owned()
}

/// A spreadsheet takes what begins so for a formula; text of a device must not become one (OWASP, CSV injection).
fn guarded(cell: &str) -> String {
    if cell.starts_with(['=', '+', '-', '@', '\t', '\r', '\n']) { format!("'{cell}") } else { cell.to_owned() }
}

/// Which devices, in the order of their MAC.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeviceQuery {
    serial: Option<Serial>,
    /// Seen then or later.
    from: Option<Timestamp>,
    /// Seen last before.
    to: Option<Timestamp>,
    /// Occurs in MAC or serial.
    q: Option<Search>,
    /// Behind this device: `next_after` of the page before.
    after: Option<Mac>,
    #[serde(default)]
    limit: Limit,
}

#[derive(Serialize, JsonSchema)]
pub struct DevicePage {
    devices: Vec<DeviceShown>,
    /// `after` of the next page; null on the last.
    next_after: Option<Mac>,
}

pub async fn devices(
    State(operator): State<Operator>,
    Asked(query): Asked<DeviceQuery>,
) -> Result<Json<Value>, Failure> {
    let limit = query.limit.0;
    let filter = DeviceFilter {
        serial: query.serial,
        from: query.from,
        to: query.to,
        text: query.q.map(|Search(text)| text),
        after: query.after,
        limit,
    };
    let found = operator.ledger.devices(filter).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|device| device.mac);
    let shown: Vec<Value> = found.iter().map(crate::core::floor::Device::shown).collect();
    Ok(Json(json!({"devices": shown, "next_after": next})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_cell_becomes_a_formula() {
        assert_eq!(guarded("=HYPERLINK(\"http://x\")"), "'=HYPERLINK(\"http://x\")");
        assert_eq!(guarded("-1+1"), "'-1+1");
        assert_eq!(guarded("@SUM(A1)"), "'@SUM(A1)");
        assert_eq!(guarded("e45f01112233"), "e45f01112233");
    }
}
