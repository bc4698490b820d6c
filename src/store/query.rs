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
    // Said only where it is asked for: an index is no help with `?1 IS NULL OR`, and there may be a million sessions.
    let mac = if filter.mac.is_some() { "mac = ?1" } else { "?1 IS NULL" };
    let project = if filter.project.is_some() { "project = ?2" } else { "?2 IS NULL" };
    let outcome = if filter.outcome.is_some() { "coalesce(outcome, 'open') = ?3" } else { "?3 IS NULL" };
    let before = if filter.before.is_some() { "id < ?4" } else { "?4 IS NULL" };
    tables::sessions(
        connection,
        &format!("WHERE {mac} AND {project} AND {outcome} AND {before} ORDER BY id DESC LIMIT ?5"),
        rusqlite::params![
            filter.mac.map(|mac| mac.to_string()),
            filter.project,
            filter.outcome,
            filter.before,
            i64::from(filter.limit),
        ],
    )
}
