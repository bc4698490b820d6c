//! Rows of images and of the work on them.

use rusqlite::{Connection, OptionalExtension};

use crate::core::floor::{Floor, Note};
use crate::core::image::{Digest, Keeping, ZeroMap};
use crate::core::job::Job;
use crate::core::time::Timestamp;
use crate::store::StoreError;

/// How long an ended job can be asked for.
const KEEP_MS: i64 = 30 * 24 * 3600 * 1000;

fn from_json<T: serde::de::DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged { table, what: error.to_string() })
}

fn to_json<T: serde::Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged { table, what: error.to_string() })
}

pub fn load(connection: &Connection, floor: &mut Floor) -> Result<(), StoreError> {
    for (image, keeping) in keepings(connection)? {
        floor.learn_keeping(image, keeping);
    }
    for job in ended_jobs(connection)?.iter().rev() {
        floor.learn_job(job);
    }
    for job in open_jobs(connection)? {
        floor.learn_job(&job);
    }
    Ok(())
}

/// Notes of images and jobs.
pub fn save(connection: &Connection, note: &Note) -> Result<(), StoreError> {
    match note {
        Note::Job(job) => save_job(connection, job)?,
        Note::Kept { image, keeping } => {
            connection
                .prepare_cached(
                    "INSERT INTO keeping(image, body) VALUES (?1, ?2) ON CONFLICT(image) DO UPDATE SET body = excluded.body",
                )?
                .execute([image.to_string(), to_json("keeping", keeping)?])?;
        }
        Note::Zeros { image, zeros } => {
            connection
                .prepare_cached("INSERT OR REPLACE INTO zero_map(image, body) VALUES (?1, ?2)")?
                .execute([image.to_string(), to_json("zero_map", zeros)?])?;
        }
        _ => {}
    }
    Ok(())
}

fn save_job(connection: &Connection, job: &Job) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO job(id, image, state, started, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(id) DO UPDATE \
             SET image = excluded.image, state = excluded.state, body = excluded.body",
        )?
        .execute(rusqlite::params![
            job.id.as_str(),
            job.image.map(|image| image.to_string()),
            job.state.as_str(),
            job.started_at.millis(),
            to_json("job", job)?,
        ])?;
    if !job.is_open() {
        let before = job.started_at.millis() - KEEP_MS;
        connection.execute("DELETE FROM job WHERE state <> 'running' AND started < ?1", [before])?;
    }
    Ok(())
}

pub fn forget(connection: &Connection, image: Digest) -> Result<(), StoreError> {
    let image = image.to_string();
    connection.execute("DELETE FROM keeping WHERE image = ?1", [&image])?;
    connection.execute("DELETE FROM zero_map WHERE image = ?1", [&image])?;
    Ok(())
}

fn jobs<P: rusqlite::Params>(connection: &Connection, clause: &str, params: P) -> Result<Vec<Job>, StoreError> {
    let mut statement = connection.prepare_cached(&format!("SELECT body FROM job {clause}"))?;
    let texts: Vec<String> = statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?;
    texts.iter().map(|text| from_json("job", text)).collect()
}

pub fn open_jobs(connection: &Connection) -> Result<Vec<Job>, StoreError> {
    jobs(connection, "WHERE state = 'running' ORDER BY started, id", [])
}

/// The last ones about a file that came: some say why it is no image.
fn ended_jobs(connection: &Connection) -> Result<Vec<Job>, StoreError> {
    jobs(connection, "WHERE state <> 'running' AND image IS NOT NULL ORDER BY started DESC, id DESC LIMIT 256", [])
}

pub fn newest_jobs(connection: &Connection, limit: u32) -> Result<Vec<Job>, StoreError> {
    jobs(connection, "ORDER BY started DESC, id DESC LIMIT ?1", [limit])
}

pub fn job(connection: &Connection, id: &str) -> Result<Option<Job>, StoreError> {
    Ok(jobs(connection, "WHERE id = ?1", [id])?.pop())
}

/// The newest that was about this image.
pub fn job_of(connection: &Connection, image: Digest) -> Result<Option<Job>, StoreError> {
    Ok(jobs(connection, "WHERE image = ?1 ORDER BY started DESC LIMIT 1", [image.to_string()])?.pop())
}

pub fn keepings(connection: &Connection) -> Result<Vec<(Digest, Keeping)>, StoreError> {
    let mut statement = connection.prepare_cached("SELECT image, body FROM keeping")?;
    let rows: Vec<(String, String)> =
        statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?.collect::<Result<_, _>>()?;
    rows.into_iter()
        .map(|(image, body)| {
            let image = image.parse().map_err(|what| StoreError::Damaged { table: "keeping", what })?;
            Ok((image, from_json("keeping", &body)?))
        })
        .collect()
}

pub fn zero_map(connection: &Connection, image: Digest) -> Result<Option<ZeroMap>, StoreError> {
    let sql = "SELECT body FROM zero_map WHERE image = ?1";
    let body: Option<String> =
        connection.prepare_cached(sql)?.query_row([image.to_string()], |row| row.get(0)).optional()?;
    body.map(|body| from_json("zero_map", &body)).transpose()
}

/// Sessions that have not ended: while there are some, the machine has better things to do.
pub fn open_sessions(connection: &Connection) -> Result<i64, StoreError> {
    Ok(connection.query_row("SELECT count(*) FROM session WHERE outcome IS NULL", [], |row| row.get(0))?)
}

/// When images were last given to a device, by the sessions that got them.
pub fn last_used(connection: &Connection, image: Digest) -> Result<Timestamp, StoreError> {
    let sql = "SELECT coalesce(max(started_at), 0) FROM session WHERE image = ?1";
    let at: i64 = connection.prepare_cached(sql)?.query_row([image.to_string()], |row| row.get(0))?;
    Ok(Timestamp::from_millis(at))
}
