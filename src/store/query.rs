//! What is asked of the tables from outside: pages of sessions.

use rusqlite::Connection;

use crate::core::device::Mac;
use crate::core::session::Session;
use crate::store::{StoreError, tables};

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
