//! What a station says about itself: presence, and the certificate that tells a newcomer what can be asked here.

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::bus::commands::AT_ONCE;
use crate::bus::relay::MAX_EVENT;
use crate::core::command::{MAX_EXPIRY, MAX_REQUEST, NAMES, is_job, is_read};
use crate::core::delivery::Delivery;
use crate::core::shown::{JournalShown, SinkShown};
use crate::core::time::Timestamp;
use crate::ledger::{Identity, Ledger};

/// The events of this version, without namespace and version.
const EVENTS: [&str; 47] = [
    "station.started",
    "station.stopped",
    "station.alarm.raised",
    "station.alarm.cleared",
    "events.lost",
    "events.deadlettered",
    "station.drained",
    "station.resumed",
    "image.added",
    "image.rejected",
    "image.removed",
    "firmware.requested",
    "firmware.added",
    "firmware.rejected",
    "firmware.removed",
    "project.created",
    "project.updated",
    "project.activated",
    "project.deactivated",
    "project.deleted",
    "device.discovered",
    "device.refused",
    "device.started",
    "device.step.started",
    "device.step.completed",
    "device.provisioned",
    "device.failed",
    "device.aborted",
    "device.interrupted",
    "device.authorized",
    "device.located",
    "device.assigned",
    "device.unassigned",
    "slot.quarantined",
    "slot.released",
    "slot.power.requested",
    "slot.powered",
    "slot.power.failed",
    "script.added",
    "script.removed",
    "label.added",
    "label.removed",
    "label.queued",
    "label.printed",
    "label.failed",
    "rules.changed",
    "command.completed",
];

/// One life of the process: its name, and what it says on every bus.
#[derive(Clone)]
pub struct Birth {
    ledger: Ledger,
    boot_id: String,
    /// Where the operator side of HTTP listens.
    rest: Option<String>,
}

/// One connection of the station. A reader ignores an offline notice whose session is not that of the newest online
/// notice: the Will of a connection may come late.
#[derive(Clone, Debug)]
pub struct Session {
    boot_id: String,
    session: String,
    since: Timestamp,
}

/// Why a station is not there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    ConnectionLost,
    Shutdown,
}

/// Whether the station is connected to this bus; retained. Where the broker has lost it, the broker itself says so (Will).
#[derive(Serialize, JsonSchema)]
pub struct Presence<'a> {
    /// Version of this message: 1.
    v: u8,
    /// The station is connected to this bus.
    online: bool,
    /// Since when; of an online notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// One life of the process; another one after a restart.
    boot_id: &'a str,
    /// One connection. An offline notice of another session than the newest online notice is late: ignore it.
    session: &'a str,
    /// Why it is not there; of an offline notice.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Absence>,
}

/// The birth certificate of the station: what can be asked here and what comes from here; retained.
#[derive(Serialize, JsonSchema)]
pub struct Info<'a> {
    /// Version of this message: 1.
    v: u8,
    /// Its id, as in topics.
    station: &'a str,
    /// Of the program: `bootline`.
    agent: &'a str,
    /// Of the program.
    version: &'a str,
    /// Changes with every start of the program.
    boot_id: &'a str,
    /// Changes when the database is made anew or restored: reconcile everything then.
    epoch: &'a str,
    /// Of the newest event when this was written; it is not written again for each event.
    newest_sequence: u64,
    /// What of the journal is kept.
    journal: JournalShown,
    /// Each bus: how far it is, and how much waits for it.
    sinks: Vec<SinkShown>,
    /// That can be asked here.
    commands: Vec<Offer>,
    /// Types that can come from here, as in `type` of an event.
    events: Vec<String>,
    /// Where the operator side of HTTP listens, where it is told.
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<&'a str>,
    /// What is taken and sent.
    limits: Limits,
}

/// A command that is understood here.
#[derive(Serialize, JsonSchema)]
pub struct Offer {
    /// `project.create`
    name: &'static str,
    /// Of its params and result.
    version: u8,
    /// `sync` is answered when it is done, `job` when it was accepted, and once more at its end.
    mode: &'static str,
    /// It changes nothing, so it may be asked of all stations at once.
    reads_only: bool,
}

impl Offer {
    fn of(name: &'static str) -> Self {
        Self { name, version: 1, mode: if is_job(name) { "job" } else { "sync" }, reads_only: is_read(name) }
    }
}

/// What is taken and sent.
#[derive(Serialize, JsonSchema)]
pub struct Limits {
    /// The longest request, in bytes.
    request_bytes: usize,
    /// The longest event with its envelope, in bytes.
    event_bytes: usize,
    /// Requests that are carried out at the same time; more are told to come again.
    requests_at_once: usize,
    /// How far ahead `expires_at` may lie, in seconds.
    expires_at_most_s: u64,
}

impl Birth {
    pub fn new(ledger: Ledger, rest: Option<String>) -> Self {
        Self { ledger, boot_id: format!("b-{}", Uuid::now_v7().simple()), rest }
    }

    /// Where the operator side of HTTP listens.
    pub fn rest(&self) -> Option<&str> {
        self.rest.as_deref()
    }

    /// Names a fresh connection.
    pub fn session(&self) -> Session {
        let since = self.ledger.now();
        Session { boot_id: self.boot_id.clone(), session: format!("s-{}", since.millis()), since }
    }

    /// The certificate as it stands now.
    pub fn info(&self) -> Bytes {
        json(&Info::of(self.ledger.identity(), &self.boot_id, &self.ledger.delivery(), self.rest.as_deref()))
    }
}

impl<'a> Info<'a> {
    pub fn of(identity: &'a Identity, boot_id: &'a str, delivery: &Delivery, rest: Option<&'a str>) -> Self {
        Self {
            v: 1,
            station: &identity.station,
            agent: "bootline",
            version: &identity.version,
            boot_id,
            epoch: &identity.epoch,
            newest_sequence: delivery.newest,
            journal: delivery.shown_journal(),
            sinks: delivery.shown(),
            commands: NAMES.into_iter().map(Offer::of).collect(),
            events: EVENTS.iter().map(|name| format!("io.bootline.{name}.v1")).collect(),
            rest,
            limits: Limits {
                request_bytes: MAX_REQUEST,
                event_bytes: MAX_EVENT,
                requests_at_once: AT_ONCE,
                expires_at_most_s: MAX_EXPIRY.as_secs(),
            },
        }
    }
}

impl Session {
    pub const fn new(boot_id: String, session: String, since: Timestamp) -> Self {
        Self { boot_id, session, since }
    }

    /// Of the process; each life has its own.
    pub fn boot_id(&self) -> &str {
        &self.boot_id
    }

    pub fn online(&self) -> Bytes {
        json(&Presence {
            v: 1,
            online: true,
            since: Some(self.since),
            boot_id: &self.boot_id,
            session: &self.session,
            reason: None,
        })
    }

    pub fn offline(&self, reason: Absence) -> Bytes {
        json(&Presence {
            v: 1,
            online: false,
            since: None,
            boot_id: &self.boot_id,
            session: &self.session,
            reason: Some(reason),
        })
    }
}

fn json(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("a flat structure of text and numbers is JSON").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presence_and_will_carry_the_same_session() {
        let session = Session {
            boot_id: "b-55".to_owned(),
            session: "s-1763791202113".to_owned(),
            since: Timestamp::from_millis(1_763_791_202_113),
        };
        assert_eq!(
            session.online(),
            r#"{"v":1,"online":true,"since":"2025-11-22T06:00:02.113Z","boot_id":"b-55","session":"s-1763791202113"}"#
        );
        assert_eq!(
            session.offline(Absence::ConnectionLost),
            r#"{"v":1,"online":false,"boot_id":"b-55","session":"s-1763791202113","reason":"connection_lost"}"#
        );
    }

    #[test]
    fn every_event_of_the_core_is_announced() {
        let core = include_str!("../core/event.rs");
        let names: Vec<&str> = core
            .lines()
            .filter_map(|line| line.trim().strip_prefix("#[serde(rename = \"")?.strip_suffix("\")]"))
            .collect();
        assert_eq!(names, EVENTS);
    }
}
