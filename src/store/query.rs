//! What is asked of the tables from outside: pages of sessions.

use std::collections::BTreeMap;

use rusqlite::Connection;
use serde::Serialize;

use crate::core::device::Mac;
use crate::core::session::Session;
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
        "WHERE (?1 IS NULL OR mac = ?1) AND (?2 IS NULL OR project = ?2) \
         AND (?3 IS NULL OR coalesce(outcome, 'open') = ?3) AND (?4 IS NULL OR id < ?4) ORDER BY id DESC LIMIT ?5",
        rusqlite::params![
            filter.mac.map(|mac| mac.to_string()),
            filter.project,
            filter.outcome,
            filter.before,
            i64::from(filter.limit),
        ],
    )
}
