//! What stands on a bus as it is now: the counts of each project, and where each command that takes long is. Every bus
//! shows the same; each has a `States` of its own, which knows what that bus has been told.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;

use crate::bus::counts::Tally;
use crate::core::command::CommandId;
use crate::core::job::Job;
use crate::core::project::{Project, ProjectId};
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::core::view::JobProgress;
use crate::ledger::{Counts, Ledger, SubmitError};

/// How long the end of a job can be read.
const ENDED: Duration = Duration::from_secs(24 * 3600);
/// Jobs that are looked at: more do not end in a day.
const NEWEST_JOBS: u32 = 512;
/// What still runs is told again, so that its state does not expire.
const AGAIN: Duration = Duration::from_secs(3600);

/// How a project stands, for the boards of a factory.
#[derive(Serialize, JsonSchema)]
pub struct ProjectState<'a> {
    /// Version of this message: 1.
    v: u8,
    project: &'a ProjectId,
    /// For people.
    name: &'a str,
    /// Counts its changes.
    revision: u64,
    /// `active`: devices get it.
    status: Activity,
    /// Its sessions so far, by how they ended.
    counts: Counts,
    /// When it was changed last.
    updated_at: Timestamp,
}

/// Whether devices get a project.
#[derive(Clone, Copy, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Activity {
    Active,
    Inactive,
}

impl<'a> ProjectState<'a> {
    pub fn of(project: &'a Project, counts: Counts) -> Self {
        Self {
            v: 1,
            project: &project.id,
            name: &project.name,
            revision: project.revision,
            status: if project.active { Activity::Active } else { Activity::Inactive },
            counts,
            updated_at: project.updated_at,
        }
    }
}

/// Where a command that takes long stands, for a requester that was away.
#[derive(Serialize, JsonSchema)]
pub struct JobReport<'a> {
    /// Version of this message: 1.
    v: u8,
    /// Of the command that began it.
    command_id: &'a CommandId,
    /// Of the command: `image.add`.
    name: &'a str,
    /// Its id.
    station: &'a str,
    /// `queued`, `in_progress`, `succeeded`, `failed` or `canceled`.
    state: &'static str,
    /// What is done now: `fetch`, `ingest` or `replay`; only while it is open.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    /// Of the stage, as far as it was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Far>,
    /// Of the command.
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    /// When it was taken down.
    queued_at: Timestamp,
    /// When the work began.
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    /// When the work was over.
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// When this state is forgotten; brokers may lose the expiry of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    /// What came of it: `{"image": SHA-256}`.
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    /// Why it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

/// How far work is.
#[derive(Serialize, JsonSchema)]
struct Far {
    /// Bytes that are done.
    done_bytes: u64,
    /// Of all; 0 where nobody knows.
    total_bytes: u64,
    /// 0 to 100.
    percent: u64,
}

impl<'a> JobReport<'a> {
    pub fn of(job: &'a Job, station: &'a str, progress: Option<&JobProgress>) -> Self {
        let far = |progress: &JobProgress| Far {
            done_bytes: progress.done,
            total_bytes: progress.total,
            percent: progress.done.min(progress.total) * 100 / progress.total.max(1),
        };
        Self {
            v: 1,
            command_id: &job.id,
            name: &job.kind,
            station,
            state: job.phase(),
            stage: job.is_open().then(|| job.stage()),
            progress: progress.filter(|_| job.is_open()).map(far),
            correlation_id: job.asked.as_ref().and_then(|asked| asked.correlation_id.as_deref()),
            queued_at: job.started_at,
            started_at: job.begun_at,
            ended_at: job.ended_at,
            expires_at: forgotten_at(job),
            result: job.image.filter(|_| job.phase() == "succeeded").map(|image| json!({"image": image})),
            error: job.error.as_ref(),
        }
    }
}

fn forgotten_at(job: &Job) -> Option<Timestamp> {
    job.ended_at.map(|at| at.plus(ENDED))
}

/// What a state is of.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    Project(ProjectId),
    Job(CommandId),
}

/// A state that is otherwise than told.
pub struct Change {
    pub place: Place,
    /// Nothing when there is no such project any more.
    pub body: Option<Bytes>,
    /// For how long it is worth keeping, where that has an end.
    pub expires_in: Option<Duration>,
}

struct Told {
    body: Bytes,
    at: Instant,
    is_open: bool,
}

/// What one bus has been told.
pub struct States {
    ledger: Ledger,
    /// Nothing until the tables were counted.
    tally: Option<Tally>,
    told: BTreeMap<Place, Told>,
    /// The newest event that they are made from.
    seen: Option<u64>,
    work_is_open: bool,
    reports: broadcast::Receiver<JobProgress>,
    progress: BTreeMap<CommandId, JobProgress>,
}

impl States {
    pub fn new(ledger: Ledger) -> Self {
        Self {
            tally: None,
            told: BTreeMap::new(),
            seen: None,
            work_is_open: false,
            reports: ledger.job_progress(),
            progress: BTreeMap::new(),
            ledger,
        }
    }

    /// All is to be told anew: a fresh connection knows nothing, and what could not be told is not told.
    pub fn restart(&mut self) {
        self.told.clear();
        self.seen = None;
    }

    /// Whether something changes without an event.
    pub const fn work_is_open(&self) -> bool {
        self.work_is_open
    }

    /// What to tell now; it counts as told from here on.
    pub async fn changes(&mut self) -> Result<Vec<Change>, SubmitError> {
        self.hear();
        let newest = self.ledger.newest();
        if self.seen == Some(newest) && !self.work_is_open {
            return Ok(Vec::new());
        }
        let states = self.read(newest).await?;
        let mut changes = self.gone(&states);
        self.work_is_open = false;
        for (place, (body, expires_in)) in states {
            let is_open = matches!(place, Place::Job(_)) && expires_in.is_none();
            self.work_is_open |= is_open;
            let is_told = self.told.get(&place).is_some_and(|told| told.is_fresh(&body));
            if !is_told {
                self.told.insert(place.clone(), Told { body: body.clone(), at: Instant::now(), is_open });
                changes.push(Change { place, body: Some(body), expires_in });
            }
        }
        self.seen = Some(newest);
        Ok(changes)
    }

    fn hear(&mut self) {
        loop {
            match self.reports.try_recv() {
                Ok(report) => drop(self.progress.insert(report.job.clone(), report)),
                Err(TryRecvError::Lagged(_)) => {}
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    /// Projects that are no more are taken away; jobs that ended long ago expire.
    fn gone(&mut self, states: &BTreeMap<Place, (Bytes, Option<Duration>)>) -> Vec<Change> {
        let gone: Vec<Place> = self.told.keys().filter(|place| !states.contains_key(place)).cloned().collect();
        for place in &gone {
            self.told.remove(place);
        }
        let projects = gone.into_iter().filter(|place| matches!(place, Place::Project(_)));
        projects.map(|place| Change { place, body: None, expires_in: None }).collect()
    }

    /// Every project, and every command that takes long and has not ended a day ago.
    async fn read(&mut self, newest: u64) -> Result<BTreeMap<Place, (Bytes, Option<Duration>)>, SubmitError> {
        let tally = match &mut self.tally {
            Some(tally) => tally,
            None => self.tally.insert(Tally::begin(&self.ledger).await?),
        };
        tally.catch_up(newest).await?;
        let mut states = BTreeMap::new();
        for project in self.ledger.projects().await? {
            let body = json_bytes(&ProjectState::of(&project, tally.of(project.id.as_str())));
            states.insert(Place::Project(project.id), (body, None));
        }
        let (now, station) = (self.ledger.now(), &self.ledger.identity().station);
        let mut jobs = self.ledger.newest_jobs(NEWEST_JOBS).await?;
        jobs.extend(self.ledger.open_jobs().await?);
        for job in jobs.into_iter().filter(|job| job.asked.is_some()) {
            if !job.is_open() {
                self.progress.remove(&job.id);
            }
            let left = forgotten_at(&job).map(|at| at.millis() - now.millis());
            if left.is_none_or(|left| left > 0) {
                let body = json_bytes(&JobReport::of(&job, station, self.progress.get(&job.id)));
                let expires_in = left.map(|left| Duration::from_millis(u64::try_from(left).unwrap_or(0)));
                states.insert(Place::Job(job.id), (body, expires_in));
            }
        }
        Ok(states)
    }
}

impl Told {
    fn is_fresh(&self, body: &Bytes) -> bool {
        self.body == body && !(self.is_open && self.at.elapsed() >= AGAIN)
    }
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("a flat structure of text and numbers is JSON").into()
}
