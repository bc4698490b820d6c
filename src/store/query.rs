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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_page_of_sessions_reads_those_that_it_does_not_show() {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::open(&folder.path().join("x.db")).unwrap();
        let some = |text: &str| Some(text.to_owned());
        let mac = Some("020000000001".parse().unwrap());
        let none = SessionFilter::default();
        for (filter, index) in [
            (SessionFilter { mac, ..none.clone() }, "session_device"),
            (SessionFilter { mac, before: some("x"), ..none.clone() }, "session_device"),
            (SessionFilter { project: some("a"), ..none.clone() }, "session_project"),
            (SessionFilter { outcome: some("failed"), ..none.clone() }, "session_outcome"),
            (SessionFilter { before: some("x"), ..none.clone() }, "sqlite_autoindex_session_1"),
        ] {
            let sql = format!("EXPLAIN QUERY PLAN SELECT body FROM session {}", clause(&filter));
            let plan: Vec<String> = connection
                .prepare(&sql)
                .unwrap()
                .query_map([const { None::<String> }; 5], |row| row.get(3))
                .unwrap()
                .flatten()
                .collect();
            let plan = plan.join("; ");
            assert!(plan.starts_with(&format!("SEARCH session USING INDEX {index}")), "{filter:?}: {plan}");
            assert!(!plan.contains("B-TREE"), "it is found in its order: {plan}");
        }
    }
}
