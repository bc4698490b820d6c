//! Labels of the site, their texts, and the queue of each printer.

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension};

use crate::core::floor::Floor;
use crate::core::label::{Label, LabelId, LabelJob, Labels};
use crate::store::tables::{bodies, to_json};
use crate::store::{StoreError, count, number};

pub fn load(connection: &Connection, floor: &mut Floor) -> Result<(), StoreError> {
    for label in all(connection)? {
        floor.learn_label(label);
    }
    let newest: Option<i64> = connection
        .query_row("SELECT seq FROM sqlite_sequence WHERE name = 'label_job'", [], |row| row.get(0))
        .optional()?;
    floor.learn_label_jobs(jobs(connection)?, count(newest.unwrap_or_default()));
    Ok(())
}

pub fn all(connection: &Connection) -> Result<Vec<Label>, StoreError> {
    bodies(connection, "label", "SELECT body FROM label ORDER BY id")
}

/// In the order in which they were queued.
pub fn jobs(connection: &Connection) -> Result<Vec<LabelJob>, StoreError> {
    bodies(connection, "label_job", "SELECT body FROM label_job ORDER BY job")
}

/// Rows of what has changed, as the floor has it now.
pub fn save_all(
    connection: &Connection,
    labels: &Labels,
    templates: &BTreeSet<LabelId>,
    jobs: &BTreeSet<u64>,
) -> Result<(), StoreError> {
    for id in templates {
        match labels.templates.get(id) {
            Some(label) => connection.execute(
                "INSERT INTO label(id, body) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
                [id.as_str(), &to_json("label", label)?],
            )?,
            None => connection.execute("DELETE FROM label WHERE id = ?1", [id.as_str()])?,
        };
    }
    for job in jobs {
        match labels.jobs.get(job) {
            Some(waiting) => connection.execute(
                "INSERT OR REPLACE INTO label_job(job, printer, body) VALUES (?1, ?2, ?3)",
                rusqlite::params![number(*job), waiting.printer.as_str(), to_json("label_job", waiting)?],
            )?,
            None => connection.execute("DELETE FROM label_job WHERE job = ?1", [number(*job)])?,
        };
    }
    Ok(())
}

/// Earlier texts stay: what was queued is printed as it was queued.
pub fn save_text(connection: &Connection, id: &LabelId, revision: u64, text: &str) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO label_text(label, revision, text) VALUES (?1, ?2, ?3)",
        rusqlite::params![id.as_str(), number(revision), text],
    )?;
    Ok(())
}

pub fn text(connection: &Connection, id: &LabelId, revision: u64) -> Result<Option<String>, StoreError> {
    let found = connection
        .prepare_cached("SELECT text FROM label_text WHERE label = ?1 AND revision = ?2")?
        .query_row(rusqlite::params![id.as_str(), number(revision)], |row| row.get(0))
        .optional()?;
    Ok(found)
}
