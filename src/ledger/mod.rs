//! The neck: one thread holds the pen. Everything that happens goes in by `submit`, everything that happened is
//! read on by `follow`, and nothing in between is shared.

mod clock;
pub mod cloudevent;
mod crash;
mod follow;
mod keeper;
mod read;
mod recent;
mod tally;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::thread::JoinHandle;

use tokio::sync::{broadcast, mpsc, oneshot, watch};
use uuid::Uuid;

use crate::core::command::{Command, Envelope, Reply, ReplyTo, Salutation, Transport};
use crate::core::delivery::Delivery;
use crate::core::floor::Settings;
use crate::core::job::Job as LongJob;
use crate::core::observation::Input;
use crate::core::refusal::Refusal;
use crate::core::role::{Caller, Role};
use crate::core::time::Timestamp;
use crate::core::view::{Answer, JobProgress, Telemetry, Tenant};
use crate::ledger::read::Readers;
use crate::ledger::recent::Recent;
use crate::ledger::tally::Tally;
use crate::ledger::writer::{Job, Writer};
use crate::store::StoreError;

pub use crate::ledger::clock::Clock;
pub use crate::ledger::crash::crash_point;
pub use crate::ledger::follow::Follower;
pub use crate::ledger::keeper::{Keeper, Retention};
pub use crate::ledger::read::{
    Counts, DeadLetter, DeviceFilter, Due, EventFilter, Former, Grouping, Listed, Name, SessionFilter, StatsFilter,
    Sums,
};
pub use crate::store::journal::Recorded;

/// Inputs that wait for the pen; an adapter whose input finds no place waits with it.
const QUEUE: usize = 1024;
/// Telemetry that a slow listener may lag behind before it misses some.
const TELEMETRY: usize = 1024;

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

impl From<SubmitError> for Refusal {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::Refused(refusal) => refusal,
            SubmitError::Unavailable(_) | SubmitError::Closed => {
                Self::new(503, "unavailable", error.to_string()).retryable()
            }
        }
    }
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

/// Addresses and their devices, as of the last commit.
type Tenants = Arc<RwLock<HashMap<Ipv4Addr, Tenant>>>;

/// A handle; clone it freely. The writer ends when the last one is dropped.
#[derive(Clone)]
pub struct Ledger {
    jobs: mpsc::Sender<Job>,
    news: watch::Receiver<u64>,
    telemetry: broadcast::Sender<Telemetry>,
    job_progress: broadcast::Sender<JobProgress>,
    delivery: watch::Receiver<Arc<Delivery>>,
    replays: watch::Receiver<Arc<Vec<LongJob>>>,
    tenants: Tenants,
    healthy: Arc<AtomicBool>,
    readers: Readers,
    history: Readers,
    recent: Arc<Recent>,
    tally: Arc<Tally>,
    identity: Arc<Identity>,
    bus_role: Role,
    clock: Clock,
}

impl Ledger {
    /// Opens the book and hands the pen to a thread of its own, which ends after the last handle was dropped.
    pub fn open(
        path: &Path,
        root: &str,
        settings: Settings,
        clock: Clock,
    ) -> Result<(Self, JoinHandle<()>), StoreError> {
        let connection = crate::store::open(path)?;
        let fresh = Uuid::new_v4().simple().to_string();
        let identity = Arc::new(Identity {
            station: settings.station.clone(),
            root: root.to_owned(),
            epoch: crate::store::epoch(&connection, &fresh[..8])?,
            version: settings.version.clone(),
        });
        let (jobs, inbox) = mpsc::channel(QUEUE);
        let (telemetry, _) = broadcast::channel(TELEMETRY);
        let (job_progress, _) = broadcast::channel(TELEMETRY);
        let tenants = Tenants::default();
        let healthy = Arc::new(AtomicBool::new(true));
        let floor = crate::store::tables::load(&connection, settings, clock.now())?;
        let seq = crate::store::journal::newest(&connection)?;
        let (announce, news) = watch::channel(seq);
        let (shown, delivery) = watch::channel(Arc::new(floor.delivery().clone()));
        let (open, replays) = watch::channel(Arc::new(floor.replays()));
        let recent = Arc::new(Recent::default());
        let writer = Writer {
            recent: Arc::clone(&recent),
            connection,
            floor,
            seq,
            announce,
            identity: Arc::clone(&identity),
            telemetry: telemetry.clone(),
            job_progress: job_progress.clone(),
            delivery: shown,
            replays: open,
            tenants: Arc::clone(&tenants),
            healthy: Arc::clone(&healthy),
            clock: clock.clone(),
        };
        let (readers, history) = (Readers::open(path)?, Readers::open(path)?);
        let thread = std::thread::Builder::new().name("ledger".to_owned()).spawn(move || writer.run(inbox)).map_err(
            |error| StoreError::Damaged { table: "none", what: format!("cannot start the ledger's thread: {error}") },
        )?;
        let ledger = Self {
            jobs,
            news,
            telemetry,
            job_progress,
            delivery,
            replays,
            tenants,
            healthy,
            readers,
            history,
            recent,
            tally: Arc::default(),
            identity,
            bus_role: Role::Operator,
            clock,
        };
        Ok((ledger, thread))
    }

    /// What those may who send commands over a bus.
    #[must_use]
    pub fn with_bus_role(self, bus_role: Role) -> Self {
        Self { bus_role, ..self }
    }

    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// Hands an input to the writer and waits until its ink is dry.
    pub async fn submit(&self, input: Input) -> Result<Receipt, SubmitError> {
        self.tally.count(&input);
        let (reply, receipt) = oneshot::channel();
        self.jobs.send(Job { input, reply }).await.map_err(|_| SubmitError::Closed)?;
        receipt.await.map_err(|_| SubmitError::Closed)?
    }

    /// The one handler of requests: parses, asks the inbox, decides, commits, answers.
    /// Every failure is an answer too.
    pub async fn command(&self, body: &[u8], envelope: &Envelope<'_>) -> Reply {
        self.command_from(body, envelope, None).await
    }

    /// The same for a requester to whom the last reply to long work is sent.
    pub async fn command_from(&self, body: &[u8], envelope: &Envelope<'_>, reply_to: Option<ReplyTo>) -> Reply {
        self.carry_out(&self.nameless(envelope.transport), body, envelope, reply_to).await
    }

    /// The role of those who show no token: on a bus the configured one. REST knows its callers itself, so what comes
    /// by that name without one is the station's own.
    const fn nameless(&self, transport: Transport) -> Caller {
        Caller::nameless(match transport {
            Transport::Rest => Role::Admin,
            Transport::Mqtt | Transport::Nats => self.bus_role,
        })
    }

    /// The same for somebody whom the way in has looked at: nobody gets further than his role.
    pub async fn command_of(&self, caller: &Caller, body: &[u8], envelope: &Envelope<'_>) -> Reply {
        self.carry_out(caller, body, envelope, None).await
    }

    async fn carry_out(
        &self,
        caller: &Caller,
        body: &[u8],
        envelope: &Envelope<'_>,
        reply_to: Option<ReplyTo>,
    ) -> Reply {
        let refused = |refusal: Refusal| {
            let salutation = Salutation::glean(body);
            let id = salutation.command_id.unwrap_or_else(|| envelope.minted_id.clone());
            let name = envelope.name.or(salutation.name).unwrap_or("unknown");
            Reply {
                correlation_id: salutation.correlation_id,
                ..Reply::rejected(id, name, &self.identity.station, envelope.now, refusal)
            }
        };
        let command = match Command::parse(body, envelope) {
            Ok(command) => Command { reply_to, ..command },
            Err(refusal) => return refused(refusal),
        };
        if let Err(refusal) = caller.may(&command.name) {
            return refused(refusal);
        }
        let command = Command { actor: command.actor.proven(caller, command.transport), ..command };
        match self.submit(Input::Commanded(Box::new(command))).await {
            Ok(Receipt { answer: Answer::Reply(reply), .. }) => *reply,
            Ok(_) => refused(Refusal::new(500, "internal", "the command was carried out and left no reply")),
            Err(error) => refused(error.into()),
        }
    }

    /// Reads on after `seq`: what was and what comes, by the same code.
    pub fn follow(&self, after: u64) -> Follower {
        let mut news = self.news.clone();
        news.mark_changed();
        Follower { readers: self.readers.clone(), recent: Arc::clone(&self.recent), news, seq: after }
    }

    /// The sequence number of the newest event.
    pub fn newest(&self) -> u64 {
        *self.news.borrow()
    }

    /// Sinks, their cursors and states, and what is kept of the journal, as of the last commit.
    pub fn delivery(&self) -> Arc<Delivery> {
        let mut delivery = Arc::clone(&self.delivery.borrow());
        // It is told anew when a sink moves; events may have come since.
        let newest = self.newest();
        if delivery.newest < newest {
            Arc::make_mut(&mut delivery).newest = newest;
        }
        delivery
    }

    /// The open replays, now and whenever one begins or ends.
    pub fn replays(&self) -> watch::Receiver<Arc<Vec<LongJob>>> {
        self.replays.clone()
    }

    /// Progress of running steps, lossy by nature.
    pub fn telemetry(&self) -> broadcast::Receiver<Telemetry> {
        self.telemetry.subscribe()
    }

    /// Progress of jobs, lossy by nature.
    pub fn job_progress(&self) -> broadcast::Receiver<JobProgress> {
        self.job_progress.subscribe()
    }

    /// Who has this address, without waiting for the writer.
    pub fn tenant(&self, address: Ipv4Addr) -> Option<Tenant> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner).get(&address).cloned()
    }

    /// What has come in since the start.
    pub fn tally(&self) -> &Tally {
        &self.tally
    }

    /// False after a commit failed, until one succeeds again.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Ordering::Relaxed)
    }

    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// For what outlives a handle.
    pub fn clock(&self) -> Clock {
        self.clock.clone()
    }
}
