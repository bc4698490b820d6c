//! Sums over sessions: yield, throughput, durations, reasons of failure. SQLite adds up, over an index that holds all
//! that is asked for.

use rusqlite::{Connection, Row, params_from_iter};

use crate::core::time::Timestamp;
use crate::store::query::Clauses;
use crate::store::{StoreError, count};

/// So many groups, and so many codes, at most.
pub const MOST_GROUPS: u32 = 1000;

/// Which sessions are added up.
#[derive(Clone, Debug, Default)]
pub struct StatsFilter {
    /// Started then or later.
    pub from: Timestamp,
    /// Started before.
    pub to: Timestamp,
    pub project: Option<String>,
    pub board: Option<String>,
    pub circuit: Option<String>,
}

/// By what they are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grouping {
    Project,
    Board,
    Circuit,
    Hour,
    Day,
}

impl Grouping {
    const fn sql(self) -> &'static str {
        match self {
            Self::Project => "project",
            Self::Board => "coalesce(board, '')",
            Self::Circuit => "coalesce(circuit, '')",
            Self::Hour => "strftime('%Y-%m-%dT%H:00:00Z', started_at / 1000, 'unixepoch')",
            Self::Day => "strftime('%Y-%m-%dT00:00:00Z', started_at / 1000, 'unixepoch')",
        }
    }
}

/// The sums of one group, or of all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sums {
    pub sessions: u64,
    pub open: u64,
    pub passed: u64,
    pub failed: u64,
    pub aborted: u64,
    pub interrupted: u64,
    /// With at least one session that has ended.
    pub devices: u64,
    /// With at least one that has passed.
    pub devices_passed: u64,
    /// Of first attempts: those that have ended, and those that have passed.
    pub first_ended: u64,
    pub first_passed: u64,
    /// Of sessions that passed, in milliseconds.
    pub mean_ms: Option<f64>,
    pub shortest_ms: Option<u64>,
    pub longest_ms: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Stats {
    pub total: Sums,
    pub groups: Vec<(String, Sums)>,
    /// Why sessions did not pass, the most frequent first.
    pub failures: Vec<(String, u64)>,
}

const SUMS: &str = "count(*), count(*) FILTER (WHERE outcome IS NULL), count(*) FILTER (WHERE outcome = 'passed'), \
    count(*) FILTER (WHERE outcome = 'failed'), count(*) FILTER (WHERE outcome = 'aborted'), \
    count(*) FILTER (WHERE outcome = 'interrupted'), count(DISTINCT mac) FILTER (WHERE outcome IS NOT NULL), \
    count(DISTINCT mac) FILTER (WHERE outcome = 'passed'), \
    count(*) FILTER (WHERE attempt = 1 AND outcome IS NOT NULL), count(*) FILTER (WHERE attempt = 1 AND outcome = 'passed'), \
    avg(ended_at - started_at) FILTER (WHERE outcome = 'passed'), \
    min(ended_at - started_at) FILTER (WHERE outcome = 'passed'), \
    max(ended_at - started_at) FILTER (WHERE outcome = 'passed')";

fn clauses(filter: &StatsFilter) -> Clauses {
    let mut clauses = Clauses::default();
    clauses.with("started_at >= ? AND started_at < ?", [filter.from.millis().into(), filter.to.millis().into()]);
    clauses.given("project = ?", filter.project.clone());
    clauses.given("board = ?", filter.board.clone());
    clauses.given("circuit = ?", filter.circuit.clone());
    clauses
}

fn sums(row: &Row<'_>, first: usize) -> rusqlite::Result<Sums> {
    let at = |n: usize| row.get::<_, i64>(first + n).map(count);
    let maybe = |n: usize| row.get::<_, Option<i64>>(first + n).map(|value| value.map(count));
    Ok(Sums {
        sessions: at(0)?,
        open: at(1)?,
        passed: at(2)?,
        failed: at(3)?,
        aborted: at(4)?,
        interrupted: at(5)?,
        devices: at(6)?,
        devices_passed: at(7)?,
        first_ended: at(8)?,
        first_passed: at(9)?,
        mean_ms: row.get(first + 10)?,
        shortest_ms: maybe(11)?,
        longest_ms: maybe(12)?,
    })
}

pub fn stats(connection: &Connection, filter: &StatsFilter, grouping: Option<Grouping>) -> Result<Stats, StoreError> {
    const FROM: &str = "FROM session INDEXED BY session_started";
    let sql = format!("SELECT {SUMS} {FROM} {}", clauses(filter).text());
    let total =
        connection.prepare_cached(&sql)?.query_row(params_from_iter(clauses(filter).values()), |row| sums(row, 0))?;

    let mut groups = Vec::new();
    if let Some(grouping) = grouping {
        let key = grouping.sql();
        let sql =
            format!("SELECT {key}, {SUMS} {FROM} {} GROUP BY 1 ORDER BY 1 LIMIT {MOST_GROUPS}", clauses(filter).text());
        let mut statement = connection.prepare_cached(&sql)?;
        let rows =
            statement.query_map(params_from_iter(clauses(filter).values()), |row| Ok((row.get(0)?, sums(row, 1)?)))?;
        groups = rows.collect::<Result<_, _>>()?;
    }

    let mut failing = clauses(filter);
    failing.with("code IS NOT NULL", []);
    let sql = format!(
        "SELECT code, count(*) AS n {FROM} {} GROUP BY 1 ORDER BY n DESC, 1 LIMIT {MOST_GROUPS}",
        failing.text()
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement
        .query_map(params_from_iter(failing.values()), |row| Ok((row.get(0)?, count(row.get::<_, i64>(1)?))))?;
    Ok(Stats { total, groups, failures: rows.collect::<Result<_, _>>()? })
}
