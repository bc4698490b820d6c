//! The journal: events in the order in which they happened, as the bytes that go out.

use bytes::Bytes;
use rusqlite::Connection;
use uuid::Uuid;

use crate::core::time::Timestamp;
use crate::store::{StoreError, count, number};

/// One event as it stands in the journal: the bytes go out unchanged on every transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub seq: u64,
    pub id: Uuid,
    /// `device.step.started`
    pub name: String,
    pub kind: String,
    /// The last level of the topic.
    pub subject: String,
    pub occurred: Timestamp,
    /// The `CloudEvent`, structured JSON.
    pub body: Bytes,
}

pub fn append(connection: &Connection, event: &Recorded) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO event(seq, id, name, kind, subject, occurred, body) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
        )?
        .execute(rusqlite::params![
            number(event.seq),
            event.id.to_string(),
            event.name,
            event.kind,
            event.subject,
            event.occurred.millis(),
            event.body.as_ref(),
        ])?;
    Ok(())
}

/// The number of the newest event that ever was, even if it was pruned since.
pub fn newest(connection: &Connection) -> Result<u64, StoreError> {
    let seq: i64 = connection.query_row(
        "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'event'), 0)",
        [],
        |row| row.get(0),
    )?;
    Ok(count(seq))
}

pub fn read(connection: &Connection, after: u64, limit: u32) -> Result<Vec<Recorded>, StoreError> {
    select(connection, "WHERE seq > ?1 ORDER BY seq LIMIT ?2", [number(after), i64::from(limit)])
}

/// `clause` is our own text; values come as parameters.
pub fn select<P: rusqlite::Params>(
    connection: &Connection,
    clause: &str,
    params: P,
) -> Result<Vec<Recorded>, StoreError> {
    let sql = format!("SELECT seq, id, name, kind, subject, occurred, body FROM event {clause}");
    let mut statement = connection.prepare_cached(&sql)?;
    let rows = statement.query_map(params, |row| {
        let id: String = row.get(1)?;
        Ok(Recorded {
            seq: count(row.get(0)?),
            id: Uuid::parse_str(&id).unwrap_or_default(),
            name: row.get(2)?,
            kind: row.get(3)?,
            subject: row.get(4)?,
            occurred: Timestamp::from_millis(row.get(5)?),
            body: Bytes::from(row.get::<_, Vec<u8>>(6)?),
        })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
