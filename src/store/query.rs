//! What is asked of the tables from outside: pages of sessions, devices and events. Each filter that is given becomes a
//! clause of our own text, so that SQLite can take the index that fits; its value is a parameter.

use std::collections::BTreeMap;

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension, params_from_iter};
use schemars::JsonSchema;
use serde::Serialize;

use crate::core::device::{Mac, Serial};
use crate::core::floor::Device;
use crate::core::image::Digest;
use crate::core::plan::SessionId;
use crate::core::session::Session;
use crate::core::time::Timestamp;
use crate::store::journal::{self, Recorded};
use crate::store::{StoreError, count, number, tables};

/// Which sessions; newest first.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    pub mac: Option<Mac>,
    pub serial: Option<Serial>,
    pub project: Option<String>,
    /// `passed`, `failed`, `aborted`, `interrupted`, `open`
    pub outcome: Option<String>,
    pub open: Option<bool>,
    pub code: Option<String>,
    /// Jumpers as the module tells them.
    pub board: Option<String>,
    /// Where its cable was.
    pub circuit: Option<String>,
    pub image: Option<Digest>,
    /// Started then or later.
    pub from: Option<Timestamp>,
    /// Started before.
    pub to: Option<Timestamp>,
    /// Letters that occur in MAC, serial, project, code, detail, board or circuit.
    pub text: Option<String>,
    /// Only those older than this session: the cursor of a page.
    pub before: Option<SessionId>,
    pub limit: u32,
}

/// Sessions of a project by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Counts {
    /// The image is written, proven and reported.
    pub passed: u64,
    /// The device or the station found a fault.
    pub failed: u64,
    /// Somebody ended them.
    pub aborted: u64,
    /// The device went silent or began anew.
    pub interrupted: u64,
    /// They run.
    pub open: u64,
}

/// By project, and the newest event that was counted.
pub fn counts(connection: &Connection) -> Result<(BTreeMap<String, Counts>, u64), StoreError> {
    // Sessions and their events are written in one transaction and read in one.
    let reading = connection.unchecked_transaction()?;
    let newest = journal::newest(&reading)?;
    let mut statement =
        reading.prepare_cached("SELECT project, outcome, count(*) FROM session GROUP BY project, outcome")?;
    let rows = statement
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Option<String>>(1)?, count(row.get(2)?))))?;
    let mut all: BTreeMap<String, Counts> = BTreeMap::new();
    for row in rows {
        let (project, outcome, number) = row?;
        let counts = all.entry(project).or_default();
        match outcome.as_deref() {
            None => counts.open = number,
            Some("passed") => counts.passed = number,
            Some("failed") => counts.failed = number,
            Some("aborted") => counts.aborted = number,
            _ => counts.interrupted = number,
        }
    }
    Ok((all, newest))
}

/// A session, and the serial of its device.
#[derive(Clone, Debug)]
pub struct Listed {
    pub session: Session,
    pub serial: Option<Serial>,
}

/// Clauses with their values.
#[derive(Default)]
pub struct Clauses {
    clauses: Vec<&'static str>,
    values: Vec<Value>,
}

impl Clauses {
    /// A clause takes as many `?` as it is given values.
    pub fn with(&mut self, clause: &'static str, values: impl IntoIterator<Item = Value>) {
        self.clauses.push(clause);
        self.values.extend(values);
    }

    pub fn given<T: Into<Value>>(&mut self, clause: &'static str, value: Option<T>) {
        if let Some(value) = value {
            self.with(clause, [value.into()]);
        }
    }

    /// `WHERE a AND b`, or nothing.
    pub fn text(&self) -> String {
        if self.clauses.is_empty() { String::new() } else { format!("WHERE {}", self.clauses.join(" AND ")) }
    }

    pub fn values(self) -> Vec<Value> {
        self.values
    }
}

/// What `LIKE ? ESCAPE '\'` takes for "it occurs somewhere".
fn somewhere(text: &str) -> Value {
    let mut pattern = String::from("%");
    for letter in text.chars() {
        if matches!(letter, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(letter);
    }
    pattern.push('%');
    pattern.into()
}

const SESSION_TEXT: &str = r"(mac LIKE ? ESCAPE '\' OR project LIKE ? ESCAPE '\' OR code LIKE ? ESCAPE '\' OR detail LIKE ? ESCAPE '\' OR board LIKE ? ESCAPE '\' OR circuit LIKE ? ESCAPE '\' OR mac IN (SELECT mac FROM device WHERE serial LIKE ? ESCAPE '\' OR serial8 LIKE ? ESCAPE '\'))";
const DEVICE_TEXT: &str = r"(mac LIKE ? ESCAPE '\' OR serial LIKE ? ESCAPE '\' OR serial8 LIKE ? ESCAPE '\')";

fn session_clauses(filter: &SessionFilter) -> Clauses {
    let mut clauses = Clauses::default();
    clauses.given("mac = ?", filter.mac.map(|mac| mac.to_string()));
    clauses.given("mac IN (SELECT mac FROM device WHERE serial = ?)", filter.serial.map(|serial| serial.to_string()));
    clauses.given("project = ?", filter.project.clone());
    match filter.outcome.as_deref() {
        Some("open") => clauses.with("outcome IS NULL", []),
        outcome => clauses.given("outcome = ?", outcome.map(str::to_owned)),
    }
    match filter.open {
        Some(true) => clauses.with("outcome IS NULL", []),
        Some(false) => clauses.with("outcome IS NOT NULL", []),
        None => {}
    }
    clauses.given("code = ?", filter.code.clone());
    clauses.given("board = ?", filter.board.clone());
    clauses.given("circuit = ?", filter.circuit.clone());
    clauses.given("image = ?", filter.image.map(|image| image.to_string()));
    clauses.given("started_at >= ?", filter.from.map(Timestamp::millis));
    clauses.given("started_at < ?", filter.to.map(Timestamp::millis));
    if let Some(text) = &filter.text {
        clauses.with(SESSION_TEXT, std::iter::repeat_n(somewhere(text), 8));
    }
    if let Some(before) = filter.before {
        let before = before.to_string();
        clauses.with(
            "(started_at, id) < ((SELECT started_at FROM session WHERE id = ?), ?)",
            [before.clone().into(), before.into()],
        );
    }
    clauses
}

/// The ids are found in an index alone; only what is shown is read whole.
pub fn sessions(connection: &Connection, filter: &SessionFilter) -> Result<Vec<Listed>, StoreError> {
    let clauses = session_clauses(filter);
    let clause = format!(
        "WHERE id IN (SELECT id FROM session {} ORDER BY started_at DESC, id DESC LIMIT ?) \
         ORDER BY started_at DESC, id DESC",
        clauses.text()
    );
    let mut values = clauses.values();
    values.push(i64::from(filter.limit).into());
    let found = tables::sessions(connection, &clause, params_from_iter(values))?;
    let mut serial = connection.prepare_cached("SELECT serial FROM device WHERE mac = ?1")?;
    let mut listed = Vec::with_capacity(found.len());
    for session in found {
        let text: Option<Option<String>> = serial.query_row([session.mac.to_string()], |row| row.get(0)).optional()?;
        listed.push(Listed { serial: text.flatten().and_then(|text| text.parse().ok()), session });
    }
    Ok(listed)
}

/// Which devices, in the order of their MAC.
#[derive(Clone, Debug, Default)]
pub struct DeviceFilter {
    pub serial: Option<Serial>,
    /// Seen then or later.
    pub from: Option<Timestamp>,
    /// Seen last before.
    pub to: Option<Timestamp>,
    pub text: Option<String>,
    pub after: Option<Mac>,
    pub limit: u32,
}

pub fn devices(connection: &Connection, filter: &DeviceFilter) -> Result<Vec<Device>, StoreError> {
    let mut clauses = Clauses::default();
    clauses.given("serial = ?", filter.serial.map(|serial| serial.to_string()));
    clauses.given("seen_at >= ?", filter.from.map(Timestamp::millis));
    clauses.given("seen_at < ?", filter.to.map(Timestamp::millis));
    if let Some(text) = &filter.text {
        clauses.with(DEVICE_TEXT, std::iter::repeat_n(somewhere(text), 3));
    }
    clauses.given("mac > ?", filter.after.map(|mac| mac.to_string()));
    let sql = format!("SELECT body FROM device {} ORDER BY mac LIMIT ?", clauses.text());
    let mut values = clauses.values();
    values.push(i64::from(filter.limit).into());
    tables::bodies_of(connection, "device", &sql, params_from_iter(values))
}

/// Which events, oldest first.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    pub kind: Option<String>,
    /// Of the subject: the MAC of a device, the id of a project.
    pub id: Option<String>,
    /// That the event is about, whatever its subject is.
    pub session: Option<SessionId>,
    /// `device.failed`, or the beginning of names: `device.`
    pub name: Option<Name>,
    pub from: Option<Timestamp>,
    pub to: Option<Timestamp>,
    pub after: u64,
    /// The newest of those before this one; they still come oldest first.
    pub before: Option<u64>,
    pub limit: u32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Whole(String),
    Prefix(String),
}

pub fn events(connection: &Connection, filter: &EventFilter) -> Result<Vec<Recorded>, StoreError> {
    let mut clauses = Clauses::default();
    clauses.given("kind = ?", filter.kind.clone());
    clauses.given("subject = ?", filter.id.clone());
    match &filter.name {
        Some(Name::Whole(name)) => clauses.with("name = ?", [name.clone().into()]),
        // Names are plain ASCII: `~` comes behind all of their letters.
        Some(Name::Prefix(prefix)) => {
            clauses.with("name >= ? AND name < ?", [prefix.clone().into(), format!("{prefix}~").into()]);
        }
        None => {}
    }
    // No index has it: what else is asked for keeps what is read small.
    clauses.given("json_extract(CAST(body AS TEXT), '$.data.session') = ?", filter.session.map(|id| id.to_string()));
    clauses.given("occurred >= ?", filter.from.map(Timestamp::millis));
    clauses.given("occurred < ?", filter.to.map(Timestamp::millis));
    clauses.with("seq > ?", [number(filter.after).into()]);
    clauses.given("seq < ?", filter.before.map(number));
    let order = if filter.before.is_some() { "DESC" } else { "ASC" };
    let clause = format!("{} ORDER BY seq {order} LIMIT ?", clauses.text());
    let mut values = clauses.values();
    values.push(i64::from(filter.limit).into());
    let mut found = journal::select(connection, &clause, params_from_iter(values))?;
    if filter.before.is_some() {
        found.reverse();
    }
    Ok(found)
}

/// What somebody must act on: code and what to do.
pub fn alarms(connection: &Connection) -> Result<Vec<(String, String)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT code, detail FROM alarm ORDER BY code")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Every attempt on the device that has this serial, in their order.
pub fn sessions_of_serial(connection: &Connection, serial: Serial) -> Result<Vec<Session>, StoreError> {
    let clause = "WHERE mac IN (SELECT mac FROM device WHERE serial = ?1) ORDER BY id";
    tables::sessions(connection, clause, [serial.to_string()])
}

/// Local time may say the same twice, an hour or two apart; so long back the same key can have been given.
const CLOCK_CHANGE_MS: i64 = 3 * 3600 * 1000;

pub fn sessions_around(
    connection: &Connection,
    id: SessionId,
    mac: Mac,
    at: Timestamp,
) -> Result<Vec<Session>, StoreError> {
    let clause = "WHERE mac = ?1 AND started_at BETWEEN ?2 AND ?3 AND id <= ?4 ORDER BY id";
    let (from, to) = (at.millis() - CLOCK_CHANGE_MS, at.millis());
    tables::sessions(connection, clause, rusqlite::params![mac.to_string(), from, to, id.to_string()])
}

/// Serials of devices with attempts, in their order, after one.
pub fn serials_with_sessions(
    connection: &Connection,
    after: Option<Serial>,
    limit: u32,
) -> Result<Vec<Serial>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT DISTINCT serial FROM device WHERE serial > ?1 AND EXISTS \
         (SELECT 1 FROM session WHERE session.mac = device.mac) ORDER BY serial LIMIT ?2",
    )?;
    let after = after.map(|serial| serial.to_string()).unwrap_or_default();
    let texts: Vec<String> =
        statement.query_map(rusqlite::params![after, limit], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let damaged = |what| StoreError::Damaged { table: "device", what };
    texts.iter().map(|text| text.parse().map_err(damaged)).collect()
}
