//! Everything that the station knows, and what follows from what happens: `decide` and `apply`.
//!
//! The floor holds all projects, images, addresses and open sessions, and of the devices those that were seen lately:
//! the ledger puts a device that is asked about on the floor (`learn_device`) before the input is decided.

mod awaited;
mod command;
mod conflict;
mod deadline;
mod delivery;
mod device;
mod dhcp;
mod fact;
mod firmware;
mod identify;
mod identity;
mod image;
mod labels;
mod power;
mod replay;
mod report;
mod rules;
mod scripts;
mod slots;
#[cfg(test)]
mod tests;
mod timeline;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::address::{AddressBook, Pool};
use crate::core::delivery::{Delivery, Drained};
use crate::core::device::{Mac, Serial};
use crate::core::event::Event;
use crate::core::firmware::Firmware;
use crate::core::floor::conflict::Contests;
use crate::core::floor::identity::Doubts;
use crate::core::floor::image::Shelf;
use crate::core::image::{Digest, Image, Keeping};
use crate::core::job::Job;
use crate::core::label::Labels;
use crate::core::observation::{Input, Observation};
use crate::core::plan::SessionId;
use crate::core::project::{Project, ProjectId};
use crate::core::refusal::Refusal;
use crate::core::rule::Rules;
use crate::core::script::{DeviceData, Script, ScriptId};
use crate::core::session::Session;
use crate::core::slot::{Line, SlotName, SlotState};
use crate::core::time::Timestamp;
use crate::core::token::{AccessToken, TokenName};
use crate::core::view::Answer;

pub use crate::core::floor::awaited::GONE;
pub use crate::core::floor::device::Device;
pub use crate::core::floor::fact::{Fact, Note};
pub use crate::core::floor::firmware::wanted_edits;
pub use crate::core::floor::identity::Doubt;
pub use crate::core::floor::image::{Progress, shown as shown_image};

/// What the configuration says to the core.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub station: String,
    pub version: String,
    pub pool: Pool,
    /// Failed or interrupted attempts in a row before a device is held.
    pub max_attempts: u32,
    pub deadlines: Deadlines,
    pub line: Line,
}

/// After how much silence a session ends by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadlines {
    /// No sign of life: interrupted. A device that does not tell how far it is may be silent while its image is open.
    pub silence: Duration,
    /// A step that moves bytes, without one: failed, `stalled`.
    pub stall: Duration,
    /// A firmware step: failed, `firmware.timeout`.
    pub firmware: Duration,
    /// Any other step, beyond what its scripts may take: failed, `step.timeout`.
    pub step: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            silence: Duration::from_secs(120),
            stall: Duration::from_secs(15 * 60),
            firmware: Duration::from_secs(10 * 60),
            step: Duration::from_secs(2 * 60),
        }
    }
}

/// What follows from an input.
#[derive(Clone, Debug)]
pub struct Decision {
    pub facts: Vec<Fact>,
    pub answer: Answer,
}

impl Decision {
    fn noted(facts: Vec<Fact>) -> Self {
        Self { facts, answer: Answer::Noted }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Floor {
    settings: Settings,
    projects: BTreeMap<ProjectId, Project>,
    rules: Rules,
    scripts: BTreeMap<ScriptId, Script>,
    shelf: Shelf,
    firmware: BTreeMap<Digest, Firmware>,
    edits: firmware::Edits,
    addresses: AddressBook,
    contests: Contests,
    devices: HashMap<Mac, Device>,
    serials: HashMap<Serial, Mac>,
    sessions: HashMap<SessionId, Session>,
    alarms: BTreeMap<String, String>,
    doubts: Doubts,
    slots: BTreeMap<SlotName, SlotState>,
    labels: Labels,
    delivery: Delivery,
    tokens: BTreeMap<TokenName, AccessToken>,
}

impl Floor {
    pub fn new(settings: Settings) -> Self {
        let addresses = AddressBook::new(settings.pool.clone());
        Self {
            settings,
            projects: BTreeMap::new(),
            rules: Rules::default(),
            scripts: BTreeMap::new(),
            shelf: Shelf::default(),
            firmware: BTreeMap::new(),
            edits: firmware::Edits::new(),
            addresses,
            contests: Contests::default(),
            devices: HashMap::new(),
            serials: HashMap::new(),
            sessions: HashMap::new(),
            alarms: BTreeMap::new(),
            doubts: Doubts::new(),
            slots: BTreeMap::new(),
            labels: Labels::default(),
            delivery: Delivery::default(),
            tokens: BTreeMap::new(),
        }
    }

    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    pub fn project(&self, id: &ProjectId) -> Option<&Project> {
        self.projects.get(id)
    }

    pub fn image(&self, id: &Digest) -> Option<&Image> {
        self.shelf.images.get(id)
    }

    pub fn device(&self, mac: Mac) -> Option<&Device> {
        self.devices.get(&mac)
    }

    pub fn session(&self, id: SessionId) -> Option<&Session> {
        self.sessions.get(&id)
    }

    pub fn addresses(&self) -> &AddressBook {
        &self.addresses
    }

    pub fn alarms(&self) -> &BTreeMap<String, String> {
        &self.alarms
    }

    pub fn cursor(&self, sink: &str) -> u64 {
        self.delivery.sinks.get(sink).map_or(0, |sink| sink.acked)
    }

    /// Puts what the tables say of a device onto the floor.
    pub fn learn_device(&mut self, device: Device) {
        if let Some(serial) = device.serial {
            self.serials.entry(serial).or_insert(device.mac);
        }
        self.devices.entry(device.mac).or_insert(device);
    }

    pub fn learn_session(&mut self, session: Session) {
        self.sessions.entry(session.id).or_insert(session);
    }

    pub fn learn_project(&mut self, project: Project) {
        self.projects.insert(project.id.clone(), project);
    }

    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    pub fn script(&self, id: &ScriptId) -> Option<&Script> {
        self.scripts.get(id)
    }

    pub fn learn_script(&mut self, script: Script) {
        self.scripts.insert(script.id.clone(), script);
    }

    pub fn learn_rules(&mut self, rules: Rules) {
        self.rules = rules;
    }

    pub fn learn_image(&mut self, image: Image) {
        self.shelf.images.insert(image.id, image);
    }

    pub fn learn_keeping(&mut self, image: Digest, keeping: Keeping) {
        self.shelf.keeping.insert(image, keeping);
    }

    pub fn learn_job(&mut self, job: &Job) {
        self.shelf.note_job(job);
    }

    pub fn learn_lease(&mut self, mac: Mac, address: Ipv4Addr, until: Timestamp) {
        self.addresses.lease(mac, address, until);
    }

    pub fn learn_quarantine(&mut self, address: Ipv4Addr, until: Timestamp) {
        self.addresses.set_aside(address, until);
    }

    pub fn learn_alarm(&mut self, code: String, detail: String) {
        self.alarms.insert(code, detail);
    }

    /// Addresses that were set aside until now are as free as any other.
    pub fn forget_quarantine(&mut self, now: Timestamp) {
        self.addresses.forget_quarantine(now);
    }

    /// Drops what was not touched since `before`: closed sessions, and devices without an open one.
    pub fn forget_idle(&mut self, before: Timestamp) {
        self.sessions.retain(|_, session| session.ended.as_ref().is_none_or(|ended| ended.at >= before));
        let kept: std::collections::HashSet<Mac> = self.sessions.values().map(|session| session.mac).collect();
        self.devices.retain(|mac, device| device.seen_at >= before || kept.contains(mac));
        let devices = &self.devices;
        self.serials.retain(|_, mac| devices.contains_key(mac));
    }

    /// What follows from an input, without anything changing yet. A refusal leaves no trace.
    pub fn decide(&self, input: &Input, now: Timestamp) -> Result<Decision, Refusal> {
        let decision = self.follows(input, now)?;
        Ok(self.with_recoveries(self.with_quarantines(self.with_labels(decision, now))))
    }

    fn follows(&self, input: &Input, now: Timestamp) -> Result<Decision, Refusal> {
        match input {
            Input::Observed(observation) => self.observe(observation, now),
            Input::Commanded(command) => self.carry_out(command, now),
            Input::Tick => {
                let mut facts = self.passed_deadlines(now);
                facts.extend(self.addresses_settled(now));
                facts.extend(self.labels_expired(now));
                facts.extend(self.doubts_settled());
                facts.extend(self.power_cycles(now));
                Ok(Decision::noted(facts))
            }
        }
    }

    fn observe(&self, observation: &Observation, now: Timestamp) -> Result<Decision, Refusal> {
        match observation {
            Observation::StationStarted { .. } | Observation::StationStopping { .. } => {
                Ok(Decision::noted(station_told(observation)))
            }
            Observation::Dhcp(ask) => Ok(self.dhcp_asked(ask, now)),
            Observation::DhcpReleased { mac, address } => Ok(self.dhcp_released(*mac, *address)),
            Observation::DhcpDeclined { mac, address } => Ok(self.dhcp_declined(*mac, *address, now)),
            Observation::AddressInUse { address, by } => Ok(self.address_in_use(*address, *by, now)),
            Observation::BootFiles { address, files } => Ok(Decision::noted(self.boot_files(*address, files))),
            Observation::ConsoleText { mac, lines } => Ok(Decision::noted(self.console_text(*mac, lines, now))),
            Observation::ScriptAsked(ask) => self.script_asked(ask, now),
            Observation::Reported(report) => self.reported(report, now),
            Observation::ScriptOutput(output) => self.script_output(output).map(Decision::noted),
            Observation::Progressed { session, token, bytes, .. } => self.progressed(*session, token, *bytes, now),
            Observation::ImageFlow { session, bytes, open } => {
                Ok(Decision::noted(vec![Note::Flow { session: *session, bytes: *bytes, open: *open }.into()]))
            }
            Observation::JobBegun { job } => Ok(self.job_begun(job.as_str(), now)),
            Observation::JobProgressed { .. } => Ok(Decision::noted(Vec::new())),
            Observation::BirthCounted { number } => {
                Ok(Decision::noted(vec![Note::BirthCounted { number: *number }.into()]))
            }
            Observation::ReplyDelivered { n } => Ok(Decision::noted(vec![Note::ReplyDelivered { n: *n }.into()])),
            Observation::ImageStored(_)
            | Observation::ImageIngested(_)
            | Observation::ImageProgress { .. }
            | Observation::ImageChecked { .. }
            | Observation::ZerosFound { .. }
            | Observation::FormMade { .. }
            | Observation::FormDropped { .. }
            | Observation::ImageRejected { .. } => self.shelf_observed(observation, now),
            Observation::JobFailed { job, refusal } => Ok(self.job_failed(job.as_str(), refusal, now)),
            Observation::FirmwareIngested(_)
            | Observation::FirmwareRejected { .. }
            | Observation::FirmwareEdited { .. } => Ok(Decision::noted(self.firmware_observed(observation))),
            Observation::Located(located) => Ok(Decision::noted(self.located(located))),
            Observation::PowerDone(done) => Ok(Decision::noted(self.power_done(done))),
            Observation::LabelPrinted { .. } | Observation::LabelFailed { .. } => {
                Ok(Decision::noted(self.label_observed(observation)))
            }
            Observation::Delivered { sink, seq } => Ok(self.delivered(sink, *seq)),
            Observation::SinksNamed { .. }
            | Observation::SinkChanged { .. }
            | Observation::DeadLettered { .. }
            | Observation::Redelivered { .. }
            | Observation::JournalMeasured(_)
            | Observation::InboxAged { .. }
            | Observation::ReplayMoved { .. }
            | Observation::ReplayEnded { .. } => Ok(Decision::noted(self.delivery_observed(observation, now))),
            Observation::TokensUsed(used) => Ok(Decision::noted(self.tokens_used(used))),
            Observation::Done(deed) => Ok(Decision::noted(vec![tokens::audited(deed)])),
            Observation::AlarmRaised { code, detail } => Ok(Decision::noted(self.alarm(code, detail))),
            Observation::AlarmCleared { code } => Ok(Decision::noted(self.cleared(code))),
        }
    }

    /// An alarm is raised once until it is cleared.
    fn alarm(&self, code: &str, detail: &str) -> Vec<Fact> {
        if self.alarms.contains_key(code) {
            return Vec::new();
        }
        vec![Event::AlarmRaised { code: code.to_owned(), detail: detail.to_owned() }.into()]
    }

    /// Takes in what happened. Cannot fail: what happened, happened.
    pub fn apply(&mut self, fact: &Fact, at: Timestamp) {
        match fact {
            Fact::Event(event) => {
                self.delivery.newest += 1;
                self.apply_event(event, at);
            }
            Fact::Note(note) => self.apply_note(note, at),
        }
    }

    fn apply_event(&mut self, event: &Event, at: Timestamp) {
        self.apply_slot_event(event, at);
        self.apply_label_event(event, at);
        match event {
            Event::AlarmRaised { code, detail } => {
                self.alarms.insert(code.clone(), detail.clone());
            }
            Event::AlarmCleared { code } => {
                self.alarms.remove(code);
            }
            Event::ImageAdded(image) => {
                self.shelf.images.insert(image.id, image.clone());
            }
            Event::ImageRemoved { image, .. } => {
                self.shelf.forget(*image);
            }
            Event::FirmwareAdded(firmware) => self.learn_firmware(firmware.clone()),
            Event::FirmwareRemoved { firmware, .. } => self.forget_firmware(firmware),
            Event::ProjectCreated(project) | Event::ProjectUpdated(project) => {
                self.projects.insert(project.id.clone(), project.clone());
            }
            Event::ProjectActivated { project, revision } => self.switch_project(project, true, *revision, at),
            Event::ProjectDeactivated { project, revision } => self.switch_project(project, false, *revision, at),
            Event::ProjectDeleted { project } => {
                self.projects.remove(project);
            }
            Event::ScriptAdded(script) => {
                self.scripts.insert(script.id.clone(), script.clone());
            }
            Event::ScriptRemoved { script } => {
                self.scripts.remove(script);
            }
            Event::RulesChanged { revision, rules } => {
                self.rules = Rules { revision: *revision, rules: rules.clone() };
            }
            Event::StationDrained { by, reason } => {
                self.delivery.drained = Some(Drained { by: by.clone(), reason: reason.clone(), at });
            }
            Event::StationResumed { .. } => self.delivery.drained = None,
            Event::StationStarted { .. }
            | Event::StationStopped { .. }
            | Event::EventsLost { .. }
            | Event::EventsDeadlettered { .. }
            | Event::ImageRejected { .. }
            | Event::FirmwareRequested { .. }
            | Event::FirmwareRejected { .. }
            | Event::LabelAdded(_)
            | Event::LabelRemoved { .. }
            | Event::CommandCompleted { .. } => {}
            _ => self.apply_device_event(event, at),
        }
        self.apply_awaited(event, at);
    }

    fn switch_project(&mut self, id: &ProjectId, active: bool, revision: u64, at: Timestamp) {
        if let Some(project) = self.projects.get_mut(id) {
            project.active = active;
            project.revision = revision;
            project.updated_at = at;
        }
    }

    fn learn_data(&mut self, mac: Mac, data: &DeviceData) {
        if let Some(device) = self.devices.get_mut(&mac) {
            device.data = data.clone();
        }
    }

    fn apply_note(&mut self, note: &Note, at: Timestamp) {
        match note {
            Note::Leased { mac, address, until } => self.addresses.lease(*mac, *address, *until),
            Note::Released { mac, address } => self.addresses.release(*mac, *address, at),
            Note::Quarantined { address, until } => self.addresses.set_aside(*address, *until),
            Note::Contested { address, by } => self.contests.hear(*address, *by, at),
            Note::Settled { address } => self.contests.settle(*address),
            Note::Doubted { doubt, mac } => self.learn_doubt(*doubt, *mac),
            Note::Trusted { doubt, mac } => self.forget_doubt(*doubt, *mac),
            Note::BootSeen { mac, identity, circuit } => self.boot_seen(*mac, *identity, circuit.clone(), at),
            Note::TokenIssued { session, token } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.token = token.clone();
                }
            }
            Note::FirmwareEdited { firmware, bootconf, sha256 } => {
                self.learn_edit(*firmware, bootconf.clone(), *sha256);
            }
            Note::CursorMoved { .. }
            | Note::SinkSet { .. }
            | Note::DeadLetter { .. }
            | Note::DeadLetterGone { .. }
            | Note::JournalPruned { .. }
            | Note::JournalMeasured { .. } => self.apply_delivery(note),
            Note::Sign { .. } | Note::Pulse { .. } | Note::Identify { .. } | Note::Flow { .. } => {
                self.apply_sign(note, at)
            }
            Note::Token(token) => self.learn_token(token.as_ref().clone()),
            Note::Fetched { mac, files } => self.fetched(*mac, *files),
            Note::ConsoleHeard { mac, lines } => self.console_heard(*mac, *lines, at),
            Note::DataAssigned { mac, data } => self.learn_data(*mac, data),
            Note::DataIssued { session, data } => {
                if let Some(session) = self.sessions.get_mut(session) {
                    session.data = data.clone();
                }
            }
            Note::BootWarned { mac, session, text } => self.warned(*mac, *session, text),
            Note::Job(job) => self.shelf.note_job(job),
            Note::Kept { image, keeping } => {
                self.shelf.keeping.insert(*image, keeping.as_ref().clone());
            }
            Note::Progress { image, done, total } => {
                self.shelf.progress.insert(*image, Progress { done: *done, total: *total });
            }
            // Rows of their own.
            Note::Zeros { .. }
            | Note::ReplyDelivered { .. }
            | Note::BirthCounted { .. }
            | Note::InboxAged { .. }
            | Note::Timeline { .. }
            | Note::LateReport { .. }
            | Note::ScriptText { .. }
            | Note::LabelText { .. }
            | Note::ScriptOutput { .. } => {}
        }
    }
}

/// The agent begins or ends.
fn station_told(observation: &Observation) -> Vec<Fact> {
    match observation {
        Observation::StationStarted { version } => vec![Event::StationStarted { version: version.clone() }.into()],
        Observation::StationStopping { reason } => vec![Event::StationStopped { reason: reason.clone() }.into()],
        _ => Vec::new(),
    }
}
