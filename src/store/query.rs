//! What is asked of the tables from outside: pages of devices and sessions, the files of a boot.

use rusqlite::Connection;

use crate::core::device::Mac;
use crate::core::session::Session;
use crate::store::{StoreError, count, tables};

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

/// How many sessions ended in which way; `open` for those that have not.
pub fn outcomes(connection: &Connection) -> Result<Vec<(String, u64)>, StoreError> {
    let mut statement = connection.prepare("SELECT coalesce(outcome, 'open'), count(*) FROM session GROUP BY 1")?;
    let rows = statement.query_map([], |row| Ok((row.get(0)?, count(row.get(1)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}
