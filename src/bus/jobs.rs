//! `job/{command_id}`: how long commands stand, for a requester that was away. Read from the tables once a second,
//! because jobs are rows and no events.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval};
use tracing::debug;

use crate::core::command::CommandId;
use crate::core::job::{Job, JobState};
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::ledger::{Ledger, SubmitError};

const PACE: Duration = Duration::from_secs(1);
/// As many as may run at once, and then some that have just ended.
const NEWEST: u32 = 128;
/// How long after its end a job is told of.
pub const KEEP: Duration = Duration::from_secs(24 * 3600);
/// What is still running is told again, so that its state does not expire.
const AGAIN: Duration = Duration::from_secs(3600);

pub struct Jobs {
    ledger: Ledger,
    told: HashMap<CommandId, Told>,
    beat: Interval,
}

struct Told {
    state: JobState,
    stage: &'static str,
    at: Instant,
}

/// The words are those of the contract, not of the table.
#[derive(Serialize)]
struct Report<'a> {
    v: u8,
    command_id: &'a CommandId,
    /// Of the command.
    name: &'a str,
    station: &'a str,
    state: &'static str,
    /// What is done now.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    queued_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

/// A job that stands otherwise than told.
pub struct Changed {
    pub id: CommandId,
    pub body: Bytes,
}

impl Jobs {
    pub fn new(ledger: Ledger) -> Self {
        let mut beat = interval(PACE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ledger, told: HashMap::new(), beat }
    }

    /// A fresh connection knows nothing.
    pub fn restart(&mut self) {
        self.told.clear();
    }

    /// What to tell next, at least one job. Waits for ever once the ledger is closed. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Changed> {
        loop {
            self.beat.tick().await;
            match self.read().await {
                Ok(jobs) => {
                    let changed = self.changed(&jobs);
                    if !changed.is_empty() {
                        return changed;
                    }
                }
                Err(SubmitError::Closed) => std::future::pending().await,
                Err(error) => debug!(%error, "cannot read how jobs stand"),
            }
        }
    }

    /// The newest, and those that ran when last told of.
    async fn read(&self) -> Result<Vec<Job>, SubmitError> {
        let mut jobs = self.ledger.newest_jobs(NEWEST).await?;
        for (id, told) in &self.told {
            if told.state == JobState::Running && !jobs.iter().any(|job| job.id == *id) {
                jobs.extend(self.ledger.job(id.as_str()).await?);
            }
        }
        Ok(jobs)
    }

    fn changed(&mut self, jobs: &[Job]) -> Vec<Changed> {
        let (now, station) = (self.ledger.now(), &self.ledger.identity().station);
        let mut changed = Vec::new();
        for job in jobs {
            let is_told = self.told.get(&job.id).is_some_and(|told| {
                let is_fresh = !job.is_open() || told.at.elapsed() < AGAIN;
                told.state == job.state && told.stage == job.stage() && is_fresh
            });
            let is_over = job.ended_at.is_some_and(|ended| now.since(ended) >= KEEP);
            if !is_told && !is_over {
                self.told.insert(job.id.clone(), Told { state: job.state, stage: job.stage(), at: Instant::now() });
                changed.push(Changed { id: job.id.clone(), body: report(job, station) });
            }
        }
        self.told.retain(|id, _| jobs.iter().any(|job| job.id == *id));
        changed
    }
}

fn report(job: &Job, station: &str) -> Bytes {
    let report = Report {
        v: 1,
        command_id: &job.id,
        name: &job.kind,
        station,
        state: match job.state {
            JobState::Running => "in_progress",
            JobState::Succeeded | JobState::Failed | JobState::Canceled => job.state.as_str(),
        },
        stage: job.is_open().then(|| job.stage()),
        queued_at: job.started_at,
        ended_at: job.ended_at,
        error: job.error.as_ref(),
    };
    serde_json::to_vec(&report).expect("text and numbers are JSON").into()
}
