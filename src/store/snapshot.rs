//! A database as one file of one moment, taken while others write; and such a file made the database again.

use std::path::Path;

use rusqlite::Connection;
use rusqlite::backup::{Backup, StepResult};

use crate::core::firmware::Firmware;
use crate::core::image::Image;
use crate::store::{MIGRATIONS, StoreError, count, journal, number, open, open_reader, tables};

/// What a database holds.
#[derive(Debug)]
pub struct Contents {
    pub version: u64,
    pub epoch: String,
    pub newest: u64,
    pub images: Vec<Image>,
    pub firmware: Vec<Firmware>,
}

/// Copies the database into a new file. All of it is read in one transaction: who writes meanwhile waits for nothing,
/// and nothing of that is in the copy.
pub fn copy(database: &Path, to: &Path) -> Result<(), StoreError> {
    let source = open_reader(database)?;
    let mut target = Connection::open(to).map_err(|source| StoreError::Open { path: to.to_owned(), source })?;
    {
        let backup = Backup::new(&source, &mut target)?;
        while backup.step(-1)? != StepResult::Done {
            std::thread::yield_now();
        }
    }
    // One file, without a log beside it.
    target.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}

/// Looks into a copy; it must be whole, and not newer than this program.
pub fn contents(path: &Path) -> Result<Contents, StoreError> {
    let connection = open_reader(path)?;
    whole(&connection)?;
    let version: i64 = connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
    if version > number(MIGRATIONS.len()) {
        return Err(StoreError::Newer { path: path.to_owned(), version, known: MIGRATIONS.len() });
    }
    Ok(Contents {
        version: count(version),
        epoch: connection.query_row("SELECT v FROM meta WHERE k = 'epoch'", [], |row| row.get(0))?,
        newest: journal::newest(&connection)?,
        images: tables::images(&connection)?,
        firmware: match version {
            ..3 => Vec::new(),
            _ => tables::firmware(&connection)?,
        },
    })
}

fn whole(connection: &Connection) -> Result<(), StoreError> {
    let verdict: String = connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    match verdict.as_str() {
        "ok" => Ok(()),
        _ => Err(StoreError::Damaged { table: "all", what: verdict }),
    }
}

/// Makes a copy ready to go on from: brought up to this version, with an epoch of its own, because sequence numbers
/// that were given after the copy will be given again.
pub fn renew(path: &Path, epoch: &str) -> Result<(), StoreError> {
    let connection = open(path)?;
    connection.execute("INSERT OR REPLACE INTO meta(k, v) VALUES ('epoch', ?1)", [epoch])?;
    connection.pragma_update(None, "journal_mode", "DELETE")?;
    Ok(())
}
