//! Sinks, dead letters, and what is deleted because it is old.

use rusqlite::{Connection, OptionalExtension};
use schemars::JsonSchema;
use serde::Serialize;

use crate::core::delivery::{Delivery, Drained, PRUNE, Sink, SinkState};
use crate::core::floor::Note;
use crate::core::time::Timestamp;
use crate::store::{StoreError, count, journal, number, tables};

/// An event that a sink would not take.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct DeadLetter {
    /// Of the event.
    pub sequence: u64,
    /// Its type, while it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// Why not.
    pub reason: String,
    /// How often it was offered.
    pub attempts: u32,
    /// When it was given up.
    pub at: Timestamp,
}

pub fn load(connection: &Connection) -> Result<Delivery, StoreError> {
    let mut delivery = Delivery {
        newest: journal::newest(connection)?,
        pruned: journal::pruned(connection)?,
        drained: drained(connection)?,
        ..Delivery::default()
    };
    let mut sinks = connection.prepare("SELECT name, acked_seq, bus, enabled, state, reason, since FROM sink")?;
    let mut rows = sinks.query([])?;
    while let Some(row) = rows.next()? {
        let state: String = row.get(4)?;
        let sink = Sink {
            acked: count(row.get(1)?),
            bus: row.get(2)?,
            enabled: row.get(3)?,
            state: SinkState::parse(&state)
                .ok_or_else(|| StoreError::Damaged { table: "sink", what: format!("state {state:?}") })?,
            reason: row.get(5)?,
            since: Timestamp::from_millis(row.get(6)?),
            ..Sink::default()
        };
        delivery.sinks.insert(row.get(0)?, sink);
    }
    let mut dead = connection.prepare("SELECT sink, seq FROM dead_letter WHERE resolved IS NULL")?;
    let mut rows = dead.query([])?;
    while let Some(row) = rows.next()? {
        let (name, seq): (String, i64) = (row.get(0)?, row.get(1)?);
        if let Some(sink) = delivery.sinks.get_mut(&name) {
            sink.dead.insert(count(seq));
        }
    }
    Ok(delivery)
}

fn drained(connection: &Connection) -> Result<Option<Drained>, StoreError> {
    let text: Option<String> =
        connection.query_row("SELECT v FROM meta WHERE k = 'drained'", [], |row| row.get(0)).optional()?;
    let read = |text: String| {
        serde_json::from_str(&text).map_err(|error| StoreError::Damaged { table: "meta", what: error.to_string() })
    };
    text.map(read).transpose()
}

pub fn save_drained(connection: &Connection, drained: Option<&Drained>) -> Result<(), StoreError> {
    match drained {
        Some(drained) => connection.execute(
            "INSERT INTO meta(k, v) VALUES ('drained', ?1) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
            [tables::to_json("meta", drained)?],
        )?,
        None => connection.execute("DELETE FROM meta WHERE k = 'drained'", [])?,
    };
    Ok(())
}

/// Notes of sinks and of what is deleted.
pub fn save(connection: &Connection, note: &Note, at: Timestamp) -> Result<(), StoreError> {
    match note {
        Note::SinkSet { name, sink } => save_sink(connection, name, sink, at)?,
        Note::DeadLetter { sink, seq, reason } => {
            connection.execute(
                "INSERT INTO sink(name, acked_seq, updated) VALUES (?1, 0, ?2) ON CONFLICT DO NOTHING",
                rusqlite::params![sink, at.millis()],
            )?;
            connection.execute(
                "INSERT INTO dead_letter(sink, seq, reason, attempts, at) VALUES (?1, ?2, ?3, 1, ?4) \
                 ON CONFLICT DO UPDATE SET reason = excluded.reason, attempts = attempts + 1, resolved = NULL",
                rusqlite::params![sink, number(*seq), reason, at.millis()],
            )?;
        }
        Note::DeadLetterGone { sink, seq } => {
            connection.execute(
                "UPDATE dead_letter SET resolved = ?3 WHERE sink = ?1 AND seq = ?2",
                rusqlite::params![sink, number(*seq), at.millis()],
            )?;
        }
        Note::JournalPruned { through } => {
            connection.prepare_cached("DELETE FROM event WHERE seq <= ?1")?.execute([number(*through)])?;
        }
        Note::InboxAged { before } => age(connection, *before)?,
        _ => {}
    }
    Ok(())
}

fn save_sink(connection: &Connection, name: &str, sink: &Sink, at: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO sink(name, acked_seq, updated, bus, enabled, state, reason, since) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) \
             ON CONFLICT(name) DO UPDATE SET acked_seq = excluded.acked_seq, updated = excluded.updated, bus = excluded.bus, \
             enabled = excluded.enabled, state = excluded.state, reason = excluded.reason, since = excluded.since",
        )?
        .execute(rusqlite::params![
            name,
            number(sink.acked),
            at.millis(),
            sink.bus,
            sink.enabled,
            sink.state.as_str(),
            sink.reason,
            sink.since.millis(),
        ])?;
    Ok(())
}

/// A few rows at a time, as everything on the writer. The answer to a command whose work goes on is kept.
fn age(connection: &Connection, before: Timestamp) -> Result<(), StoreError> {
    let values = [before.millis(), i64::from(PRUNE)];
    connection.execute(
        "DELETE FROM command WHERE command_id IN (SELECT command_id FROM command WHERE received < ?1 \
         AND NOT EXISTS(SELECT 1 FROM job WHERE job.id = command_id AND job.state = 'running') ORDER BY received LIMIT ?2)",
        values,
    )?;
    connection.execute(
        "DELETE FROM dead_letter WHERE rowid IN (SELECT rowid FROM dead_letter WHERE resolved < ?1 LIMIT ?2)",
        values,
    )?;
    Ok(())
}

/// Is there an answer to a command from before?
pub fn is_aged(connection: &Connection, before: Timestamp) -> Result<bool, StoreError> {
    let sql = "SELECT EXISTS(SELECT 1 FROM command WHERE received < ?1 \
               AND NOT EXISTS(SELECT 1 FROM job WHERE job.id = command_id AND job.state = 'running')) \
               OR EXISTS(SELECT 1 FROM dead_letter WHERE resolved < ?1)";
    Ok(connection.query_row(sql, [before.millis()], |row| row.get(0))?)
}

/// Those that nobody has dealt with, the oldest first, after one.
pub fn dead_letters(
    connection: &Connection,
    sink: &str,
    after: u64,
    limit: u32,
) -> Result<Vec<DeadLetter>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT letter.seq, event.name, letter.reason, letter.attempts, letter.at FROM dead_letter AS letter \
         LEFT JOIN event ON event.seq = letter.seq WHERE letter.sink = ?1 AND letter.seq > ?2 AND letter.resolved IS NULL \
         ORDER BY letter.seq LIMIT ?3",
    )?;
    let rows = statement.query_map(rusqlite::params![sink, number(after), i64::from(limit)], |row| {
        Ok(DeadLetter {
            sequence: count(row.get(0)?),
            event: row.get(1)?,
            reason: row.get(2)?,
            attempts: row.get(3)?,
            at: Timestamp::from_millis(row.get(4)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
