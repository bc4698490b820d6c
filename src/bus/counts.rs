//! `state/project/{project}`: how a project stands, for the boards of a factory. Counted once from the tables, then
//! followed in the journal, and told once a second at most.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use tokio::time::{Interval, MissedTickBehavior, interval};
use tracing::debug;

use crate::core::project::Project;
use crate::core::time::Timestamp;
use crate::ledger::{Follower, Ledger, Recorded, SubmitError};

const PACE: Duration = Duration::from_secs(1);

pub struct Counts {
    ledger: Ledger,
    /// Nothing until the tables were counted.
    follower: Option<Follower>,
    tallies: BTreeMap<String, Tally>,
    /// Projects to tell of.
    changed: BTreeSet<String>,
    /// All of them are to be told of.
    everything: bool,
    beat: Interval,
}

/// A project that stands otherwise than told.
pub struct Changed {
    pub id: String,
    /// Nothing when there is no such project any more.
    pub body: Option<Bytes>,
}

/// Sessions of a project, by how they ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
struct Tally {
    passed: u64,
    failed: u64,
    aborted: u64,
    interrupted: u64,
    open: u64,
}

#[derive(Serialize)]
struct State<'a> {
    v: u8,
    project: &'a str,
    name: &'a str,
    revision: u64,
    /// `active` or `inactive`
    status: &'static str,
    counts: Tally,
    updated_at: Timestamp,
}

impl Counts {
    pub fn new(ledger: Ledger) -> Self {
        let mut beat = interval(PACE);
        beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { ledger, follower: None, tallies: BTreeMap::new(), changed: BTreeSet::new(), everything: true, beat }
    }

    /// A fresh connection knows nothing.
    pub const fn restart(&mut self) {
        self.everything = true;
    }

    /// What to tell next, at least one project. Waits for ever once the ledger is closed. Cancel-safe.
    pub async fn next(&mut self) -> Vec<Changed> {
        loop {
            match self.step().await {
                Ok(changed) if changed.is_empty() => {}
                Ok(changed) => return changed,
                Err(SubmitError::Closed) => std::future::pending().await,
                Err(error) => {
                    debug!(%error, "cannot read how projects stand");
                    self.follower = None;
                    self.beat.tick().await;
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Vec<Changed>, SubmitError> {
        let follower = match &mut self.follower {
            Some(follower) => follower,
            None => {
                let tally = self.ledger.outcomes().await?;
                self.tallies = tallies(tally.sessions);
                self.follower.insert(self.ledger.follow(tally.newest))
            }
        };
        tokio::select! {
            biased; // A beat takes along everything that is there.
            events = follower.next() => {
                for event in events? {
                    self.note(&event);
                }
                Ok(Vec::new())
            }
            _ = self.beat.tick(), if self.everything || !self.changed.is_empty() => {
                let projects = self.ledger.projects().await?;
                Ok(self.tell(&projects))
            }
        }
    }

    fn note(&mut self, event: &Recorded) {
        if event.kind == "project" {
            self.changed.insert(event.subject.clone());
            return;
        }
        let end: fn(&mut Tally) -> &mut u64 = match event.name.as_str() {
            "device.started" => |tally| &mut tally.open,
            "device.provisioned" => |tally| &mut tally.passed,
            "device.failed" => |tally| &mut tally.failed,
            "device.aborted" => |tally| &mut tally.aborted,
            "device.interrupted" => |tally| &mut tally.interrupted,
            _ => return,
        };
        let Some(project) = project_of(&event.body) else {
            return;
        };
        let tally = self.tallies.entry(project.clone()).or_default();
        *end(tally) += 1;
        if event.name != "device.started" {
            tally.open = tally.open.saturating_sub(1);
        }
        self.changed.insert(project);
    }

    fn tell(&mut self, projects: &[Project]) -> Vec<Changed> {
        let mut changed = std::mem::take(&mut self.changed);
        if std::mem::take(&mut self.everything) {
            changed.extend(projects.iter().map(|project| project.id.as_str().to_owned()));
        }
        let told = changed.into_iter().map(|id| {
            let body = projects.iter().find(|project| project.id.as_str() == id).map(|project| {
                let state = State {
                    v: 1,
                    project: &id,
                    name: &project.name,
                    revision: project.revision,
                    status: if project.active { "active" } else { "inactive" },
                    counts: self.tallies.get(&id).copied().unwrap_or_default(),
                    updated_at: project.updated_at,
                };
                Bytes::from(serde_json::to_vec(&state).expect("text and numbers are JSON"))
            });
            Changed { id, body }
        });
        told.collect()
    }
}

fn tallies(rows: Vec<(String, String, u64)>) -> BTreeMap<String, Tally> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    for (project, outcome, count) in rows {
        let tally = tallies.entry(project).or_default();
        match outcome.as_str() {
            "passed" => tally.passed = count,
            "failed" => tally.failed = count,
            "aborted" => tally.aborted = count,
            "interrupted" => tally.interrupted = count,
            _ => tally.open = count,
        }
    }
    tallies
}

/// The project that a device's event names.
fn project_of(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Envelope {
        data: Data,
    }
    #[derive(Deserialize)]
    struct Data {
        project: Option<String>,
    }
    serde_json::from_slice::<Envelope>(body).ok()?.data.project
}
