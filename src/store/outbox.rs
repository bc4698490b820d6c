//! Cursors: how far each sink has acknowledged the journal.

use rusqlite::{Connection, OptionalExtension};

use crate::core::time::Timestamp;
use crate::store::{StoreError, count, number};

pub fn save(connection: &Connection, sink: &str, seq: u64, at: Timestamp) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO sink(name, acked_seq, updated) VALUES (?1, ?2, ?3) \
             ON CONFLICT(name) DO UPDATE SET acked_seq = excluded.acked_seq, updated = excluded.updated",
        )?
        .execute(rusqlite::params![sink, number(seq), at.millis()])?;
    Ok(())
}

pub fn cursor(connection: &Connection, sink: &str) -> Result<u64, StoreError> {
    let seq: Option<i64> = connection
        .prepare_cached("SELECT acked_seq FROM sink WHERE name = ?1")?
        .query_row([sink], |row| row.get(0))
        .optional()?;
    Ok(seq.map_or(0, count))
}

/// The number of the newest Sparkplug connection.
pub fn count_birth(connection: &Connection, number: u8) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO meta(k, v) VALUES ('sparkplug.births', ?1) ON CONFLICT(k) DO UPDATE SET v = excluded.v",
        )?
        .execute([number.to_string()])?;
    Ok(())
}

pub fn births(connection: &Connection) -> Result<Option<u8>, StoreError> {
    let number: Option<String> = connection
        .prepare_cached("SELECT v FROM meta WHERE k = 'sparkplug.births'")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(number.and_then(|number| number.parse().ok()))
}
