//! The boot timelines of devices.

use rusqlite::Connection;

use crate::core::device::Mac;
use crate::core::time::Timestamp;
use crate::core::timeline::{Moment, What};
use crate::store::{StoreError, count, number};

/// Rows that are kept of a device: some twenty boots.
const KEPT: u32 = 2000;
/// Rows that one answer shows.
const SHOWN: u32 = 500;

/// A device that boots or writes for ever does not fill the disk: with each boot and each text its oldest rows go.
pub fn append(connection: &Connection, mac: Mac, moments: &[Moment]) -> Result<(), StoreError> {
    let mac = mac.to_string();
    let mut insert = connection
        .prepare_cached("INSERT INTO timeline(mac, at, what, name, bytes, result) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
    for moment in moments {
        insert.execute(rusqlite::params![
            mac,
            moment.at.millis(),
            moment.what.as_str(),
            moment.name,
            number(moment.bytes),
            moment.result
        ])?;
    }
    if moments.iter().any(|moment| matches!(moment.what, What::Boot | What::Console)) {
        connection
            .prepare_cached(
                "DELETE FROM timeline WHERE mac = ?1 AND at < \
                 (SELECT at FROM timeline WHERE mac = ?1 ORDER BY at DESC, n DESC LIMIT 1 OFFSET ?2)",
            )?
            .execute(rusqlite::params![mac, KEPT])?;
    }
    Ok(())
}

/// The newest moments of a device, oldest first.
pub fn of_device(connection: &Connection, mac: Mac) -> Result<Vec<Moment>, StoreError> {
    read(connection, mac, Timestamp::from_millis(i64::MIN), Timestamp::from_millis(i64::MAX))
}

/// From the boot that led to a session until its end.
pub fn of_session(
    connection: &Connection,
    mac: Mac,
    started: Timestamp,
    ended: Option<Timestamp>,
) -> Result<Vec<Moment>, StoreError> {
    let boot: Option<i64> = connection
        .prepare_cached("SELECT max(at) FROM timeline WHERE mac = ?1 AND what = 'boot' AND at <= ?2")?
        .query_row(rusqlite::params![mac.to_string(), started.millis()], |row| row.get(0))?;
    let from = Timestamp::from_millis(boot.unwrap_or_else(|| started.millis()));
    read(connection, mac, from, ended.unwrap_or(Timestamp::from_millis(i64::MAX)))
}

fn read(connection: &Connection, mac: Mac, from: Timestamp, to: Timestamp) -> Result<Vec<Moment>, StoreError> {
    let mut statement = connection.prepare_cached(
        "SELECT at, what, name, bytes, result FROM timeline WHERE mac = ?1 AND at BETWEEN ?2 AND ?3 \
         ORDER BY at DESC, n DESC LIMIT ?4",
    )?;
    let rows = statement.query_map(rusqlite::params![mac.to_string(), from.millis(), to.millis(), SHOWN], |row| {
        Ok((row.get::<_, i64>(0)?, row.get::<_, String>(1)?, row.get(2)?, row.get::<_, i64>(3)?, row.get(4)?))
    })?;
    let mut moments = Vec::new();
    for row in rows {
        let (at, what, name, bytes, result) = row?;
        let what = what.parse().map_err(|what| StoreError::Damaged { table: "timeline", what })?;
        moments.push(Moment { at: Timestamp::from_millis(at), what, name, bytes: count(bytes), result });
    }
    moments.reverse();
    Ok(moments)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: i64, what: What, name: &str) -> Moment {
        Moment::new(Timestamp::from_millis(millis), what, name, "")
    }

    fn names(moments: &[Moment]) -> Vec<&str> {
        moments.iter().map(|moment| moment.name.as_str()).collect()
    }

    #[test]
    fn a_session_has_the_timeline_of_its_boot_alone() {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::open(&folder.path().join("x.db")).unwrap();
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let boots = [at(10, What::Boot, "one"), at(11, What::File, "a"), at(50, What::Boot, "two")];
        append(&connection, mac, &boots).unwrap();
        append(&connection, Mac::new([2, 0, 0, 0, 0, 2]), &[at(55, What::File, "other")]).unwrap();
        // The files come a second later than they were.
        append(&connection, mac, &[at(60, What::Script, "s"), at(52, What::File, "b"), at(90, What::Boot, "three")])
            .unwrap();
        assert_eq!(names(&of_device(&connection, mac).unwrap()), ["one", "a", "two", "b", "s", "three"]);
        let (started, ended) = (Timestamp::from_millis(60), Some(Timestamp::from_millis(80)));
        assert_eq!(names(&of_session(&connection, mac, started, ended).unwrap()), ["two", "b", "s"]);
    }

    #[test]
    fn a_device_that_boots_for_ever_keeps_its_newest_rows() {
        let folder = tempfile::tempdir().unwrap();
        let connection = crate::store::open(&folder.path().join("x.db")).unwrap();
        let mac = Mac::new([2, 0, 0, 0, 0, 1]);
        let many: Vec<Moment> = (0..3000).map(|n| at(n, What::File, "f")).collect();
        append(&connection, mac, &many).unwrap();
        append(&connection, mac, &[at(3000, What::Boot, "b")]).unwrap();
        let left: u32 = connection.query_row("SELECT count(*) FROM timeline", [], |row| row.get(0)).unwrap();
        assert_eq!(left, KEPT + 1);
        assert_eq!(of_device(&connection, mac).unwrap().last().unwrap().name, "b");
    }
}
