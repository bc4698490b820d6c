//! What stands on a bus as it is now: the counts of each project, and where each command that takes long is.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use serde::Serialize;
use serde_json::{Value, json};

use crate::core::command::CommandId;
use crate::core::job::Job;
use crate::core::project::Project;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::core::view::JobProgress;
use crate::ledger::{Counts, Ledger, SubmitError};

/// How long the end of a job can be read.
const ENDED: Duration = Duration::from_secs(24 * 3600);
/// Jobs that are looked at: more do not end in a day.
const NEWEST_JOBS: u32 = 512;

/// `state/project/{id}`
#[derive(Serialize)]
struct ProjectState<'a> {
    v: u8,
    project: &'a str,
    name: &'a str,
    revision: u64,
    status: &'static str,
    counts: Counts,
    updated_at: Timestamp,
}

/// `job/{command_id}`
#[derive(Serialize)]
struct JobReport<'a> {
    v: u8,
    command_id: &'a CommandId,
    name: &'a str,
    station: &'a str,
    state: &'static str,
    /// What is done now.
    #[serde(skip_serializing_if = "Option::is_none")]
    stage: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    progress: Option<Far>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    queued_at: Timestamp,
    #[serde(skip_serializing_if = "Option::is_none")]
    started_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    /// When this state is forgotten; brokers may lose the expiry of a message.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "Option::is_none")]
    result: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a Refusal>,
}

#[derive(Serialize)]
struct Far {
    done_bytes: u64,
    /// 0 where nobody knows.
    total_bytes: u64,
    percent: u64,
}

/// The body of a job's state, and for how long it is worth keeping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobLine {
    pub body: Bytes,
    /// Nothing while it is open.
    pub expires_in: Option<Duration>,
}

/// Bytes of each job that are done, as far as they were told.
pub type Progress = BTreeMap<CommandId, JobProgress>;

/// The state of every project, by its id.
pub async fn projects(ledger: &Ledger) -> Result<BTreeMap<String, Bytes>, SubmitError> {
    let counts = ledger.counts().await?;
    let state = |project: Project| {
        let id = project.id.to_string();
        let body = json_bytes(&ProjectState {
            v: 1,
            project: &id,
            name: &project.name,
            revision: project.revision,
            status: if project.active { "active" } else { "inactive" },
            counts: counts.get(&id).copied().unwrap_or_default(),
            updated_at: project.updated_at,
        });
        (id, body)
    };
    Ok(ledger.projects().await?.into_iter().map(state).collect())
}

/// The state of every command that takes long and has not ended a day ago.
pub async fn jobs(ledger: &Ledger, progress: &mut Progress) -> Result<BTreeMap<CommandId, JobLine>, SubmitError> {
    let (now, station) = (ledger.now(), &ledger.identity().station);
    let mut lines = BTreeMap::new();
    let mut jobs = ledger.newest_jobs(NEWEST_JOBS).await?;
    jobs.extend(ledger.open_jobs().await?);
    for job in jobs.iter().filter(|job| job.asked.is_some()) {
        let expires_at = job.ended_at.map(|at| at.plus(ENDED));
        if !job.is_open() {
            progress.remove(&job.id);
        }
        if expires_at.is_none_or(|at| at > now) {
            let left =
                expires_at.map(|at| Duration::from_millis(u64::try_from(at.millis() - now.millis()).unwrap_or(0)));
            let body = report(job, station, progress.get(&job.id), expires_at);
            lines.insert(job.id.clone(), JobLine { body, expires_in: left });
        }
    }
    Ok(lines)
}

fn report(job: &Job, station: &str, progress: Option<&JobProgress>, expires_at: Option<Timestamp>) -> Bytes {
    let far = |progress: &JobProgress| Far {
        done_bytes: progress.done,
        total_bytes: progress.total,
        percent: progress.done.min(progress.total) * 100 / progress.total.max(1),
    };
    json_bytes(&JobReport {
        v: 1,
        command_id: &job.id,
        name: &job.kind,
        station,
        state: job.phase(),
        stage: job.is_open().then(|| job.stage()),
        progress: progress.map(far),
        correlation_id: job.asked.as_ref().and_then(|asked| asked.correlation_id.as_deref()),
        queued_at: job.started_at,
        started_at: job.begun_at,
        ended_at: job.ended_at,
        expires_at,
        result: job.image.filter(|_| job.phase() == "succeeded").map(|image| json!({"image": image})),
        error: job.error.as_ref(),
    })
}

fn json_bytes(value: &impl Serialize) -> Bytes {
    serde_json::to_vec(value).expect("a flat structure of text and numbers is JSON").into()
}
