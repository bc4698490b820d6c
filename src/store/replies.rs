//! Last replies of long work: addressed, so not in the journal, and kept until the broker has them.

use rusqlite::Connection;

use crate::core::command::{Command, Reply};
use crate::core::time::Timestamp;
use crate::store::{StoreError, count, number};

/// How long a last reply is worth sending after the work has ended.
const KEEP_MS: i64 = 24 * 3600 * 1000;
/// So many at a time.
const PAGE: i64 = 64;

/// A reply that is to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    pub n: u64,
    pub command_id: String,
    pub address: String,
    pub correlation: Vec<u8>,
    pub body: Vec<u8>,
}

/// Somebody waits for the end of what this command began.
pub fn owe(connection: &Connection, command: &Command) -> Result<(), StoreError> {
    let Some(to) = &command.reply_to else { return Ok(()) };
    connection
        .prepare_cached(
            "INSERT INTO reply_outbox(command_id, transport, address, correlation) VALUES (?1, ?2, ?3, ?4) \
             ON CONFLICT DO NOTHING",
        )?
        .execute(rusqlite::params![command.id.as_str(), command.transport.as_str(), to.address, to.correlation])?;
    Ok(())
}

/// The work has ended: from now on this is the answer to the command, and what all who wait are told.
pub fn conclude(connection: &Connection, reply: &Reply, now: Timestamp) -> Result<(), StoreError> {
    let id = reply.command_id.as_str();
    let body = serde_json::to_vec(reply)
        .map_err(|error| StoreError::Damaged { table: "reply_outbox", what: error.to_string() })?;
    connection
        .prepare_cached("UPDATE command SET reply = ?2 WHERE command_id = ?1")?
        .execute(rusqlite::params![id, body])?;
    connection
        .prepare_cached("UPDATE reply_outbox SET body = ?2, not_after = ?3 WHERE command_id = ?1 AND body IS NULL")?
        .execute(rusqlite::params![id, body, now.millis() + KEEP_MS])?;
    connection.execute("DELETE FROM reply_outbox WHERE not_after < ?1", [now.millis()])?;
    Ok(())
}

pub fn delivered(connection: &Connection, n: u64) -> Result<(), StoreError> {
    connection.prepare_cached("DELETE FROM reply_outbox WHERE n = ?1")?.execute([number(n)])?;
    Ok(())
}

/// What is to be sent over a transport, the oldest first.
pub fn due(connection: &Connection, transport: &str, now: Timestamp) -> Result<Vec<Due>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT n, command_id, address, correlation, body FROM reply_outbox \
         WHERE transport = ?1 AND body IS NOT NULL AND not_after >= ?2 ORDER BY n LIMIT ?3",
    )?;
    let rows = statement.query_map(rusqlite::params![transport, now.millis(), PAGE], |row| {
        Ok(Due {
            n: count(row.get(0)?),
            command_id: row.get(1)?,
            address: row.get(2)?,
            correlation: row.get(3)?,
            body: row.get(4)?,
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
