//! The paper: one SQLite file. Rows in, rows out; what they mean is decided elsewhere.

pub mod delivery;
pub mod former;
pub mod images;
pub mod inbox;
pub mod journal;
pub mod labels;
pub mod outbox;
pub mod query;
pub mod replies;
pub mod scripts;
pub mod snapshot;
pub mod stats;
pub mod tables;
#[cfg(test)]
mod tests;
pub mod timeline;
pub mod tokens;

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

/// One script a version; `PRAGMA user_version` says how many were run.
const MIGRATIONS: [&str; 11] = [
    include_str!("migration/001.sql"),
    include_str!("migration/002.sql"),
    include_str!("migration/003.sql"),
    include_str!("migration/004.sql"),
    include_str!("migration/005.sql"),
    include_str!("migration/006.sql"),
    include_str!("migration/007.sql"),
    include_str!("migration/008.sql"),
    include_str!("migration/009.sql"),
    include_str!("migration/010.sql"),
    include_str!("migration/011.sql"),
];

/// Opens the database for writing: makes it where there is none, brings it up to this version.
pub fn open(path: &Path) -> Result<Connection, StoreError> {
    let fault = |source| StoreError::Open { path: path.to_owned(), source };
    let mut connection = Connection::open(path).map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    connection.pragma_update(None, "journal_mode", "WAL").map_err(fault)?;
    // What was acknowledged survives a power cut: each commit waits for the disk. The ledger commits in groups.
    connection.pragma_update(None, "synchronous", "FULL").map_err(fault)?;
    connection.pragma_update(None, "foreign_keys", "ON").map_err(fault)?;
    migrate(&mut connection, path)?;
    Ok(connection)
}

/// Opens it for reading only.
pub fn open_reader(path: &Path) -> Result<Connection, StoreError> {
    let fault = |source| StoreError::Open { path: path.to_owned(), source };
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags).map_err(fault)?;
    connection.busy_timeout(Duration::from_secs(5)).map_err(fault)?;
    Ok(connection)
}

/// What is damaged in the database, and whether this program knows its version. Reads only, also beside a running agent.
pub fn examine(path: &Path) -> Result<Vec<String>, StoreError> {
    let connection = open_reader(path)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    if usize::try_from(version).unwrap_or(usize::MAX) > known {
        return Err(StoreError::Newer { path: path.to_owned(), version, known });
    }
    let mut statement = connection.prepare("PRAGMA quick_check(10)")?;
    let said: Vec<String> = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    Ok(said.into_iter().filter(|line| line != "ok").collect())
}

fn migrate(connection: &mut Connection, path: &Path) -> Result<(), StoreError> {
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    let known = MIGRATIONS.len();
    let done = usize::try_from(version).unwrap_or(usize::MAX);
    if done > known {
        return Err(StoreError::Newer { path: path.to_owned(), version, known });
    }
    for (n, script) in MIGRATIONS.iter().enumerate().skip(done) {
        let step = connection.transaction()?;
        step.execute_batch(script)?;
        step.pragma_update(None, "user_version", number(n + 1))?;
        step.commit()?;
    }
    Ok(())
}

/// The epoch: a short word that changes when the database is made anew or restored.
pub fn epoch(connection: &Connection, fresh: &str) -> Result<String, StoreError> {
    connection.execute("INSERT INTO meta(k, v) VALUES ('epoch', ?1) ON CONFLICT DO NOTHING", [fresh])?;
    Ok(connection.query_row("SELECT v FROM meta WHERE k = 'epoch'", [], |row| row.get(0))?)
}

/// SQLite counts with a sign; our counts stay far below its limit.
fn number(value: impl TryInto<i64>) -> i64 {
    value.try_into().unwrap_or(i64::MAX)
}

/// A count that was written by us, so never below zero.
fn count(value: i64) -> u64 {
    u64::try_from(value).unwrap_or(0)
}

#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// At start: the folder is missing, not ours to write, or the file is no database.
    #[error("cannot open the database {path}")]
    Open { path: PathBuf, source: rusqlite::Error },
    /// A newer bootline has used this database.
    #[error(
        "the database {path} has version {version}, this bootline knows versions up to {known}: install the newer one again, or restore a backup"
    )]
    Newer { path: PathBuf, version: i64, known: usize },
    /// While running: disk full, I/O.
    #[error(transparent)]
    Sql(#[from] rusqlite::Error),
    /// A row does not read as what was written into it.
    #[error("damaged row in table {table}: {what}")]
    Damaged { table: &'static str, what: String },
}
