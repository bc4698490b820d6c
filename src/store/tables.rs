//! Rows of what the station knows: written from the floor as it stands, read back at start and on demand.

use std::net::Ipv4Addr;

use rusqlite::{Connection, OptionalExtension, Row};
use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::core::device::{Facts, Mac, Serial};
use crate::core::firmware::Firmware;
use crate::core::floor::{Device, Floor, GONE, Note, Settings};
use crate::core::image::{Digest, Image};
use crate::core::observation::{Evidence, Vitals};
use crate::core::plan::{Plan, SessionId};
use crate::core::project::{Project, ProjectId};
use crate::core::rule::Rules;
use crate::core::script::DeviceData;
use crate::core::session::{Ended, Life, Outcome, Running, Session, StepName};
use crate::core::slot::{SlotName, SlotState, SwitchPort};
use crate::core::time::Timestamp;
use crate::store::former::Former;
use crate::store::{
    StoreError, delivery, former, images as image_rows, labels, outbox, replies, scripts, timeline, tokens,
};

/// Everything but devices and closed sessions, which are many: those come one by one when they are asked about.
pub fn load(connection: &Connection, settings: Settings, now: Timestamp) -> Result<Floor, StoreError> {
    let mut floor = Floor::new(settings);
    for project in projects(connection)? {
        floor.learn_project(project);
    }
    for image in images(connection)? {
        floor.learn_image(image);
    }
    let rules: Option<String> =
        connection.query_row("SELECT v FROM meta WHERE k = 'rules'", [], |row| row.get(0)).optional()?;
    if let Some(rules) = rules {
        floor.learn_rules(from_json("meta", &rules)?);
    }
    let slots: Option<String> =
        connection.query_row("SELECT v FROM meta WHERE k = 'slots'", [], |row| row.get(0)).optional()?;
    if let Some(slots) = slots {
        floor.learn_slots(from_json("meta", &slots)?);
    }
    load_firmware(connection, &mut floor)?;
    for script in scripts::all(connection)? {
        floor.learn_script(script);
    }
    for token in tokens::all(connection)? {
        floor.learn_token(token);
    }
    labels::load(connection, &mut floor)?;
    image_rows::load(connection, &mut floor)?;
    load_addresses(connection, &mut floor)?;
    let mut alarms = connection.prepare("SELECT code, detail FROM alarm")?;
    for row in alarms.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))? {
        let (code, detail) = row?;
        floor.learn_alarm(code, detail);
    }
    load_doubts(connection, &mut floor)?;
    floor.learn_delivery(delivery::load(connection)?);
    load_awaited(connection, &mut floor, now)?;
    for mut session in sessions(connection, "WHERE outcome IS NULL", [])? {
        // The station was away, not the device: its silence is counted from now.
        session.life = Life { last_sign: now, last_byte: now, ..Life::default() };
        if let Some(device) = device(connection, session.mac)? {
            floor.learn_device(device);
        }
        floor.learn_session(session);
    }
    Ok(floor)
}

/// Devices that were seen lately and are to ask for their script.
fn load_awaited(connection: &Connection, floor: &mut Floor, now: Timestamp) -> Result<(), StoreError> {
    if floor.settings().line.automatic.is_none() {
        return Ok(());
    }
    let lately = now.millis().saturating_sub(i64::try_from(GONE.as_millis()).unwrap_or(i64::MAX));
    let seen: Vec<Device> = bodies_of(connection, "device", "SELECT body FROM device WHERE seen_at >= ?1", [lately])?;
    for device in seen.into_iter().filter(|device| device.awaited.since.is_some()) {
        floor.learn_awaited(device, now);
    }
    Ok(())
}

fn load_firmware(connection: &Connection, floor: &mut Floor) -> Result<(), StoreError> {
    for firmware in firmware(connection)? {
        floor.learn_firmware(firmware);
    }
    let mut edits = connection.prepare("SELECT firmware, bootconf, sha256 FROM firmware_edit")?;
    for row in edits.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?, row.get::<_, String>(2)?)))? {
        let (firmware, bootconf, sha256) = row?;
        floor.learn_edit(parse("firmware_edit", &firmware)?, bootconf, parse("firmware_edit", &sha256)?);
    }
    Ok(())
}

fn load_doubts(connection: &Connection, floor: &mut Floor) -> Result<(), StoreError> {
    let mut doubts = connection.prepare("SELECT doubt, mac FROM doubt")?;
    for row in doubts.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?)))? {
        let (doubt, mac) = row?;
        floor.learn_doubt(parse("doubt", &doubt)?, parse("doubt", &mac)?);
    }
    Ok(())
}

fn save_doubt(connection: &Connection, note: &Note) -> Result<(), StoreError> {
    let (sql, doubt, mac) = match note {
        Note::Doubted { doubt, mac } => ("INSERT OR IGNORE INTO doubt(doubt, mac) VALUES (?1, ?2)", doubt, mac),
        Note::Trusted { doubt, mac } => ("DELETE FROM doubt WHERE doubt = ?1 AND mac = ?2", doubt, mac),
        _ => return Ok(()),
    };
    connection.execute(sql, [doubt.as_str(), &mac.to_string()])?;
    Ok(())
}

fn load_addresses(connection: &Connection, floor: &mut Floor) -> Result<(), StoreError> {
    let mut leases = connection.prepare("SELECT address, mac, until_ms FROM lease")?;
    for row in leases.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, String>(1)?, row.get(2)?)))? {
        let (address, mac, until) = row?;
        floor.learn_lease(parse("lease", &mac)?, parse("lease", &address)?, Timestamp::from_millis(until));
    }
    let mut aside = connection.prepare("SELECT address, until_ms FROM quarantine")?;
    for row in aside.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get(1)?)))? {
        let (address, until) = row?;
        floor.learn_quarantine(parse("quarantine", &address)?, Timestamp::from_millis(until));
    }
    Ok(())
}

fn parse<T: std::str::FromStr>(table: &'static str, text: &str) -> Result<T, StoreError> {
    text.parse().map_err(|_| StoreError::Damaged { table, what: text.to_owned() })
}

pub fn from_json<T: DeserializeOwned>(table: &'static str, text: &str) -> Result<T, StoreError> {
    serde_json::from_str(text).map_err(|error| StoreError::Damaged { table, what: error.to_string() })
}

pub fn to_json<T: Serialize>(table: &'static str, value: &T) -> Result<String, StoreError> {
    serde_json::to_string(value).map_err(|error| StoreError::Damaged { table, what: error.to_string() })
}

pub fn bodies<T: DeserializeOwned>(
    connection: &Connection,
    table: &'static str,
    sql: &str,
) -> Result<Vec<T>, StoreError> {
    bodies_of(connection, table, sql, [])
}

/// `sql` is our own text; values come as parameters.
pub fn bodies_of<T: DeserializeOwned, P: rusqlite::Params>(
    connection: &Connection,
    table: &'static str,
    sql: &str,
    params: P,
) -> Result<Vec<T>, StoreError> {
    let mut statement = connection.prepare_cached(sql)?;
    let texts: Vec<String> = statement.query_map(params, |row| row.get(0))?.collect::<Result<_, _>>()?;
    texts.iter().map(|text| from_json(table, text)).collect()
}

pub fn save_project(connection: &Connection, id: &ProjectId, project: Option<&Project>) -> Result<(), StoreError> {
    match project {
        Some(project) => connection
            .prepare_cached(
                "INSERT INTO project(id, body) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
            )?
            .execute([id.as_str(), &to_json("project", project)?])?,
        None => {
            former::keep(connection, Former::Project, id.as_str())?;
            connection.execute("DELETE FROM project WHERE id = ?1", [id.as_str()])?
        }
    };
    Ok(())
}

/// They are few and asked as one.
pub fn save_rules(connection: &Connection, rules: &Rules) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO meta(k, v) VALUES ('rules', ?1) ON CONFLICT(k) DO UPDATE SET v = excluded.v")?
        .execute([to_json("meta", rules)?])?;
    Ok(())
}

/// They are few and asked as one.
pub fn save_slots(connection: &Connection, slots: &BTreeMap<SlotName, SlotState>) -> Result<(), StoreError> {
    connection
        .prepare_cached("INSERT INTO meta(k, v) VALUES ('slots', ?1) ON CONFLICT(k) DO UPDATE SET v = excluded.v")?
        .execute([to_json("meta", slots)?])?;
    Ok(())
}

pub fn projects(connection: &Connection) -> Result<Vec<Project>, StoreError> {
    bodies(connection, "project", "SELECT body FROM project")
}

pub fn save_firmware(connection: &Connection, id: Digest, firmware: Option<&Firmware>) -> Result<(), StoreError> {
    match firmware {
        Some(firmware) => {
            connection.execute(
                "INSERT INTO firmware(id, body) VALUES (?1, ?2) ON CONFLICT(id) DO UPDATE SET body = excluded.body",
                [&id.to_string(), &to_json("firmware", firmware)?],
            )?;
        }
        None => {
            former::keep(connection, Former::Firmware, &id.to_string())?;
            connection.execute("DELETE FROM firmware WHERE id = ?1", [id.to_string()])?;
            connection.execute("DELETE FROM firmware_edit WHERE firmware = ?1", [id.to_string()])?;
        }
    }
    Ok(())
}

pub fn firmware(connection: &Connection) -> Result<Vec<Firmware>, StoreError> {
    bodies(connection, "firmware", "SELECT body FROM firmware")
}

pub fn save_image(connection: &Connection, id: Digest, image: Option<&Image>) -> Result<(), StoreError> {
    match image {
        Some(image) => connection
            .prepare_cached("INSERT INTO image(id, name, body) VALUES (?1, ?2, ?3) ON CONFLICT(id) DO UPDATE SET body = excluded.body")?
            .execute([&id.to_string(), &image.name, &to_json("image", image)?])?,
        None => {
            former::keep(connection, Former::Image, &id.to_string())?;
            image_rows::forget(connection, id)?;
            connection.execute("DELETE FROM image WHERE id = ?1", [id.to_string()])?
        }
    };
    Ok(())
}

pub fn images(connection: &Connection) -> Result<Vec<Image>, StoreError> {
    bodies(connection, "image", "SELECT body FROM image")
}

pub fn save_alarm(
    connection: &Connection,
    code: &str,
    detail: Option<&String>,
    at: Timestamp,
) -> Result<(), StoreError> {
    match detail {
        Some(detail) => connection.execute(
            "INSERT INTO alarm(code, detail, at) VALUES (?1, ?2, ?3) ON CONFLICT(code) DO NOTHING",
            rusqlite::params![code, detail, at.millis()],
        )?,
        None => connection.execute("DELETE FROM alarm WHERE code = ?1", [code])?,
    };
    Ok(())
}

pub fn save_device(connection: &Connection, device: &Device) -> Result<(), StoreError> {
    connection
        .prepare_cached(
            "INSERT INTO device(mac, serial, serial8, seen_at, body) VALUES (?1, ?2, ?3, ?4, ?5) ON CONFLICT(mac) DO UPDATE \
             SET serial = excluded.serial, serial8 = excluded.serial8, seen_at = excluded.seen_at, body = excluded.body",
        )?
        .execute(rusqlite::params![
            device.mac.to_string(),
            device.serial.map(|serial| serial.to_string()),
            device.serial8().map(|serial8| serial8.to_string()),
            device.seen_at.millis(),
            to_json("device", device)?,
        ])?;
    Ok(())
}

pub fn device(connection: &Connection, mac: Mac) -> Result<Option<Device>, StoreError> {
    one_device(connection, "SELECT body FROM device WHERE mac = ?1", &mac.to_string())
}

/// The device that showed this serial last.
pub fn device_by_serial(connection: &Connection, serial: Serial) -> Result<Option<Device>, StoreError> {
    one_device(
        connection,
        "SELECT body FROM device WHERE serial = ?1 ORDER BY seen_at DESC LIMIT 1",
        &serial.to_string(),
    )
}

fn one_device(connection: &Connection, sql: &str, key: &str) -> Result<Option<Device>, StoreError> {
    let body: Option<String> = connection.prepare_cached(sql)?.query_row([key], |row| row.get(0)).optional()?;
    body.map(|body| from_json("device", &body)).transpose()
}

/// The part of a session that no query asks for.
#[derive(Serialize, Deserialize)]
struct SessionBody {
    facts: Facts,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    circuit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    switch_port: Option<SwitchPort>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    slot: Option<SlotName>,
    plan: Plan,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    running: Option<Running>,
    done: Vec<(StepName, Evidence)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    #[serde(default, skip_serializing_if = "DeviceData::is_empty")]
    data: DeviceData,
    #[serde(default, flatten)]
    vitals: Vitals,
}

pub fn save_session(connection: &Connection, session: &Session) -> Result<(), StoreError> {
    let body = SessionBody {
        facts: session.facts.clone(),
        circuit: session.circuit.clone(),
        switch_port: session.switch_port.clone(),
        slot: session.slot.clone(),
        plan: session.plan.clone(),
        running: session.running,
        done: session.done.clone(),
        warnings: session.warnings.clone(),
        data: session.data.clone(),
        vitals: session.vitals.clone(),
    };
    let ended = session.ended.as_ref();
    connection
        .prepare_cached(
            "INSERT INTO session(id, mac, attempt, project, image, token, started_at, outcome, ended_at, code, detail, body) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12) ON CONFLICT(id) DO UPDATE SET token = excluded.token, \
             outcome = excluded.outcome, ended_at = excluded.ended_at, code = excluded.code, detail = excluded.detail, body = excluded.body",
        )?
        .execute(rusqlite::params![
            session.id.to_string(),
            session.mac.to_string(),
            session.attempt,
            session.project.as_str(),
            session.plan.image.to_string(),
            session.token.as_str(),
            session.started_at.millis(),
            ended.map(|ended| ended.outcome.as_str()),
            ended.map(|ended| ended.at.millis()),
            ended.and_then(|ended| ended.code.as_deref()),
            ended.and_then(|ended| ended.detail.as_deref()),
            to_json("session", &body)?,
        ])?;
    Ok(())
}

pub fn session(connection: &Connection, id: SessionId) -> Result<Option<Session>, StoreError> {
    Ok(sessions(connection, "WHERE id = ?1", [id.to_string()])?.pop())
}

/// `clause` is our own text; values come as parameters.
pub fn sessions<P: rusqlite::Params>(
    connection: &Connection,
    clause: &str,
    params: P,
) -> Result<Vec<Session>, StoreError> {
    let sql = format!(
        "SELECT id, mac, attempt, project, token, started_at, outcome, ended_at, code, detail, body FROM session {clause}"
    );
    let mut statement = connection.prepare_cached(&sql)?;
    let rows: Vec<SessionRow> = statement.query_map(params, SessionRow::read)?.collect::<Result<_, _>>()?;
    rows.into_iter().map(SessionRow::session).collect()
}

struct SessionRow {
    id: String,
    mac: String,
    attempt: u32,
    project: String,
    token: String,
    started_at: i64,
    outcome: Option<String>,
    ended_at: Option<i64>,
    code: Option<String>,
    detail: Option<String>,
    body: String,
}

impl SessionRow {
    fn read(row: &Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            mac: row.get(1)?,
            attempt: row.get(2)?,
            project: row.get(3)?,
            token: row.get(4)?,
            started_at: row.get(5)?,
            outcome: row.get(6)?,
            ended_at: row.get(7)?,
            code: row.get(8)?,
            detail: row.get(9)?,
            body: row.get(10)?,
        })
    }

    fn session(self) -> Result<Session, StoreError> {
        let body: SessionBody = from_json("session", &self.body)?;
        let outcome = match self.outcome.as_deref() {
            None => None,
            Some("passed") => Some(Outcome::Passed),
            Some("failed") => Some(Outcome::Failed),
            Some("aborted") => Some(Outcome::Aborted),
            Some("interrupted") => Some(Outcome::Interrupted),
            Some(other) => return Err(StoreError::Damaged { table: "session", what: other.to_owned() }),
        };
        Ok(Session {
            id: parse("session", &self.id)?,
            mac: parse("session", &self.mac)?,
            attempt: self.attempt,
            project: parse("session", &self.project)?,
            facts: body.facts,
            circuit: body.circuit,
            switch_port: body.switch_port,
            slot: body.slot,
            plan: body.plan,
            token: parse("session", &self.token)?,
            started_at: Timestamp::from_millis(self.started_at),
            running: body.running,
            done: body.done,
            warnings: body.warnings,
            data: body.data,
            ended: outcome.map(|outcome| Ended {
                outcome,
                at: Timestamp::from_millis(self.ended_at.unwrap_or_default()),
                code: self.code,
                detail: self.detail,
            }),
            vitals: body.vitals,
            life: Life::default(),
        })
    }
}

/// Notes that are rows of their own.
pub fn save_note(connection: &Connection, note: &Note, at: Timestamp) -> Result<(), StoreError> {
    match note {
        Note::Leased { mac, address, until } => save_lease(connection, *mac, *address, *until),
        Note::Released { mac, address } => {
            connection
                .prepare_cached("UPDATE lease SET until_ms = ?3 WHERE address = ?1 AND mac = ?2")?
                .execute(rusqlite::params![address.to_string(), mac.to_string(), at.millis()])?;
            Ok(())
        }
        Note::Quarantined { address, until } => save_quarantine(connection, *address, *until),
        Note::Doubted { .. } | Note::Trusted { .. } => save_doubt(connection, note),
        Note::Timeline { mac, moments } => timeline::append(connection, *mac, moments),
        Note::LateReport { session, what } => {
            connection.execute(
                "INSERT INTO late_report(session, at, what) VALUES (?1, ?2, ?3)",
                rusqlite::params![session.to_string(), at.millis(), format!("{what:?}")],
            )?;
            Ok(())
        }
        Note::FirmwareEdited { firmware, bootconf, sha256 } => {
            connection.execute(
                "INSERT OR REPLACE INTO firmware_edit(firmware, bootconf, sha256) VALUES (?1, ?2, ?3)",
                [&firmware.to_string(), bootconf, &sha256.to_string()],
            )?;
            Ok(())
        }
        Note::ScriptText { script, revision, text } => scripts::save_text(connection, script, *revision, text),
        Note::LabelText { label, revision, text } => labels::save_text(connection, label, *revision, text),
        Note::ScriptOutput { session, script, text, truncated } => {
            scripts::save_output(connection, *session, script, (text, *truncated), at)
        }
        Note::CursorMoved { sink, seq } => outbox::save(connection, sink, *seq, at),
        Note::BirthCounted { number } => outbox::count_birth(connection, *number),
        Note::ReplyDelivered { n } => replies::delivered(connection, *n),
        Note::SinkSet { .. }
        | Note::DeadLetter { .. }
        | Note::DeadLetterGone { .. }
        | Note::JournalPruned { .. }
        | Note::InboxAged { .. } => delivery::save(connection, note, at),
        Note::Token(token) => tokens::save(connection, token),
        Note::Job(_) | Note::Kept { .. } | Note::Zeros { .. } => image_rows::save(connection, note),
        // Rows of the device and the session hold these; signs of life are not written.
        Note::BootSeen { .. }
        | Note::Fetched { .. }
        | Note::ConsoleHeard { .. }
        | Note::JournalMeasured { .. }
        | Note::Contested { .. }
        | Note::Settled { .. }
        | Note::BootWarned { .. }
        | Note::TokenIssued { .. }
        | Note::DataAssigned { .. }
        | Note::DataIssued { .. }
        | Note::Progress { .. }
        | Note::Sign { .. }
        | Note::Identify { .. }
        | Note::Pulse { .. }
        | Note::Flow { .. } => Ok(()),
    }
}

fn save_quarantine(connection: &Connection, address: Ipv4Addr, until: Timestamp) -> Result<(), StoreError> {
    let address = address.to_string();
    connection.execute("DELETE FROM lease WHERE address = ?1", [&address])?;
    connection.execute(
        "INSERT INTO quarantine(address, until_ms) VALUES (?1, ?2) ON CONFLICT(address) DO UPDATE SET until_ms = excluded.until_ms",
        rusqlite::params![address, until.millis()],
    )?;
    Ok(())
}

fn save_lease(connection: &Connection, mac: Mac, address: Ipv4Addr, until: Timestamp) -> Result<(), StoreError> {
    let (mac, address) = (mac.to_string(), address.to_string());
    connection.prepare_cached("DELETE FROM quarantine WHERE address = ?1")?.execute([&address])?;
    connection
        .prepare_cached("INSERT OR REPLACE INTO lease(address, mac, until_ms) VALUES (?1, ?2, ?3)")?
        .execute(rusqlite::params![address, mac, until.millis()])?;
    Ok(())
}
