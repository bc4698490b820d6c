//! The history, from the sessions: one record an attempt, under the serial and the local time of its start.

use std::collections::HashMap;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::unfold;
use serde_json::{Map, Value, json};

use crate::core::device::{Mac, Serial};
use crate::core::image::Digest;
use crate::core::project::ProjectId;
use crate::core::session::{Outcome, Session, StepName};
use crate::core::time::Timestamp;
use crate::http::legacy::form::{Fields, Wrong};
use crate::http::operator::Operator;
use crate::ledger::{Former, Ledger, SubmitError};

/// Serials that are read at a time.
const PAGE: u32 = 100;
const KEY: &str = "%Y%m%d_%H:%M:%S";

pub fn local(at: Timestamp, format: &str) -> String {
    let moment = jiff::Timestamp::from_millisecond(at.millis()).unwrap_or_default();
    moment.to_zoned(jiff::tz::TimeZone::system()).strftime(format).to_string()
}

/// What ids are called. What is gone is called as it was; by its id where nobody knows that any more.
pub struct Names {
    projects: HashMap<ProjectId, String>,
    images: HashMap<Digest, String>,
    eeproms: HashMap<Digest, String>,
    former: HashMap<(Former, String), String>,
}

impl Names {
    pub async fn read(ledger: &Ledger) -> Result<Self, SubmitError> {
        let projects = ledger.projects().await?.into_iter();
        let images = ledger.images().await?.into_iter();
        let eeproms = ledger.firmware().await?.into_iter();
        Ok(Self {
            projects: projects.map(|project| (project.id, project.name)).collect(),
            images: images.map(|image| (image.id, image.name)).collect(),
            eeproms: eeproms.map(|eeprom| (eeprom.id, eeprom.name)).collect(),
            former: ledger.former_names().await?,
        })
    }

    pub fn image(&self, id: Digest) -> String {
        self.images.get(&id).cloned().unwrap_or_else(|| self.once(Former::Image, id.to_string()))
    }

    pub fn eeprom(&self, id: Digest) -> String {
        self.eeproms.get(&id).cloned().unwrap_or_else(|| self.once(Former::Firmware, id.to_string()))
    }

    fn project(&self, id: &ProjectId) -> String {
        self.projects.get(id).cloned().unwrap_or_else(|| self.once(Former::Project, id.to_string()))
    }

    fn once(&self, kind: Former, id: String) -> String {
        let key = (kind, id);
        self.former.get(&key).cloned().unwrap_or(key.1)
    }
}

/// Whether a record tells of the end, too.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    Start,
    All,
}

pub fn record(session: &Session, names: &Names, told: Told) -> Value {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let number = |value: Option<u64>| value.map_or_else(|| json!(""), |number| json!(number));
    let ended = session.ended.as_ref().filter(|_| told == Told::All);
    let firmware = session.plan.firmware.as_ref();
    let seen = session.done.iter().find(|(step, _)| *step == StepName::Firmware);
    let seen = seen.and_then(|(_, evidence)| evidence.firmware.as_ref()).filter(|_| told == Told::All);
    let version = seen.and_then(|seen| seen.version_after.clone().or_else(|| seen.version_before.clone()));
    let facts = &session.facts;
    json!({
        "cmInfo": {
            "model": text(&facts.model),
            "storagesize": number(facts.storage_sectors),
            "mac": colons(session.mac),
            "inversejumper": text(&facts.jumper),
            "memorysize": number(facts.memory_kb),
            "temp": text(&facts.temperature),
            "cid": text(&facts.cid),
            "csd": text(&facts.csd),
            "bootmode": text(&facts.boot_mode),
            "eeprom": version.unwrap_or_default(),
            "eeepromsha": firmware.map(|firmware| firmware.sha256.to_string()).unwrap_or_default(),
        },
        "cmProvisionInfo": {
            "projectName": names.project(&session.project),
            "image": names.image(session.plan.image),
            "eeprom": firmware.map(|firmware| names.eeprom(firmware.image)).unwrap_or_default(),
            "starTime": local(session.started_at, KEY),
            "endTime": ended.map(|ended| local(ended.at, KEY)).unwrap_or_default(),
            "duration": ended.map(|ended| duration(session.started_at, ended.at)).unwrap_or_default(),
            "state": if ended.is_some() { "completed" } else { "started" },
            "result": ended.is_some_and(|ended| ended.outcome == Outcome::Passed),
            "errorLog": ended.map(|ended| why(ended.code.as_deref(), ended.detail.as_deref())).unwrap_or_default(),
        },
    })
}

fn why(code: Option<&str>, detail: Option<&str>) -> String {
    match (code, detail) {
        (Some(code), Some(detail)) => format!("{code}: {detail}"),
        (one, other) => one.or(other).unwrap_or_default().to_owned(),
    }
}

fn colons(mac: Mac) -> String {
    mac.dashes().replace('-', ":")
}

/// `H:MM:SS.ffffff`, as Python writes a span of time.
fn duration(from: Timestamp, to: Timestamp) -> String {
    let span = to.since(from);
    let (days, seconds) = (span.as_secs() / 86_400, span.as_secs() % 86_400);
    let clock = format!("{}:{:02}:{:02}.{:06}", seconds / 3600, seconds / 60 % 60, seconds % 60, span.subsec_micros());
    match days {
        0 => clock,
        1 => format!("1 day, {clock}"),
        days => format!("{days} days, {clock}"),
    }
}

/// Sessions of one device in their order, each under a key of its own: a second one in the same second is `_2`.
fn keyed(sessions: &[Session]) -> Vec<(String, &Session)> {
    let mut taken: HashMap<String, u32> = HashMap::new();
    let mut key = |session: &Session| {
        let start = local(session.started_at, KEY);
        let count = taken.entry(start.clone()).or_insert(0);
        *count += 1;
        if *count == 1 { start } else { format!("{start}_{count}") }
    };
    sessions.iter().map(|session| (key(session), session)).collect()
}

/// The key of one session among the others of its device.
pub async fn key_of(ledger: &Ledger, session: &Session) -> Result<String, SubmitError> {
    let before = ledger.sessions_around(session).await?;
    let own = keyed(&before).into_iter().find(|(_, other)| other.id == session.id);
    Ok(own.map_or_else(|| local(session.started_at, KEY), |(key, _)| key))
}

fn records(sessions: &[Session], names: &Names) -> Map<String, Value> {
    keyed(sessions).into_iter().map(|(key, session)| (key, record(session, names, Told::All))).collect()
}

async fn of_serial(operator: &Operator, serial: &str) -> Result<Option<Map<String, Value>>, Wrong> {
    let Ok(serial) = serial.parse::<Serial>() else { return Ok(None) };
    let sessions = operator.ledger.sessions_of_serial(serial).await?;
    let names = Names::read(&operator.ledger).await?;
    Ok((!sessions.is_empty()).then(|| records(&sessions, &names)))
}

fn no_serial() -> Json<Value> {
    Json(json!({"error": "Serial number not found"}))
}

pub async fn one(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let mut fields = Fields::query(query.as_deref());
    let (serial, start) = (fields.text("serial"), fields.text("timestamp"));
    fields.end()?;
    let Some(mut records) = of_serial(&operator, &serial).await? else { return Ok(no_serial()) };
    Ok(Json(records.remove(&start).unwrap_or_else(|| json!({"error": "Timestamp not found"}))))
}

pub async fn by_serial(State(operator): State<Operator>, RawQuery(query): RawQuery) -> Result<Json<Value>, Wrong> {
    let mut fields = Fields::query(query.as_deref());
    let serial = fields.text("serial");
    fields.end()?;
    Ok(of_serial(&operator, &serial).await?.map_or_else(no_serial, |records| Json(Value::Object(records))))
}

/// All of it may be long, so it goes out device by device as it is read.
pub async fn all(State(operator): State<Operator>) -> Result<Response, Wrong> {
    let first = operator.ledger.serials_with_sessions(None, PAGE).await?;
    if first.is_empty() {
        return Err(Wrong::new(404, "Results not found"));
    }
    let names = Names::read(&operator.ledger).await?;
    let writing = Writing { ledger: operator.ledger.clone(), names, page: first.into_iter(), last: None, end: false };
    let body = Body::from_stream(unfold(writing, Writing::next));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

/// The one long answer under way.
struct Writing {
    ledger: Ledger,
    names: Names,
    page: std::vec::IntoIter<Serial>,
    last: Option<Serial>,
    end: bool,
}

impl Writing {
    async fn next(mut self) -> Option<(Result<Bytes, SubmitError>, Self)> {
        if self.end {
            return None;
        }
        match self.piece().await {
            Ok(text) => Some((Ok(text.into()), self)),
            Err(error) => {
                // The answer breaks off, so that nobody takes it for whole.
                self.end = true;
                Some((Err(error), self))
            }
        }
    }

    async fn piece(&mut self) -> Result<String, SubmitError> {
        let mut next = self.page.next();
        if next.is_none() {
            self.page = self.ledger.serials_with_sessions(self.last, PAGE).await?.into_iter();
            next = self.page.next();
        }
        let Some(serial) = next else {
            self.end = true;
            return Ok("}".to_owned());
        };
        let sessions = self.ledger.sessions_of_serial(serial).await?;
        let before = if self.last.is_none() { '{' } else { ',' };
        self.last = Some(serial);
        Ok(format!("{before}\"{serial}\":{}", Value::Object(records(&sessions, &self.names))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_is_written_as_python_does() {
        let written = |millis| duration(Timestamp::from_millis(0), Timestamp::from_millis(millis));
        assert_eq!(written(0), "0:00:00.000000");
        assert_eq!(written(83_045), "0:01:23.045000");
        assert_eq!(written(36_000_000), "10:00:00.000000");
        assert_eq!(written(90_061_001), "1 day, 1:01:01.001000");
    }
}
