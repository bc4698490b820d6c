//! Reading beside the writer, on read-only connections, so that no question waits for the pen: two for what is quick
//! (followers, single rows), two for pages and sums of history, so that no follower waits for those either.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::Connection;
use tokio::sync::Semaphore;

use crate::core::delivery::Replay;
use crate::core::device::{Mac, Serial};
use crate::core::firmware::Firmware;
use crate::core::floor::Device;
use crate::core::image::{Digest, Image, Keeping, ZeroMap};
use crate::core::job::Job;
use crate::core::label::{Label, LabelId, LabelJob};
use crate::core::plan::SessionId;
use crate::core::project::Project;
use crate::core::script::{Script, ScriptId};
use crate::core::session::Session;
use crate::core::time::Timestamp;
use crate::core::timeline::Moment;
use crate::core::token::AccessToken;
use crate::ledger::{Ledger, Recorded, SubmitError};
use crate::store::{
    StoreError, delivery, former, images, labels, open_reader, outbox, query, replies, scripts, stats, tables,
    timeline, tokens,
};

pub use crate::store::delivery::DeadLetter;
pub use crate::store::former::Former;
pub use crate::store::query::{Counts, DeviceFilter, EventFilter, Listed, Name, SessionFilter};
pub use crate::store::replies::Due;
pub use crate::store::scripts::Output;
pub use crate::store::stats::{Grouping, Stats, StatsFilter, Sums};

const CONNECTIONS: usize = 2;

#[derive(Clone)]
pub struct Readers {
    /// A std mutex: held only to take a connection out or put it back.
    idle: Arc<Mutex<Vec<Connection>>>,
    turns: Arc<Semaphore>,
}

impl Readers {
    pub fn open(path: &Path) -> Result<Self, StoreError> {
        let connections: Vec<Connection> = (0..CONNECTIONS).map(|_| open_reader(path)).collect::<Result<_, _>>()?;
        Ok(Self { idle: Arc::new(Mutex::new(connections)), turns: Arc::new(Semaphore::new(CONNECTIONS)) })
    }

    pub async fn ask<T, F>(&self, question: F) -> Result<T, SubmitError>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T, StoreError> + Send + 'static,
    {
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| SubmitError::Closed)?;
        let idle = Arc::clone(&self.idle);
        let answer = tokio::task::spawn_blocking(move || {
            let taken = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let connection = taken.expect("as many connections as turns");
            let answer = question(&connection);
            idle.lock().unwrap_or_else(PoisonError::into_inner).push(connection);
            drop(turn);
            answer
        });
        match answer.await {
            Ok(answer) => answer.map_err(|error| SubmitError::Unavailable(error.to_string())),
            Err(_) => Err(SubmitError::Closed),
        }
    }
}

impl Ledger {
    /// Up to which event a sink has acknowledged; 0 for a new one. (`Observation::Delivered` moves it.)
    pub async fn cursor(&self, sink: &str) -> Result<u64, SubmitError> {
        let sink = sink.to_owned();
        self.readers.ask(move |connection| outbox::cursor(connection, &sink)).await
    }

    /// The number of the newest Sparkplug connection, if there ever was one.
    pub async fn births(&self) -> Result<Option<u8>, SubmitError> {
        self.readers.ask(outbox::births).await
    }

    /// Last replies of long work that are to be sent over a transport.
    pub async fn replies_due(&self, transport: &'static str) -> Result<Vec<Due>, SubmitError> {
        let now = self.now();
        self.readers.ask(move |connection| replies::due(connection, transport, now)).await
    }

    /// Sessions by project and by how they ended, and the newest event that was counted.
    pub async fn counts(&self) -> Result<(BTreeMap<String, Counts>, u64), SubmitError> {
        self.readers.ask(query::counts).await
    }

    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, SubmitError> {
        self.readers.ask(move |connection| tables::session(connection, id)).await
    }

    pub async fn sessions(&self, filter: SessionFilter) -> Result<Vec<Listed>, SubmitError> {
        self.history.ask(move |connection| query::sessions(connection, &filter)).await
    }

    pub async fn stats(&self, filter: StatsFilter, grouping: Option<Grouping>) -> Result<Stats, SubmitError> {
        self.history.ask(move |connection| stats::stats(connection, &filter, grouping)).await
    }

    /// What somebody must act on: code and what to do.
    pub async fn alarms(&self) -> Result<Vec<(String, String)>, SubmitError> {
        self.readers.ask(query::alarms).await
    }

    pub async fn images(&self) -> Result<Vec<Image>, SubmitError> {
        self.readers.ask(tables::images).await
    }

    pub async fn firmware(&self) -> Result<Vec<Firmware>, SubmitError> {
        self.readers.ask(tables::firmware).await
    }

    pub async fn projects(&self) -> Result<Vec<Project>, SubmitError> {
        self.readers.ask(tables::projects).await
    }

    /// Names of what is gone.
    pub async fn former_names(&self) -> Result<HashMap<(Former, String), String>, SubmitError> {
        self.readers.ask(former::names).await
    }

    pub async fn image(&self, id: Digest) -> Result<Option<Image>, SubmitError> {
        Ok(self.images().await?.into_iter().find(|image| image.id == id))
    }

    pub async fn keepings(&self) -> Result<HashMap<Digest, Keeping>, SubmitError> {
        self.readers.ask(|connection| Ok(images::keepings(connection)?.into_iter().collect())).await
    }

    pub async fn zero_map(&self, image: Digest) -> Result<Option<ZeroMap>, SubmitError> {
        self.readers.ask(move |connection| images::zero_map(connection, image)).await
    }

    /// When a device last got this image.
    pub async fn last_used(&self, image: Digest) -> Result<Timestamp, SubmitError> {
        self.readers.ask(move |connection| images::last_used(connection, image)).await
    }

    pub async fn open_sessions(&self) -> Result<i64, SubmitError> {
        self.readers.ask(images::open_sessions).await
    }

    /// Long work on images that has not ended, the oldest first.
    pub async fn open_jobs(&self) -> Result<Vec<Job>, SubmitError> {
        let mut jobs = self.readers.ask(images::open_jobs).await?;
        jobs.retain(|job| job.replay.is_none());
        Ok(jobs)
    }

    /// The next events of a replay after one, whatever their type.
    pub async fn select(&self, after: u64, replay: Replay, limit: u32) -> Result<Vec<Recorded>, SubmitError> {
        self.readers.ask(move |connection| crate::store::journal::replayed(connection, after, &replay, limit)).await
    }

    /// What a sink would not take and nobody has dealt with, the oldest first, after one.
    pub async fn dead_letters(&self, sink: String, after: u64, limit: u32) -> Result<Vec<DeadLetter>, SubmitError> {
        self.readers.ask(move |connection| delivery::dead_letters(connection, &sink, after, limit)).await
    }

    pub async fn newest_jobs(&self, limit: u32) -> Result<Vec<Job>, SubmitError> {
        self.readers.ask(move |connection| images::newest_jobs(connection, limit)).await
    }

    pub async fn job(&self, id: &str) -> Result<Option<Job>, SubmitError> {
        let id = id.to_owned();
        self.readers.ask(move |connection| images::job(connection, &id)).await
    }

    /// The newest work on an image.
    pub async fn job_of(&self, image: Digest) -> Result<Option<Job>, SubmitError> {
        self.readers.ask(move |connection| images::job_of(connection, image)).await
    }

    pub async fn device(&self, mac: Mac) -> Result<Option<Device>, SubmitError> {
        self.readers.ask(move |connection| tables::device(connection, mac)).await
    }

    pub async fn device_by_serial(&self, serial: Serial) -> Result<Option<Device>, SubmitError> {
        self.readers.ask(move |connection| tables::device_by_serial(connection, serial)).await
    }

    /// What a device did on its way up, the newest boots.
    pub async fn timeline(&self, mac: Mac) -> Result<Vec<Moment>, SubmitError> {
        self.readers.ask(move |connection| timeline::of_device(connection, mac)).await
    }

    /// The boot that led to the session, and what the device asked for until its end.
    pub async fn timeline_of(&self, session: &Session) -> Result<Vec<Moment>, SubmitError> {
        let (mac, started) = (session.mac, session.started_at);
        let ended = session.ended.as_ref().map(|ended| ended.at);
        self.readers.ask(move |connection| timeline::of_session(connection, mac, started, ended)).await
    }

    /// The text of a script as it was at a revision.
    pub async fn script_text(&self, id: ScriptId, revision: u64) -> Result<Option<String>, SubmitError> {
        self.readers.ask(move |connection| scripts::text(connection, &id, revision)).await
    }

    /// Every attempt on the device that has this serial, in their order.
    pub async fn sessions_of_serial(&self, serial: Serial) -> Result<Vec<Session>, SubmitError> {
        self.readers.ask(move |connection| query::sessions_of_serial(connection, serial)).await
    }

    /// The attempts on a device shortly before one of them, and that one.
    pub async fn sessions_around(&self, session: &Session) -> Result<Vec<Session>, SubmitError> {
        let (id, mac, at) = (session.id, session.mac, session.started_at);
        self.readers.ask(move |connection| query::sessions_around(connection, id, mac, at)).await
    }

    /// Serials of devices with attempts, in their order, after one.
    pub async fn serials_with_sessions(&self, after: Option<Serial>, limit: u32) -> Result<Vec<Serial>, SubmitError> {
        self.readers.ask(move |connection| query::serials_with_sessions(connection, after, limit)).await
    }

    /// The valid token that has this hash.
    pub async fn token(&self, sha256: Digest) -> Result<Option<AccessToken>, SubmitError> {
        self.readers.ask(move |connection| tokens::find(connection, sha256)).await
    }

    pub async fn scripts(&self) -> Result<Vec<Script>, SubmitError> {
        self.readers.ask(scripts::all).await
    }

    pub async fn labels(&self) -> Result<Vec<Label>, SubmitError> {
        self.readers.ask(labels::all).await
    }

    /// The text of a label as it was at a revision.
    pub async fn label_text(&self, id: LabelId, revision: u64) -> Result<Option<String>, SubmitError> {
        self.readers.ask(move |connection| labels::text(connection, &id, revision)).await
    }

    /// Labels that wait for their printers, in the order in which they were queued.
    pub async fn label_jobs(&self) -> Result<Vec<LabelJob>, SubmitError> {
        self.readers.ask(labels::jobs).await
    }

    /// A device and one of its sessions: the one that is named, else the newest.
    pub async fn device_and_session(
        &self,
        mac: Mac,
        session: Option<SessionId>,
    ) -> Result<(Option<Device>, Option<Session>), SubmitError> {
        self.readers
            .ask(move |connection| {
                let session = match session {
                    Some(id) => tables::session(connection, id)?,
                    None => {
                        let newest = "WHERE mac = ?1 ORDER BY id DESC LIMIT 1";
                        tables::sessions(connection, newest, [mac.to_string()])?.pop()
                    }
                };
                Ok((tables::device(connection, mac)?, session))
            })
            .await
    }

    /// What the scripts of a session have printed.
    pub async fn script_outputs(&self, session: SessionId) -> Result<Vec<Output>, SubmitError> {
        self.readers.ask(move |connection| scripts::outputs(connection, session)).await
    }

    pub async fn devices(&self, filter: DeviceFilter) -> Result<Vec<Device>, SubmitError> {
        self.history.ask(move |connection| query::devices(connection, &filter)).await
    }

    #[cfg(test)]
    pub async fn events(&self, after: u64, limit: u32) -> Result<Vec<Recorded>, SubmitError> {
        self.find_events(EventFilter { after, limit, ..EventFilter::default() }).await
    }

    pub async fn find_events(&self, filter: EventFilter) -> Result<Vec<Recorded>, SubmitError> {
        self.history.ask(move |connection| query::events(connection, &filter)).await
    }
}
