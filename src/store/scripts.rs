//! Scripts of the site, their texts, and what they have printed.

use rusqlite::{Connection, OptionalExtension};
use serde::Serialize;

use crate::core::plan::SessionId;
use crate::core::script::{Script, ScriptId};
use crate::core::time::Timestamp;
use crate::store::tables::{bodies, to_json};
use crate::store::{StoreError, number};

/// What a script of a session has printed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Output {
    pub script: String,
    pub at: Timestamp,
    pub text: String,
    /// There was more.
    pub truncated: bool,
}

pub fn all(connection: &Connection) -> Result<Vec<Script>, StoreError> {
    bodies(connection, "script", "SELECT body FROM script")
}

pub fn save(connection: &Connection, id: &ScriptId, script: Option<&Script>) -> Result<(), StoreError> {
    match script {
        Some(script) => connection.execute(
            "INSERT INTO script(id, body) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
            [id.as_str(), &to_json("script", script)?],
        )?,
        None => connection.execute("DELETE FROM script WHERE id = ?1", [id.as_str()])?,
    };
    Ok(())
}

/// Earlier texts stay: a session that has begun runs the one that it was planned with. A script that was deleted and is
/// put again begins at revision 1, with another text.
pub fn save_text(connection: &Connection, id: &ScriptId, revision: u64, text: &str) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO script_text(script, revision, text) VALUES (?1, ?2, ?3)",
        rusqlite::params![id.as_str(), number(revision), text],
    )?;
    Ok(())
}

pub fn text(connection: &Connection, id: &ScriptId, revision: u64) -> Result<Option<String>, StoreError> {
    let found = connection
        .prepare_cached("SELECT text FROM script_text WHERE script = ?1 AND revision = ?2")?
        .query_row(rusqlite::params![id.as_str(), number(revision)], |row| row.get(0))
        .optional()?;
    Ok(found)
}

pub fn save_output(
    connection: &Connection,
    session: SessionId,
    script: &ScriptId,
    (text, truncated): (&str, bool),
    at: Timestamp,
) -> Result<(), StoreError> {
    connection.execute(
        "INSERT OR REPLACE INTO script_output(session, script, at, text, truncated) VALUES (?1, ?2, ?3, ?4, ?5)",
        rusqlite::params![session.to_string(), script.as_str(), at.millis(), text, truncated],
    )?;
    Ok(())
}

/// In the order in which they came.
pub fn outputs(connection: &Connection, session: SessionId) -> Result<Vec<Output>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT script, at, text, truncated FROM script_output WHERE session = ?1 ORDER BY at, script",
    )?;
    let rows = statement.query_map([session.to_string()], |row| {
        let at = Timestamp::from_millis(row.get(1)?);
        Ok(Output { script: row.get(0)?, at, text: row.get(2)?, truncated: row.get(3)? })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
