//! Databases of every version that there was, brought up to this one.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use super::*;
use crate::core::address::Pool;
use crate::core::device::Mac;
use crate::core::floor::{Deadlines, Settings};
use crate::core::time::Timestamp;
use crate::store::former::Former;

#[test]
fn a_database_of_a_newer_version_is_refused_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    open(&path).unwrap().pragma_update(None, "user_version", 99).unwrap();
    let error = open(&path).unwrap_err().to_string();
    assert!(error.contains("version 99") && error.contains(&format!("up to {}", MIGRATIONS.len())), "{error}");
}

#[test]
fn the_epoch_stays_over_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    assert_eq!(epoch(&open(&path).unwrap(), "one").unwrap(), "one");
    assert_eq!(epoch(&open(&path).unwrap(), "two").unwrap(), "one");
}

fn settings() -> Settings {
    Settings {
        station: "st-test".to_owned(),
        version: "0".to_owned(),
        pool: Pool {
            server: Ipv4Addr::new(192, 168, 5, 1),
            first: Ipv4Addr::new(192, 168, 5, 2),
            last: Ipv4Addr::new(192, 168, 5, 99),
            lease: Duration::from_secs(3600),
            reservations: BTreeMap::new(),
        },
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    }
}

/// What the tables look like.
fn schema(connection: &Connection) -> Vec<(String, String)> {
    let sql = "SELECT type, name FROM sqlite_master UNION ALL \
               SELECT m.name, c.name || ' ' || c.type || ' ' || c.\"notnull\" || ' ' || c.pk FROM sqlite_master AS m \
               JOIN pragma_table_info(m.name) AS c WHERE m.type = 'table' ORDER BY 1, 2";
    let mut statement = connection.prepare(sql).unwrap();
    statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().collect::<Result<_, _>>().unwrap()
}

fn old(version: usize, path: &Path) {
    let dump = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/vectors/db/{version:03}.sql"));
    Connection::open(path).unwrap().execute_batch(&std::fs::read_to_string(dump).unwrap()).unwrap();
}

#[test]
fn a_database_of_each_older_version_is_brought_up_with_everything_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = open(&folder.path().join("fresh.db")).unwrap();
    for version in 1..=5 {
        let path = folder.path().join(format!("{version}.db"));
        old(version, &path);
        let connection = open(&path).unwrap();
        assert_eq!(schema(&connection), schema(&fresh), "{version}");
        assert_eq!(epoch(&connection, "new").unwrap(), "f3b88052", "{version}: the epoch is the old one");

        let now = Timestamp::from_millis(1_795_521_700_000);
        let floor = tables::load(&connection, settings(), now).unwrap_or_else(|error| panic!("{version}: {error}"));
        assert_eq!(floor.rules().rules.len(), 1);
        let mac: Mac = "020000000003".parse().unwrap();
        let open = floor.device(mac).unwrap().open_session.unwrap();
        assert!(floor.session(open).unwrap().is_open(), "{version}: an open session goes on");
        let image = floor.session(open).unwrap().plan.image;
        assert!(floor.image(&image).is_some());
        assert_eq!(floor.addresses().mac_of(Ipv4Addr::new(192, 168, 5, 2)), Some("020000000001".parse().unwrap()));

        let outcomes: Vec<Option<&str>> = tables::sessions(&connection, "ORDER BY id", [])
            .unwrap()
            .iter()
            .map(|session| session.ended.as_ref().map(|ended| ended.outcome.as_str()))
            .collect();
        assert_eq!(outcomes, [Some("passed"), Some("failed"), None], "{version}");
        let events = journal::read(&connection, 0, 100).unwrap();
        assert_eq!(events.iter().map(|event| event.seq).collect::<Vec<_>>(), (1..=8).collect::<Vec<_>>());
        assert!(events.iter().all(|event| serde_json::from_slice::<serde_json::Value>(&event.body).is_ok()));
        assert_eq!(journal::newest(&connection).unwrap(), 8, "no number is given twice");
        assert!(inbox::find(&connection, "order-0001").unwrap().is_some(), "{version}: its answer is known");

        let mqtt = &floor.delivery().sinks["mqtt"];
        assert_eq!((mqtt.acked, mqtt.bus, mqtt.enabled), (5, true, true), "{version}");
        assert!(floor.alarms().is_empty(), "{version}: the alarm that nobody could clear is gone");
        let moments = timeline::of_device(&connection, "020000000001".parse().unwrap()).unwrap();
        assert!(!moments.is_empty(), "{version}: the boot files are in the timeline");
    }
}

/// Until version 11 a project, an image and a firmware that were deleted left their ids alone in the history.
#[test]
fn what_was_deleted_before_is_called_again_as_the_journal_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    old(5, &path);
    let connection = Connection::open(&path).unwrap();
    let told = [
        ("project.created", r#"{"id":"gone","name":"First"}"#),
        ("project.updated", r#"{"id":"gone","name":"Gerät 7"}"#),
        ("image.removed", r#"{"image":"aa","name":"a.img"}"#),
        ("firmware.removed", r#"{"firmware":"bb","name":"b.bin"}"#),
    ];
    for (name, data) in told {
        let sql = "INSERT INTO event(id, name, kind, subject, occurred, body) VALUES (?1, ?2, 'x', 'x', 0, ?3)";
        let body = format!(r#"{{"data":{data}}}"#).into_bytes();
        connection.execute(sql, rusqlite::params![data, name, body]).unwrap();
    }
    let known: String = connection.query_row("SELECT id FROM project LIMIT 1", [], |row| row.get(0)).unwrap();
    drop(connection);
    let connection = open(&path).unwrap();
    let mut names: Vec<(Former, String, String)> =
        former::names(&connection).unwrap().into_iter().map(|((kind, id), name)| (kind, id, name)).collect();
    names.sort_by_key(|(_, id, _)| id.clone());
    let named = |kind, id: &str, name: &str| (kind, id.to_owned(), name.to_owned());
    let (image, firmware) = (named(Former::Image, "aa", "a.img"), named(Former::Firmware, "bb", "b.bin"));
    assert_eq!(names, [image, firmware, named(Former::Project, "gone", "Gerät 7")]);

    former::keep(&connection, Former::Project, &known).unwrap();
    assert!(former::names(&connection).unwrap().contains_key(&(Former::Project, known)));
}

#[test]
fn places_labels_and_assignments_of_version_ten_are_brought_up_too() {
    let folder = tempfile::tempdir().unwrap();
    let fresh = open(&folder.path().join("fresh.db")).unwrap();
    let path = folder.path().join("10.db");
    old(10, &path);
    let connection = open(&path).unwrap();
    assert_eq!(schema(&connection), schema(&fresh));
    let now = Timestamp::from_millis(1_795_533_400_000);
    let floor = tables::load(&connection, settings(), now).unwrap();
    let slot = &floor.slots()[&"bench-3".parse().unwrap()];
    assert_eq!((slot.passed, slot.failed), (1, 1));
    let assigned = tables::device(&connection, "020000000009".parse().unwrap()).unwrap().unwrap();
    assert_eq!(assigned.data.variables.len(), 1);
    let (waiting, printer): (u32, String) = connection
        .query_row("SELECT count(*), max(printer) FROM label_job", [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((waiting, printer.as_str()), (1, "zebra-1"), "the label is still to be printed");
    assert!(floor.alarms().contains_key("printer.zebra-1"));
    assert!(floor.device("020000000003".parse().unwrap()).unwrap().open_session.is_some());
    assert_eq!(journal::newest(&connection).unwrap(), 29);
}

#[test]
fn a_migration_that_breaks_off_leaves_the_database_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.db");
    old(5, &path);
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(MIGRATIONS[5]).unwrap();
    connection.pragma_update(None, "user_version", 6).unwrap();
    // A table of a name that the next version makes.
    connection.execute_batch("CREATE TABLE dead_letter(x)").unwrap();
    let before = schema(&connection);
    assert!(open(&path).is_err());
    assert_eq!(schema(&connection), before);
    connection.execute_batch("DROP TABLE dead_letter").unwrap();
    open(&path).unwrap();
}
