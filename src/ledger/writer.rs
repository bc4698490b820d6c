//! The one thread: takes up to 256 waiting inputs, decides each on the floor as the one before has left it, and writes
//! what came of them in one transaction. Nobody hears of anything before the ink is dry.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};

use rusqlite::Connection;
use sha2::{Digest as _, Sha256};
use tokio::sync::{broadcast, mpsc, oneshot, watch};

use crate::core::command::{Command, LabelPrint, Order, Reply};
use crate::core::delivery::Delivery;
use crate::core::device::Mac;
use crate::core::floor::{Fact, Floor, GONE, Note};
use crate::core::job::Job as LongJob;
use crate::core::label::LabelId;
use crate::core::observation::{Input, Observation};
use crate::core::plan::SessionId;
use crate::core::refusal::Refusal;
use crate::core::script::ScriptId;
use crate::core::session::StepName;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, JobProgress, Telemetry, Tenant};
use crate::ledger::cloudevent::{self, Cause};
use crate::ledger::recent::Recent;
use crate::ledger::{Clock, Identity, Receipt, Recorded, SubmitError, Tenants, crash_point};
use crate::store::inbox::{self, Answered};
use crate::store::{StoreError, delivery, journal, labels, replies, scripts, tables};

/// Inputs that share one commit.
const BATCH: usize = 256;

type Outcome = Result<Receipt, SubmitError>;
type Waiting = oneshot::Sender<Outcome>;

pub struct Job {
    pub input: Input,
    pub reply: Waiting,
}

pub struct Writer {
    pub connection: Connection,
    pub floor: Floor,
    pub seq: u64,
    pub announce: watch::Sender<u64>,
    pub recent: Arc<Recent>,
    pub identity: Arc<Identity>,
    pub telemetry: broadcast::Sender<Telemetry>,
    pub job_progress: broadcast::Sender<JobProgress>,
    pub delivery: watch::Sender<Arc<Delivery>>,
    /// The open ones.
    pub replays: watch::Sender<Arc<Vec<LongJob>>>,
    pub tenants: Tenants,
    pub healthy: Arc<AtomicBool>,
    pub clock: Clock,
}

/// What a batch has come to so far.
#[derive(Default)]
struct Draft {
    events: Vec<Recorded>,
    notes: Vec<Note>,
    devices: BTreeSet<Mac>,
    sessions: BTreeSet<SessionId>,
    projects: BTreeSet<crate::core::project::ProjectId>,
    images: BTreeSet<crate::core::image::Digest>,
    firmware: BTreeSet<crate::core::image::Digest>,
    alarms: BTreeSet<String>,
    rules: bool,
    slots: bool,
    drained: bool,
    /// Sinks or the extent of the journal.
    delivery: bool,
    /// A replay.
    replays: bool,
    scripts: BTreeSet<ScriptId>,
    labels: BTreeSet<LabelId>,
    label_jobs: BTreeSet<u64>,
    /// Commands of this batch, so that a repeat within it is seen too.
    answered: HashMap<String, Answered>,
    kept: Vec<(Command, Answered)>,
    /// Commands that began long work, or asked for it again: who waits for its end.
    owed: Vec<Command>,
    telemetry: Vec<Telemetry>,
    job_progress: Vec<JobProgress>,
}

impl Draft {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.kept.is_empty() && self.owed.is_empty() && !self.notes.iter().any(is_row)
    }

    fn take(&mut self, fact: &Fact) {
        let touched = fact.touches();
        self.devices.extend(touched.device);
        self.sessions.extend(touched.session);
        self.projects.extend(touched.project);
        self.images.extend(touched.image);
        self.firmware.extend(touched.firmware);
        self.alarms.extend(touched.alarm);
        self.rules |= touched.rules;
        self.slots |= touched.slots;
        self.drained |= touched.drained;
        self.scripts.extend(touched.script);
        self.labels.extend(touched.label);
        self.label_jobs.extend(touched.label_job);
        if let Fact::Note(note) = fact {
            self.delivery |= is_delivery(note);
            self.replays |= matches!(note, Note::Job(job) if job.replay.is_some());
            self.notes.push(note.clone());
        }
    }
}

const fn is_delivery(note: &Note) -> bool {
    matches!(
        note,
        Note::CursorMoved { .. }
            | Note::SinkSet { .. }
            | Note::DeadLetter { .. }
            | Note::DeadLetterGone { .. }
            | Note::JournalPruned { .. }
            | Note::JournalMeasured { .. }
    )
}

/// Signs of life stay in memory.
const fn is_row(note: &Note) -> bool {
    !matches!(
        note,
        Note::Sign { .. }
            | Note::Identify { .. }
            | Note::Pulse { .. }
            | Note::Flow { .. }
            | Note::Contested { .. }
            | Note::Settled { .. }
            | Note::Progress { .. }
            | Note::JournalMeasured { .. }
    )
}

#[cfg(test)]
impl Writer {
    /// A writer without a thread and without listeners.
    pub fn with(connection: Connection, settings: crate::core::floor::Settings, clock: Clock) -> Self {
        let identity = Identity {
            station: settings.station.clone(),
            root: String::new(),
            epoch: "e".to_owned(),
            version: settings.version.clone(),
        };
        Self {
            floor: Floor::new(settings),
            connection,
            seq: 0,
            announce: watch::channel(0).0,
            recent: Arc::default(),
            identity: Arc::new(identity),
            telemetry: broadcast::channel(1).0,
            job_progress: broadcast::channel(1).0,
            delivery: watch::channel(Arc::default()).0,
            replays: watch::channel(Arc::default()).0,
            tenants: Tenants::default(),
            healthy: Arc::new(AtomicBool::new(true)),
            clock,
        }
    }

    /// One input, one commit.
    pub fn handle(&mut self, input: Input) -> Outcome {
        let (reply, mut answer) = oneshot::channel();
        self.process(vec![Job { input, reply }]);
        answer.try_recv().expect("the writer answers before it goes on")
    }
}

impl Writer {
    pub fn run(mut self, mut inbox: mpsc::Receiver<Job>) {
        self.publish_tenants();
        while let Some(first) = inbox.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                let Ok(job) = inbox.try_recv() else { break };
                batch.push(job);
            }
            self.process(batch);
        }
        if let Err(error) = self.connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
            tracing::debug!(%error, "no checkpoint at the end; the next start makes it");
        }
    }

    fn process(&mut self, batch: Vec<Job>) {
        let now = self.clock.now();
        let mut draft = Draft::default();
        let mut replies = Vec::with_capacity(batch.len());
        for job in batch {
            let result = self.decide(&job.input, &mut draft, now);
            replies.push((job.reply, result));
        }
        match self.commit(&draft, now) {
            Ok(()) => {
                if !draft.is_empty() {
                    self.healthy.store(true, Ordering::Relaxed);
                }
                let told = !draft.events.is_empty();
                if told {
                    crash_point("commit");
                }
                self.after(&draft);
                if told {
                    crash_point("reply");
                }
                for (reply, result) in replies {
                    // Whoever asked may have gone; what happened, happened.
                    let _ = reply.send(result);
                }
            }
            Err(error) => self.give_up(&error, replies, now),
        }
    }

    /// Nothing of the batch has happened: the floor is what the tables say.
    fn give_up(&mut self, error: &StoreError, replies: Vec<(Waiting, Outcome)>, now: Timestamp) {
        tracing::error!(%error, "the ledger cannot write; nothing is acknowledged until it can");
        self.healthy.store(false, Ordering::Relaxed);
        match tables::load(&self.connection, self.floor.settings().clone(), now) {
            Ok(floor) => self.floor = floor,
            Err(error) => tracing::error!(%error, "the ledger cannot read its tables either"),
        }
        self.seq = *self.announce.borrow();
        for (reply, _) in replies {
            let _ = reply.send(Err(SubmitError::Unavailable(error.to_string())));
        }
    }

    fn decide(&mut self, input: &Input, draft: &mut Draft, now: Timestamp) -> Result<Receipt, SubmitError> {
        if let Err(error) = self.warm(input) {
            return Err(SubmitError::Unavailable(error.to_string()));
        }
        match input {
            Input::Commanded(command) => self.command(command, draft, now),
            Input::Observed(_) | Input::Tick => {
                let cause = self.cause_of(input);
                let receipt = self.carry_out(input, draft, now, &cause).map_err(SubmitError::Refused)?;
                if let Input::Observed(Observation::Progressed { session, step, bytes, .. }) = input {
                    draft.telemetry.extend(self.telemetry_of(*session, *step, *bytes, now));
                }
                if let Input::Observed(Observation::JobProgressed { job, done, total }) = input {
                    draft.job_progress.push(JobProgress { job: job.clone(), done: *done, total: *total });
                }
                if matches!(input, Input::Tick) {
                    self.floor.forget_quarantine(now);
                    self.floor.forget_idle(Timestamp::from_millis(
                        now.millis() - i64::try_from(GONE.as_millis()).unwrap_or(0),
                    ));
                }
                Ok(receipt)
            }
        }
    }

    fn carry_out(
        &mut self,
        input: &Input,
        draft: &mut Draft,
        now: Timestamp,
        cause: &Cause,
    ) -> Result<Receipt, Refusal> {
        let decision = self.floor.decide(input, now)?;
        let mut events = Vec::new();
        for fact in &decision.facts {
            self.floor.apply(fact, now);
            draft.take(fact);
            if let Fact::Event(event) = fact {
                self.seq += 1;
                events.push(cloudevent::record(&self.identity, event, self.seq, now, cause));
            }
        }
        draft.events.extend(events.iter().cloned());
        Ok(Receipt { events, answer: decision.answer })
    }

    /// What a job of a command comes to follows from the command.
    fn cause_of(&self, input: &Input) -> Cause {
        let Input::Observed(observation) = input else { return Cause::default() };
        self.floor.cause_of(observation).map_or_else(Cause::default, |job| Cause {
            command_id: Some(job.id.to_string()),
            correlation_id: job.asked.as_ref().and_then(|asked| asked.correlation_id.clone()),
        })
    }

    /// The inbox is asked first: same id and content, same answer, no second effect.
    fn command(&mut self, command: &Command, draft: &mut Draft, now: Timestamp) -> Result<Receipt, SubmitError> {
        let content = Sha256::digest(command.content.as_bytes()).to_vec();
        let id = command.id.as_str();
        let before = match draft.answered.get(id) {
            Some(answered) => Some(answered.clone()),
            None => inbox::find(&self.connection, id).map_err(|error| SubmitError::Unavailable(error.to_string()))?,
        };
        let answer = |reply: Reply, events| Ok(Receipt { events, answer: Answer::Reply(Box::new(reply)) });
        if let Some(answered) = before {
            return if answered.content == content {
                if !answered.reply.is_final && command.reply_to.is_some() {
                    draft.owed.push(command.clone());
                }
                answer(
                    Reply { replayed: true, correlation_id: command.correlation_id.clone(), ..answered.reply },
                    Vec::new(),
                )
            } else {
                let mismatch =
                    Refusal::new(422, "idempotency_mismatch", format!("command id {id} was used with other content"));
                answer(self.rejection(command, mismatch, now), Vec::new())
            };
        }
        let cause = Cause { command_id: Some(id.to_owned()), correlation_id: command.correlation_id.clone() };
        let input = Input::Commanded(Box::new(command.clone()));
        let (reply, events) = match self.carry_out(&input, draft, now, &cause) {
            Ok(Receipt { events, answer: Answer::Reply(reply) }) => (*reply, events),
            Ok(_) => (self.rejection(command, Refusal::new(500, "internal", "no reply was made"), now), Vec::new()),
            Err(refusal) => (self.rejection(command, refusal, now), Vec::new()),
        };
        if !reply.is_final && command.reply_to.is_some() {
            draft.owed.push(command.clone());
        }
        // A busy station may answer otherwise next time; everything else is the answer for good.
        let retryable = reply.error.as_ref().is_some_and(|problem| problem.retryable);
        if command.idempotent && !retryable {
            let answered = Answered { content, reply: reply.clone() };
            draft.answered.insert(id.to_owned(), answered.clone());
            draft.kept.push((command.clone(), answered));
        }
        answer(reply, events)
    }

    fn rejection(&self, command: &Command, refusal: Refusal, now: Timestamp) -> Reply {
        let reply = Reply::rejected(command.id.clone(), &command.name, &self.identity.station, now, refusal);
        Reply { correlation_id: command.correlation_id.clone(), ..reply }
    }

    fn commit(&mut self, draft: &Draft, now: Timestamp) -> Result<(), StoreError> {
        if draft.is_empty() {
            return Ok(());
        }
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        for event in &draft.events {
            journal::append(&transaction, event)?;
        }
        for id in &draft.projects {
            tables::save_project(&transaction, id, self.floor.project(id))?;
        }
        for id in &draft.scripts {
            scripts::save(&transaction, id, self.floor.script(id))?;
        }
        labels::save_all(&transaction, self.floor.labels(), &draft.labels, &draft.label_jobs)?;
        if draft.rules {
            tables::save_rules(&transaction, self.floor.rules())?;
        }
        if draft.slots {
            tables::save_slots(&transaction, self.floor.slots())?;
        }
        if draft.drained {
            delivery::save_drained(&transaction, self.floor.delivery().drained.as_ref())?;
        }
        for id in &draft.images {
            tables::save_image(&transaction, *id, self.floor.image(id))?;
        }
        for id in &draft.firmware {
            tables::save_firmware(&transaction, *id, self.floor.firmware(id))?;
        }
        for code in &draft.alarms {
            tables::save_alarm(&transaction, code, self.floor.alarms().get(code), now)?;
        }
        for device in draft.devices.iter().filter_map(|mac| self.floor.device(*mac)) {
            tables::save_device(&transaction, device)?;
        }
        for session in draft.sessions.iter().filter_map(|id| self.floor.session(*id)) {
            tables::save_session(&transaction, session)?;
        }
        for note in &draft.notes {
            tables::save_note(&transaction, note, now)?;
        }
        for (command, answered) in &draft.kept {
            inbox::keep(&transaction, command, answered, now)?;
        }
        for command in &draft.owed {
            replies::owe(&transaction, command)?;
        }
        for note in &draft.notes {
            if let Note::Job(job) = note
                && let Some(reply) = job.reply(&self.identity.station)
            {
                replies::conclude(&transaction, &reply, now)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }

    /// The ink is dry: now the others may know.
    fn after(&self, draft: &Draft) {
        let moved =
            |note: &Note| matches!(note, Note::Leased { .. } | Note::Quarantined { .. } | Note::BootSeen { .. });
        if draft.notes.iter().any(moved) {
            self.update_tenants(draft);
        }
        if !draft.projects.is_empty() {
            self.update_projects();
        }
        if draft.delivery || draft.drained {
            self.delivery.send_replace(Arc::new(self.floor.delivery().clone()));
        }
        if draft.replays {
            self.replays.send_replace(Arc::new(self.floor.replays()));
        }
        if !draft.events.is_empty() {
            self.recent.push(&draft.events);
            self.announce.send_replace(self.seq);
        }
        for progress in &draft.telemetry {
            // Nobody listens: progress is for those who look.
            let _ = self.telemetry.send(progress.clone());
        }
        for progress in &draft.job_progress {
            let _ = self.job_progress.send(progress.clone());
        }
    }

    fn tenant(&self, mac: Mac) -> Tenant {
        let device = self.floor.device(mac);
        Tenant {
            mac,
            serial8: device.and_then(crate::core::floor::Device::serial8),
            family: device.and_then(|device| device.identity).map(|identity| identity.family),
            project: self.floor.boot_project(mac).map(Arc::new),
        }
    }

    /// A project has changed, and with it what the devices that have an address would get.
    fn update_projects(&self) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        for tenant in tenants.values_mut() {
            let project = self.floor.boot_project(tenant.mac);
            if tenant.project.as_deref() != project.as_ref() {
                tenant.project = project.map(Arc::new);
            }
        }
    }

    fn update_tenants(&self, draft: &Draft) {
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        for note in &draft.notes {
            match note {
                Note::Leased { mac, address, .. } => {
                    tenants.insert(*address, self.tenant(*mac));
                }
                Note::Quarantined { address, .. } => {
                    tenants.remove(address);
                }
                Note::BootSeen { mac, .. } => {
                    if let Some(address) = self.floor.addresses().address_of(*mac) {
                        tenants.insert(address, self.tenant(*mac));
                    }
                }
                _ => {}
            }
        }
    }

    /// At start: every lease of the book, with what the tables say of its device.
    fn publish_tenants(&mut self) {
        let leases: Vec<(Ipv4Addr, Mac)> = self.floor.addresses().leases().collect();
        for (_, mac) in &leases {
            if let Ok(Some(device)) = tables::device(&self.connection, *mac) {
                self.floor.learn_device(device);
            }
        }
        let mut tenants = self.tenants.write().unwrap_or_else(PoisonError::into_inner);
        tenants.extend(leases.into_iter().map(|(address, mac)| (address, self.tenant(mac))));
    }

    /// Puts onto the floor what the input is about, if only the tables know it.
    fn warm(&mut self, input: &Input) -> Result<(), StoreError> {
        match input {
            Input::Observed(Observation::Dhcp(ask)) => self.warm_device(ask.mac),
            Input::Observed(Observation::ConsoleText { mac, .. }) => self.warm_device(*mac),
            Input::Observed(Observation::ScriptAsked(ask)) => {
                if let Some(mac) = ask.mac.or_else(|| self.floor.addresses().mac_of(ask.address)) {
                    self.warm_device(mac)?;
                }
                if let Some(device) = tables::device_by_serial(&self.connection, ask.serial)? {
                    self.floor.learn_device(device);
                }
                Ok(())
            }
            Input::Observed(Observation::BootFiles { address, .. }) => {
                self.floor.addresses().mac_of(*address).map_or(Ok(()), |mac| self.warm_device(mac))
            }
            Input::Observed(Observation::ScriptOutput(output)) => self.warm_session(output.session),
            Input::Observed(Observation::Reported(report)) => self.warm_session(report.session),
            Input::Observed(Observation::Progressed { session, .. } | Observation::ImageFlow { session, .. }) => {
                self.warm_session(*session)
            }
            Input::Commanded(command) => {
                if matches!(command.order, Order::EventsReplay(_)) {
                    self.floor.learn_oldest_at(journal::oldest_at(&self.connection)?);
                }
                if let Order::LabelPrint(print) = &command.order {
                    self.warm_label(print)?;
                }
                command.order.device().map_or(Ok(()), |mac| self.warm_device(mac))
            }
            Input::Observed(Observation::LabelPrinted { job, .. } | Observation::LabelFailed { job, .. }) => {
                self.warm_label_job(*job)
            }
            Input::Tick => {
                let now = self.clock.now();
                let late = self.floor.labels().jobs.values().filter(|job| job.expires_at <= now).map(|job| job.job);
                late.collect::<Vec<_>>().into_iter().try_for_each(|job| self.warm_label_job(job))
            }
            Input::Observed(_) => Ok(()),
        }
    }

    /// Of a device its newest session is meant, which may have ended long ago.
    fn warm_label(&mut self, wanted: &LabelPrint) -> Result<(), StoreError> {
        if let Some(session) = wanted.session {
            return self.warm_session(session);
        }
        Ok(())
    }

    fn warm_label_job(&mut self, job: u64) -> Result<(), StoreError> {
        let Some(job) = self.floor.labels().jobs.get(&job) else { return Ok(()) };
        let (mac, session) = (job.mac, job.session);
        self.warm_device(mac)?;
        session.map_or(Ok(()), |session| self.warm_session(session))
    }

    fn warm_device(&mut self, mac: Mac) -> Result<(), StoreError> {
        if self.floor.device(mac).is_none()
            && let Some(device) = tables::device(&self.connection, mac)?
        {
            self.floor.learn_device(device);
        }
        Ok(())
    }

    fn warm_session(&mut self, id: SessionId) -> Result<(), StoreError> {
        if self.floor.session(id).is_none()
            && let Some(session) = tables::session(&self.connection, id)?
        {
            self.warm_device(session.mac)?;
            self.floor.learn_session(session);
        }
        Ok(())
    }

    fn telemetry_of(&self, id: SessionId, step: StepName, bytes: u64, at: Timestamp) -> Option<Telemetry> {
        let session = self.floor.session(id).filter(|session| session.is_open())?;
        let total = match (step, &session.plan.firmware) {
            (StepName::Firmware, Some(firmware)) => firmware.size_bytes,
            _ => session.plan.raw_size_bytes,
        };
        let percent = u8::try_from(bytes.min(total) * 100 / total.max(1)).unwrap_or(100);
        Some(Telemetry {
            v: 1,
            mac: session.mac,
            session: id,
            attempt: session.attempt,
            step,
            bytes,
            bytes_total: total,
            percent,
            at,
        })
    }
}
