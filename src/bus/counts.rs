//! How the sessions of each project ended: counted once from the tables, then followed in the journal. To count them
//! anew each second would read an index of all sessions there ever were.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::ledger::{Counts, Follower, Ledger, Recorded, SubmitError};

pub struct Tally {
    follower: Follower,
    by_project: BTreeMap<String, Counts>,
}

impl Tally {
    pub async fn begin(ledger: &Ledger) -> Result<Self, SubmitError> {
        let (by_project, newest) = ledger.counts().await?;
        Ok(Self { follower: ledger.follow(newest), by_project })
    }

    /// Up to this event, which is there.
    pub async fn catch_up(&mut self, newest: u64) -> Result<(), SubmitError> {
        while self.follower.seq() < newest {
            for event in self.follower.next().await? {
                self.note(&event);
            }
        }
        Ok(())
    }

    pub fn of(&self, project: &str) -> Counts {
        self.by_project.get(project).copied().unwrap_or_default()
    }

    fn note(&mut self, event: &Recorded) {
        let end: fn(&mut Counts) -> &mut u64 = match event.name.as_str() {
            "device.started" => |counts| &mut counts.open,
            "device.provisioned" => |counts| &mut counts.passed,
            "device.failed" => |counts| &mut counts.failed,
            "device.aborted" => |counts| &mut counts.aborted,
            "device.interrupted" => |counts| &mut counts.interrupted,
            _ => return,
        };
        let Some(project) = project_of(&event.body) else { return };
        let counts = self.by_project.entry(project).or_default();
        *end(counts) += 1;
        if event.name != "device.started" {
            counts.open = counts.open.saturating_sub(1);
        }
    }
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
