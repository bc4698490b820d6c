//! What a station says about itself: presence, and the certificate that tells a newcomer what can be asked here.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde::Serialize;
use uuid::Uuid;

use crate::bus::commands::AT_ONCE;
use crate::bus::relay::MAX_EVENT;
use crate::core::command::{MAX_EXPIRY, MAX_REQUEST, NAMES, is_job, is_read};
use crate::core::time::Timestamp;
use crate::ledger::Ledger;

/// The events of this version, without namespace and version.
const EVENTS: [&str; 33] = [
    "station.started",
    "station.stopped",
    "station.alarm.raised",
    "station.alarm.cleared",
    "events.deadlettered",
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
    "device.assigned",
    "device.unassigned",
    "script.added",
    "script.removed",
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Absence {
    ConnectionLost,
    Shutdown,
}

#[derive(Serialize)]
struct Presence<'a> {
    v: u8,
    online: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    boot_id: &'a str,
    session: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<Absence>,
}

#[derive(Serialize)]
struct Info<'a> {
    v: u8,
    station: &'a str,
    agent: &'a str,
    version: &'a str,
    boot_id: &'a str,
    epoch: &'a str,
    newest_sequence: u64,
    /// By sink: how far it is, and how much waits for it.
    sinks: BTreeMap<String, Sink>,
    commands: Vec<Offer>,
    events: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rest: Option<&'a str>,
    limits: Limits,
}

#[derive(Serialize)]
struct Sink {
    acknowledged: u64,
    backlog: u64,
}

/// A command that is understood here.
#[derive(Serialize)]
struct Offer {
    name: &'static str,
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

#[derive(Serialize)]
struct Limits {
    request_bytes: usize,
    event_bytes: usize,
    requests_at_once: usize,
    expires_at_most_s: u64,
}

impl Birth {
    pub fn new(ledger: Ledger, rest: Option<String>) -> Self {
        Self { ledger, boot_id: format!("b-{}", Uuid::now_v7().simple()), rest }
    }

    /// Names a fresh connection.
    pub fn session(&self) -> Session {
        let since = self.ledger.now();
        Session { boot_id: self.boot_id.clone(), session: format!("s-{}", since.millis()), since }
    }

    /// The certificate as it stands now.
    pub async fn info(&self) -> Bytes {
        let identity = self.ledger.identity();
        let newest = self.ledger.newest();
        // Without the cursors the rest is still true.
        let cursors = self.ledger.cursors().await.unwrap_or_default();
        let sink = |acknowledged: u64| Sink { acknowledged, backlog: newest.saturating_sub(acknowledged) };
        json(&Info {
            v: 1,
            station: &identity.station,
            agent: "bootline",
            version: &identity.version,
            boot_id: &self.boot_id,
            epoch: &identity.epoch,
            newest_sequence: newest,
            sinks: cursors.into_iter().map(|(name, seq)| (name, sink(seq))).collect(),
            commands: NAMES.into_iter().map(Offer::of).collect(),
            events: EVENTS.iter().map(|name| format!("io.bootline.{name}.v1")).collect(),
            rest: self.rest.as_deref(),
            limits: Limits {
                request_bytes: MAX_REQUEST,
                event_bytes: MAX_EVENT,
                requests_at_once: AT_ONCE,
                expires_at_most_s: MAX_EXPIRY.as_secs(),
            },
        })
    }
}

impl Session {
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
