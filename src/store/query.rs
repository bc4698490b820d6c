//! What is asked of the tables from outside: pages of sessions.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use crate::core::device::{Mac, Serial};
use crate::core::plan::SessionId;
use crate::core::session::Session;
use crate::core::time::Timestamp;
use crate::store::{StoreError, count, journal, tables};

/// Which sessions; newest first.
#[derive(Clone, Debug, Default)]
pub struct SessionFilter {
    pub mac: Option<Mac>,
    pub project: Option<String>,
    /// `passed`, `failed`, `aborted`, `interrupted`, `open`
    pub outcome: Option<String>,
    /// Only those older than this session id: the cursor of a page.
    pub before: Option<String>,
    pub limit: u32,
}

/// How the sessions of all projects ended.
#[derive(Clone, Debug)]
pub struct Tally {
    /// The newest event that was counted.
    pub newest: u64,
    /// Project, outcome (`open`: not yet), how many.
    pub sessions: Vec<(String, String, u64)>,
}

pub fn tally(connection: &Connection) -> Result<Tally, StoreError> {
    // Sessions and their events are written in one transaction and read in one.
    let reading = connection.unchecked_transaction()?;
    let newest = journal::newest(&reading)?;
    let mut statement =
        reading.prepare_cached("SELECT project, coalesce(outcome, 'open'), count(*) FROM session GROUP BY 1, 2")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, count(row.get(2)?))))?;
    let sessions = rows.collect::<Result<_, _>>()?;
    Ok(Tally { newest, sessions })
}

/// Sessions of a project by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub passed: u64,
    pub failed: u64,
    pub aborted: u64,
    pub interrupted: u64,
    pub open: u64,
}

/// By project.
pub fn counts(connection: &Connection) -> Result<BTreeMap<String, Counts>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT project, outcome, count(*) FROM session GROUP BY project, outcome")?;
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
    Ok(all)
}

pub fn sessions(connection: &Connection, filter: &SessionFilter) -> Result<Vec<Session>, StoreError> {
    tables::sessions(
        connection,
        &clause(filter),
        rusqlite::params![
            filter.mac.map(|mac| mac.to_string()),
            filter.project,
            filter.outcome,
            filter.before,
            i64::from(filter.limit),
        ],
    )
}

/// Only what is asked for is said: an index is no help with `?1 IS NULL OR`, and there may be a million sessions.
fn clause(filter: &SessionFilter) -> String {
    let mac = if filter.mac.is_some() { "mac = ?1" } else { "?1 IS NULL" };
    let project = if filter.project.is_some() { "project = ?2" } else { "?2 IS NULL" };
    let outcome = if filter.outcome.is_some() { "coalesce(outcome, 'open') = ?3" } else { "?3 IS NULL" };
    let before = if filter.before.is_some() { "id < ?4" } else { "?4 IS NULL" };
    format!("WHERE {mac} AND {project} AND {outcome} AND {before} ORDER BY id DESC LIMIT ?5")
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
