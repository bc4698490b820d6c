//! What the floor knows of one device, and how events change it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::boot::Boot;
use crate::core::device::{BootIdentity, Mac, Revision, Serial, Serial8};
use crate::core::event::{DeviceRef, Event};
use crate::core::floor::{Fact, Floor};
use crate::core::observation::{Evidence, Vitals};
use crate::core::plan::SessionId;
use crate::core::project::{Again, ProjectId};
use crate::core::refusal::Refusal;
use crate::core::rule::{Choice, Known};
use crate::core::script::DeviceData;
use crate::core::session::{Ended, Life, Outcome, Running, Session, StepName};
use crate::core::shown::DeviceShown;
use crate::core::slot::{Awaited, SwitchPort};
use crate::core::time::Timestamp;
use crate::core::view::BootProject;

/// How often a device is said to be refused for the same reason.
pub(super) const REFUSAL_PAUSE: std::time::Duration = std::time::Duration::from_secs(600);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    pub mac: Mac,
    pub identity: Option<BootIdentity>,
    pub serial: Option<Serial>,
    /// Where its cable was at the last boot, if the switch says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub circuit: Option<String>,
    /// Where the switch sees it in this boot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_port: Option<SwitchPort>,
    pub first_seen_at: Timestamp,
    /// The last event or boot packet.
    pub seen_at: Timestamp,
    /// The last DISCOVER with option 97.
    pub discover_at: Option<Timestamp>,
    /// A step was reported since then, so the next DISCOVER is a new boot.
    pub reported: bool,
    /// Sessions so far.
    pub attempts: u32,
    /// Failed or interrupted ones since the last that passed or was authorised.
    pub failures: u32,
    pub last_outcome: Option<Outcome>,
    /// Some project has finished it.
    pub finished: bool,
    /// One more attempt is allowed.
    pub authorized: bool,
    /// The project that it gets whatever the rules say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub assigned: Option<ProjectId>,
    /// What it is told of itself at its next session.
    #[serde(default, skip_serializing_if = "DeviceData::is_empty")]
    pub data: DeviceData,
    pub open_session: Option<SessionId>,
    /// When it was last refused, by code.
    pub refused: BTreeMap<String, Timestamp>,
    /// What went wrong in the boot under way and did not stop it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub boot_warnings: Vec<String>,
    /// The boot under way, or the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot: Option<Boot>,
    /// How much its bootloader has written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub console: Option<Console>,
    /// Whether it is to ask for its script.
    #[serde(default, skip_serializing_if = "Awaited::is_nothing")]
    pub awaited: Awaited,
}

/// Lines of a bootloader that were taken into the timeline since it began to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Console {
    pub lines: u32,
    pub heard_at: Timestamp,
}

impl Device {
    pub const fn new(mac: Mac, at: Timestamp) -> Self {
        Self {
            mac,
            identity: None,
            serial: None,
            circuit: None,
            switch_port: None,
            first_seen_at: at,
            seen_at: at,
            discover_at: None,
            reported: false,
            attempts: 0,
            failures: 0,
            last_outcome: None,
            finished: false,
            authorized: false,
            assigned: None,
            data: DeviceData { variables: BTreeMap::new(), secrets: BTreeMap::new() },
            open_session: None,
            refused: BTreeMap::new(),
            boot_warnings: Vec::new(),
            boot: None,
            console: None,
            awaited: Awaited { since: None, cycles: 0 },
        }
    }

    /// As every door shows it.
    pub fn shown(&self) -> Value {
        let revision = self.identity.and_then(|identity| identity.revision);
        json!(DeviceShown {
            mac: self.mac,
            serial8: self.serial8(),
            serial: self.serial,
            revision,
            model: revision.and_then(Revision::board).map(str::to_owned),
            circuit: self.circuit.clone(),
            switch_port: self.switch_port.clone(),
            first_seen_at: self.first_seen_at,
            seen_at: self.seen_at,
            attempts: self.attempts,
            failures: self.failures,
            last_outcome: self.last_outcome,
            finished: self.finished,
            authorized: self.authorized,
            assigned: self.assigned.clone(),
            variables: self.data.variables.clone(),
            secrets: self.data.secrets.keys().cloned().collect(),
            open_session: self.open_session,
            warnings: self.boot_warnings.clone(),
            boot: self.boot.clone(),
        })
    }

    fn authorize(&mut self) {
        self.authorized = true;
        self.failures = 0;
        self.refused.clear();
    }

    /// Whoever names a device means it: it may have been finished or held before.
    fn assign(&mut self, project: Option<ProjectId>) {
        self.assigned = project;
        self.authorize();
    }

    pub fn serial8(&self) -> Option<Serial8> {
        self.identity.and_then(|identity| identity.serial8).or_else(|| self.serial.map(Serial::low))
    }
}

impl Floor {
    /// A device by what is known of it, outside of a session.
    pub(super) fn reference(&self, mac: Mac) -> DeviceRef {
        let device = self.devices.get(&mac);
        DeviceRef {
            mac,
            serial8: device.and_then(Device::serial8),
            serial: device.and_then(|device| device.serial),
            session: None,
            attempt: None,
            project: None,
            image: None,
            board: None,
            circuit: device.and_then(|device| device.circuit.clone()),
            switch_port: device.and_then(|device| device.switch_port.clone()),
            slot: self.slot_of(mac, None),
        }
    }

    /// A device in its session.
    pub(super) fn reference_in(&self, session: &Session) -> DeviceRef {
        DeviceRef {
            slot: session.slot.clone(),
            switch_port: session.switch_port.clone(),
            session: Some(session.id),
            attempt: Some(session.attempt),
            project: Some(session.project.clone()),
            image: Some(session.plan.image),
            board: session.facts.jumper.clone(),
            ..self.reference(session.mac)
        }
    }

    /// What is known of a device without its Linux stage.
    pub(super) fn known(&self, mac: Mac) -> Known {
        let Some(device) = self.devices.get(&mac) else { return Known::new(mac) };
        let known = Known {
            serial8: device.serial8(),
            serial: device.serial,
            circuit: device.circuit.clone(),
            slot: self.slot_of(mac, None),
            ..Known::new(mac)
        };
        known.with_revision(device.identity.and_then(|identity| identity.revision))
    }

    /// May another attempt begin on this device, and at what? What is not known yet counts as yes.
    pub(super) fn may_start(&self, known: &Known) -> Result<Choice<'_>, Refusal> {
        let mac = known.mac;
        let device = self.devices.get(&mac);
        let assigned = device.and_then(|device| device.assigned.as_ref());
        let choice = self.rules.choose(&self.projects, assigned, known)?;
        let Some(device) = device.filter(|device| !device.authorized) else {
            return Ok(choice);
        };
        let held = |code: &str, why: String| Err(Refusal::new(409, code, why));
        if device.finished && choice.candidates().iter().all(|project| project.again == Again::Refuse) {
            return held(
                "already_provisioned",
                format!("device {mac} is provisioned; device.authorize allows one more attempt"),
            );
        }
        if device.last_outcome == Some(Outcome::Aborted) {
            return held(
                "aborted",
                format!("the last attempt on device {mac} was aborted; device.authorize allows one more"),
            );
        }
        if device.failures >= self.settings.max_attempts {
            let failures = device.failures;
            return held(
                "attempts_used_up",
                format!("device {mac} failed {failures} times in a row and is held; look at it, then device.authorize"),
            );
        }
        Ok(choice)
    }

    /// What of the project that a device would get now counts while it boots.
    pub fn boot_project(&self, mac: Mac) -> Option<BootProject> {
        // While more than one may come of it, the device gets what all get.
        let project = self.may_start(&self.known(mac)).ok()?.project()?;
        let config_txt = project.boot.as_ref().map(|boot| boot.config_txt.to_string());
        Some(BootProject { id: project.id.clone(), config_txt })
    }

    /// Says that a device was refused, unless that was said lately.
    pub(super) fn refused(&self, device: DeviceRef, refusal: &Refusal, now: Timestamp) -> Vec<Fact> {
        let said = self.devices.get(&device.mac).and_then(|known| known.refused.get(&refusal.code));
        if said.is_some_and(|at| now.since(*at) < REFUSAL_PAUSE) {
            return Vec::new();
        }
        vec![Event::DeviceRefused { device, code: refusal.code.clone(), detail: refusal.detail.clone() }.into()]
    }

    pub(super) fn boot_seen(&mut self, mac: Mac, identity: BootIdentity, circuit: Option<String>, at: Timestamp) {
        let device = self.devices.entry(mac).or_insert_with(|| Device::new(mac, at));
        device.identity = Some(identity);
        device.circuit = circuit;
        device.discover_at = Some(at);
        device.reported = false;
        device.seen_at = at;
    }

    pub(super) fn apply_device_event(&mut self, event: &Event, at: Timestamp) {
        // What a printer does is no sign of the device.
        if matches!(event, Event::LabelQueued { .. } | Event::LabelPrinted { .. } | Event::LabelFailed { .. }) {
            return;
        }
        let Some(reference) = event.device() else { return };
        let mac = reference.mac;
        let device = self.devices.entry(mac).or_insert_with(|| Device::new(mac, at));
        device.seen_at = at;
        if let Some(serial) = reference.serial {
            device.serial = Some(serial);
            self.serials.insert(serial, mac);
        }
        match event {
            Event::DeviceDiscovered { via, address, .. } => {
                // It may have been plugged in elsewhere.
                device.switch_port = None;
                device.boot_warnings.clear();
                device.boot = Some(Boot::new(*via, at, *address));
                device.console = None;
            }
            Event::DeviceLocated { .. } => self.apply_located(reference),
            Event::DeviceRefused { code, .. } => {
                device.refused.insert(code.clone(), at);
            }
            Event::DeviceAuthorized { .. } => device.authorize(),
            Event::DeviceAssigned { .. } => device.assign(reference.project.clone()),
            Event::DeviceUnassigned { .. } => device.assigned = None,
            Event::DeviceStarted { .. } => self.begin(event, at),
            Event::StepStarted { step, .. } => {
                device.reported = true;
                if let Some(session) = reference.session.and_then(|id| self.sessions.get_mut(&id)) {
                    session.running = Some(Running { step: *step, since: at });
                    session.life.last_sign = at;
                    session.life.last_byte = at;
                }
            }
            Event::StepCompleted { .. } => self.apply_completed(event, at),
            Event::DeviceProvisioned { vitals, .. } => {
                self.note_vitals(reference, vitals);
                self.end(reference, Outcome::Passed, None, at);
            }
            Event::DeviceFailed { code, detail, vitals, .. } => {
                self.note_vitals(reference, vitals);
                self.end(reference, Outcome::Failed, Some((code, detail)), at);
            }
            Event::DeviceInterrupted { code, detail, .. } => {
                self.end(reference, Outcome::Interrupted, Some((code, detail)), at);
            }
            Event::DeviceAborted { detail, .. } => {
                self.end(reference, Outcome::Aborted, Some((&"aborted".to_owned(), detail)), at);
            }
            _ => {}
        }
    }

    fn apply_completed(&mut self, event: &Event, at: Timestamp) {
        let Event::StepCompleted { device, step, bytes, sha256, cache, firmware, scripts, warnings, .. } = event else {
            return;
        };
        let evidence = Evidence {
            bytes: *bytes,
            sha256: *sha256,
            cache: *cache,
            firmware: firmware.clone(),
            scripts: scripts.clone(),
            warnings: warnings.clone(),
        };
        if let Some(session) = device.session.and_then(|id| self.sessions.get_mut(&id)) {
            session.running = None;
            session.done.push((*step, evidence));
            session.life.last_sign = at;
        }
    }

    fn apply_located(&mut self, reference: &DeviceRef) {
        if let (Some(device), Some(port)) = (self.devices.get_mut(&reference.mac), &reference.switch_port) {
            device.switch_port = Some(port.clone());
        }
        if let Some(session) = reference.session.and_then(|id| self.sessions.get_mut(&id)) {
            session.switch_port.clone_from(&reference.switch_port);
            session.slot.clone_from(&reference.slot);
        }
    }

    fn begin(&mut self, event: &Event, at: Timestamp) {
        let Event::DeviceStarted { device: reference, facts, plan, warnings, boot } = event else { return };
        let (Some(id), Some(attempt), Some(project)) =
            (reference.session, reference.attempt, reference.project.clone())
        else {
            return;
        };
        if let Some(device) = self.devices.get_mut(&reference.mac) {
            device.attempts = attempt;
            device.open_session = Some(id);
            device.authorized = false;
            device.reported = false;
            if boot.is_some() {
                device.boot.clone_from(boot);
            }
        }
        let session = Session {
            id,
            mac: reference.mac,
            attempt,
            project,
            facts: facts.clone(),
            circuit: reference.circuit.clone(),
            switch_port: reference.switch_port.clone(),
            slot: reference.slot.clone(),
            plan: plan.clone(),
            token: "none".parse().expect("a valid segment"),
            started_at: at,
            running: None,
            done: Vec::new(),
            warnings: warnings.clone(),
            data: DeviceData::default(),
            ended: None,
            vitals: Vitals::default(),
            life: Life { last_sign: at, last_byte: at, ..Life::default() },
        };
        self.sessions.insert(id, session);
    }

    fn note_vitals(&mut self, reference: &DeviceRef, vitals: &Vitals) {
        if let Some(session) = reference.session.and_then(|id| self.sessions.get_mut(&id)) {
            session.vitals = vitals.clone();
        }
    }

    fn end(&mut self, reference: &DeviceRef, outcome: Outcome, why: Option<(&String, &String)>, at: Timestamp) {
        if let Some(device) = self.devices.get_mut(&reference.mac) {
            device.open_session = None;
            device.last_outcome = Some(outcome);
            match outcome {
                Outcome::Passed => {
                    device.finished = true;
                    device.failures = 0;
                }
                Outcome::Failed | Outcome::Interrupted => device.failures += 1,
                Outcome::Aborted => {}
            }
        }
        if let Some(session) = reference.session.and_then(|id| self.sessions.get_mut(&id)) {
            session.running = None;
            session.data.secrets.clear();
            session.ended = Some(Ended {
                outcome,
                at,
                code: why.map(|(code, _)| code.clone()),
                detail: why.map(|(_, detail)| detail.clone()),
            });
        }
    }

    /// What a step has shown, if it is done.
    pub(super) fn evidence(session: &Session, step: StepName) -> Option<&Evidence> {
        session.done.iter().find(|(done, _)| *done == step).map(|(_, evidence)| evidence)
    }
}
