//! The journal: events in the order in which they happened, as the bytes that go out.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use crate::core::delivery::{PRUNE, Replay};
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
    let rows = statement.query_map(params, recorded)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

fn recorded(row: &Row<'_>) -> rusqlite::Result<Recorded> {
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
}

/// The next events of a replay; types are looked at by the reader.
pub fn replayed(connection: &Connection, after: u64, replay: &Replay, limit: u32) -> Result<Vec<Recorded>, StoreError> {
    let which = &replay.which;
    let kind = if which.device.is_some() { Some("device") } else { which.kind.as_deref() };
    let mut statement = connection.prepare_cached(
        "SELECT seq, id, name, kind, subject, occurred, body FROM event WHERE seq > ?1 AND seq <= ?2 \
         AND (?3 IS NULL OR kind = ?3) AND (?4 IS NULL OR subject = ?4) AND (?5 IS NULL OR occurred >= ?5) \
         AND (?6 IS NULL OR occurred <= ?6) AND (NOT ?7 OR EXISTS(SELECT 1 FROM dead_letter AS letter \
         WHERE letter.sink = ?8 AND letter.seq = event.seq AND letter.resolved IS NULL)) ORDER BY seq LIMIT ?9",
    )?;
    let values = rusqlite::params![
        number(after.max(replay.from.saturating_sub(1))),
        number(replay.to),
        kind,
        which.device.map(|device| device.to_string()),
        which.since.map(Timestamp::millis),
        which.until.map(Timestamp::millis),
        which.dead_letters,
        replay.sink,
        i64::from(limit),
    ];
    let rows = statement.query_map(values, recorded)?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Up to here none is kept: rows are deleted from the front only.
pub fn pruned(connection: &Connection) -> Result<u64, StoreError> {
    let oldest: Option<i64> = connection.query_row("SELECT min(seq) FROM event", [], |row| row.get(0))?;
    match oldest {
        Some(seq) => Ok(count(seq - 1)),
        None => newest(connection),
    }
}

pub fn oldest_at(connection: &Connection) -> Result<Option<Timestamp>, StoreError> {
    let at = connection
        .prepare_cached("SELECT occurred FROM event ORDER BY seq LIMIT 1")?
        .query_row([], |row| row.get(0))
        .optional()?;
    Ok(at.map(Timestamp::from_millis))
}

/// When the first event after this one happened.
pub fn next_at(connection: &Connection, after: u64) -> Result<Option<Timestamp>, StoreError> {
    let at = connection
        .prepare_cached("SELECT occurred FROM event WHERE seq > ?1 ORDER BY seq LIMIT 1")?
        .query_row([number(after)], |row| row.get(0))
        .optional()?;
    Ok(at.map(Timestamp::from_millis))
}

/// What the bodies of so many events after this one take, and the last of them.
pub fn weigh(connection: &Connection, after: u64, limit: u32) -> Result<(u64, u64), StoreError> {
    let sum: (i64, Option<i64>) = connection
        .prepare_cached(
            "SELECT coalesce(sum(length(body)), 0), max(seq) FROM (SELECT seq, body FROM event WHERE seq > ?1 ORDER BY seq LIMIT ?2)",
        )?
        .query_row([number(after), i64::from(limit)], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok((count(sum.0), sum.1.map_or(after, count)))
}

/// One of the oldest rows.
#[derive(Clone, Copy, Debug)]
pub struct Oldest {
    pub seq: u64,
    pub at: Timestamp,
    pub bytes: u64,
}

/// The `PRUNE` oldest rows.
pub fn oldest(connection: &Connection) -> Result<Vec<Oldest>, StoreError> {
    let mut statement =
        connection.prepare_cached("SELECT seq, occurred, length(body) FROM event ORDER BY seq LIMIT ?1")?;
    let rows = statement.query_map([i64::from(PRUNE)], |row| {
        Ok(Oldest { seq: count(row.get(0)?), at: Timestamp::from_millis(row.get(1)?), bytes: count(row.get(2)?) })
    })?;
    Ok(rows.collect::<Result<_, _>>()?)
}
