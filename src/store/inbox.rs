//! Commands that were answered, with their answers: the same question again gets the same answer.

use rusqlite::{Connection, OptionalExtension};

use crate::core::command::{Command, Reply};
use crate::core::time::Timestamp;
use crate::store::StoreError;

/// What was answered to an id.
#[derive(Clone, Debug)]
pub struct Answered {
    /// SHA-256 of the content in canonical form.
    pub content: Vec<u8>,
    pub reply: Reply,
}

pub fn find(connection: &Connection, id: &str) -> Result<Option<Answered>, StoreError> {
    let row: Option<(Vec<u8>, Vec<u8>)> = connection
        .prepare_cached("SELECT content, reply FROM command WHERE command_id = ?1")?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.map(|(content, reply)| {
        serde_json::from_slice(&reply)
            .map(|reply| Answered { content, reply })
            .map_err(|error| StoreError::Damaged { table: "command", what: format!("{id}: {error}") })
    })
    .transpose()
}

pub fn keep(connection: &Connection, command: &Command, answered: &Answered, at: Timestamp) -> Result<(), StoreError> {
    let reply = serde_json::to_vec(&answered.reply)
        .map_err(|error| StoreError::Damaged { table: "command", what: error.to_string() })?;
    connection
        .prepare_cached("INSERT INTO command(command_id, name, content, transport, received, reply) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?
        .execute(rusqlite::params![
            command.id.as_str(),
            command.name,
            answered.content,
            command.transport.as_str(),
            at.millis(),
            reply,
        ])?;
    Ok(())
}
