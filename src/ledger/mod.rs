//! The neck: one thread holds the pen. Everything that happens goes in by `submit`, everything that happened is
//! read on by `follow`, and nothing in between is shared.

mod follow;
mod writer;

use std::net::Ipv4Addr;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::broadcast;
use uuid::Uuid;

pub use crate::ledger::follow::Follower;

use crate::core::command::{Envelope, Reply};
use crate::core::observation::Input;
use crate::core::refusal::Refusal;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, Telemetry, Tenant};

/// One event as it stands in the journal: the bytes go out unchanged on every transport.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded {
    pub seq: u64,
    pub id: Uuid,
    /// `device.step.started`
    pub name: String,
    pub kind: String,
    /// The last level of the topic.
    pub subject: String,
    pub occurred: Timestamp,
    /// The CloudEvent, structured JSON.
    pub body: Bytes,
}

/// What an input came to.
#[derive(Clone, Debug)]
pub struct Receipt {
    /// The events that it caused; perhaps none.
    pub events: Vec<Recorded>,
    pub answer: Answer,
}

/// Why an input came to nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Our rules said no.
    #[error("{0}")]
    Refused(Refusal),
    /// It could not be written down (disk full, I/O); nothing has happened.
    #[error("the ledger cannot write: {0}")]
    Unavailable(String),
    /// The station is stopping.
    #[error("the ledger is closed")]
    Closed,
}

/// Who this station is; fixed for the life of the process, but for the epoch, which the database holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    pub station: String,
    /// `""` or `enterprise/site/area/line`.
    pub root: String,
    /// Changes when the database is made anew or restored.
    pub epoch: String,
    pub version: String,
}

/// A handle; clone it freely.
#[derive(Clone)]
pub struct Ledger {
    inner: Arc<()>,
}

impl Ledger {
    pub fn identity(&self) -> &Identity {
        unimplemented!()
    }

    /// Hands an input to the writer and waits until its ink is dry.
    pub async fn submit(&self, input: Input) -> Result<Receipt, SubmitError> {
        unimplemented!()
    }

    /// The one handler of requests: parses, asks the inbox, decides, commits, answers.
    /// Every failure is an answer too.
    pub async fn command(&self, body: &[u8], envelope: &Envelope<'_>) -> Reply {
        unimplemented!()
    }

    /// Reads on after `seq`: what was and what comes, by the same code.
    pub fn follow(&self, after: u64) -> Follower {
        unimplemented!()
    }

    /// The sequence number of the newest event.
    pub fn newest(&self) -> u64 {
        unimplemented!()
    }

    /// Progress of running steps, lossy by nature.
    pub fn telemetry(&self) -> broadcast::Receiver<Telemetry> {
        unimplemented!()
    }

    /// Who has this address, without waiting for the writer.
    pub fn tenant(&self, address: Ipv4Addr) -> Option<Tenant> {
        unimplemented!()
    }

    /// Up to which event a sink has acknowledged; 0 for a new one. (`Observation::Delivered` moves it.)
    pub async fn cursor(&self, sink: &str) -> Result<u64, SubmitError> {
        unimplemented!()
    }

    pub fn now(&self) -> Timestamp {
        unimplemented!()
    }
}
