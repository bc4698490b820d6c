//! Labels: which are queued for which printer when something happens, and what came of them. A label delays no device and
//! fails none, unless its project says so.

use serde_json::json;

use crate::core::advice::advice;
use crate::core::command::{Command, LabelName, LabelPrint, LabelPut};
use crate::core::device::Mac;
use crate::core::event::{DeviceRef, Event};
use crate::core::floor::command::Effect;
use crate::core::floor::{Decision, Fact, Floor, Note};
use crate::core::label::render;
use crate::core::label::{
    Label, LabelId, LabelJob, Labels, MOST_JOBS, MOST_LABELS, OnUnprinted, PrintOn, PrinterName, ProjectLabel,
};
use crate::core::observation::{Observation, Vitals};
use crate::core::plan::SessionId;
use crate::core::refusal::Refusal;
use crate::core::slot::SlotName;
use crate::core::time::Timestamp;

/// A request has 64 KiB at most.
const LONGEST_TEXT: usize = 48 << 10;

/// What is to be printed, before it is known whether it can be queued.
struct Wanted<'a> {
    device: DeviceRef,
    label: &'a LabelId,
    printer: Option<&'a PrinterName>,
    reprint: bool,
    required: bool,
    by: Option<&'a str>,
}

/// Why a label was not queued.
type Unqueued = (&'static str, String);

impl Floor {
    pub fn labels(&self) -> &Labels {
        &self.labels
    }

    pub fn learn_label(&mut self, label: Label) {
        self.labels.templates.insert(label.id.clone(), label);
    }

    pub fn learn_label_jobs(&mut self, jobs: Vec<LabelJob>, newest: u64) {
        self.labels.jobs.extend(jobs.into_iter().map(|job| (job.job, job)));
        self.labels.newest = newest;
    }

    pub(super) fn put_label(
        &self,
        wanted: &LabelPut,
        if_match: Option<u64>,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let id = LabelId::from_name(&wanted.name).ok_or_else(|| {
            Refusal::invalid("/params/name", format!("no letter or digit in {:?} to make an id of", wanted.name))
        })?;
        if wanted.name.chars().count() > 200 || wanted.name.contains(char::is_control) {
            return Err(Refusal::invalid("/params/name", "a name has at most 200 characters and none for control"));
        }
        if wanted.text.trim().is_empty() || wanted.text.len() > LONGEST_TEXT || wanted.text.contains('\0') {
            let detail = format!("a label has between 1 and {LONGEST_TEXT} bytes and no NUL");
            return Err(Refusal::invalid("/params/text", detail));
        }
        render::check(&wanted.text).map_err(|fault| Refusal::invalid("/params/text", fault.to_string()))?;
        let revision = self.labels.templates.get(&id).map_or(0, |label| label.revision);
        if let Some(expected) = if_match.filter(|expected| *expected != revision) {
            let detail = format!("label {id} is at revision {revision}, not {expected}");
            return Err(Refusal::new(412, "precondition_failed", detail));
        }
        let label = Label {
            id: id.clone(),
            name: wanted.name.clone(),
            size_bytes: u64::try_from(wanted.text.len()).unwrap_or(u64::MAX),
            revision: revision + 1,
            updated_at: now,
        };
        let text = Note::LabelText { label: id, revision: revision + 1, text: wanted.text.clone() };
        Ok((vec![Event::LabelAdded(label.clone()).into(), text.into()], json!({"label": label})))
    }

    pub(super) fn delete_label(
        &self,
        LabelName { label: id }: &LabelName,
        if_match: Option<u64>,
    ) -> Result<Effect, Refusal> {
        let label = self.labels.templates.get(id).ok_or_else(|| Refusal::not_found("label", id))?;
        if let Some(expected) = if_match.filter(|expected| *expected != label.revision) {
            let detail = format!("label {id} is at revision {}, not {expected}", label.revision);
            return Err(Refusal::new(412, "precondition_failed", detail));
        }
        if let Some(user) = self.projects.values().find(|project| project.labels.iter().any(|used| used.label == *id)) {
            return Err(Refusal::new(409, "in_use", format!("label {id} is used by project {}", user.id)));
        }
        // Put again it would begin at revision 1, with another text than the one that was queued.
        if let Some(job) = self.labels.jobs.values().find(|job| job.label == *id) {
            let detail = format!("label {id} waits for printer {} as job {}", job.printer, job.job);
            return Err(Refusal::new(409, "in_use", detail));
        }
        Ok((vec![Event::LabelRemoved { label: id.clone() }.into()], json!({"label": label})))
    }

    /// The labels of a project are there, and their printers.
    pub(super) fn checked_labels(&self, wanted: &[ProjectLabel]) -> Result<Vec<ProjectLabel>, Refusal> {
        for (index, ProjectLabel { label, on, printer, on_failure }) in wanted.iter().enumerate() {
            let wrong =
                |field: &str, detail: String| Err(Refusal::invalid(&format!("/params/labels/{index}/{field}"), detail));
            if !self.labels.templates.contains_key(label) {
                return wrong("label", format!("there is no label {label}"));
            }
            if let Some(printer) =
                printer.as_ref().filter(|printer| !self.settings.line.printers.contains_key(*printer))
            {
                return wrong("printer", format!("there is no printer {printer} in the configuration"));
            }
            if *on_failure == OnUnprinted::Fail && *on == PrintOn::Passed {
                return wrong("on_failure", "fail needs on: preinstall; what has passed has passed".to_owned());
            }
        }
        if wanted.len() > MOST_LABELS {
            return Err(Refusal::invalid("/params/labels", format!("{} labels; at most {MOST_LABELS}", wanted.len())));
        }
        Ok(wanted.to_vec())
    }

    /// By hand: what cannot be queued is refused.
    pub(super) fn print_label(
        &self,
        wanted: &LabelPrint,
        command: &Command,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let device = match (wanted.session, wanted.device) {
            (Some(id), None) => {
                let session = self.sessions.get(&id).ok_or_else(|| Refusal::not_found("session", id))?;
                self.reference_in(session)
            }
            (None, Some(mac)) => self.newest_reference(mac)?,
            _ => return Err(Refusal::invalid("/params", "name a device or a session, and not both")),
        };
        if !self.labels.templates.contains_key(&wanted.label) {
            return Err(Refusal::not_found("label", &wanted.label));
        }
        let wanted = Wanted {
            device,
            label: &wanted.label,
            printer: wanted.printer.as_ref(),
            reprint: wanted.reprint,
            required: false,
            by: Some(&command.actor.id),
        };
        let (event, job) = self.queued(&wanted, 0, now).map_err(|(code, detail)| Refusal::new(409, code, detail))?;
        Ok((vec![event.into()], json!({"job": job.job, "label": job.label, "printer": job.printer})))
    }

    fn newest_reference(&self, mac: Mac) -> Result<DeviceRef, Refusal> {
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        Ok(match device.open_session.and_then(|id| self.sessions.get(&id)) {
            Some(session) => self.reference_in(session),
            None => DeviceRef { slot: self.slot_of(mac, None), ..self.reference(mac) },
        })
    }

    /// `ahead` jobs of the same decision come before it.
    fn queued(&self, wanted: &Wanted<'_>, ahead: u64, now: Timestamp) -> Result<(Event, LabelJob), Unqueued> {
        let Wanted { device, label, printer, reprint, required, by } = wanted;
        let template = self.labels.templates.get(label);
        let template = template.ok_or_else(|| ("label.not_found", format!("the label {label} is gone")))?;
        let (printer, expire) = self.printer(*printer, device.slot.as_ref())?;
        let waiting = self.labels.jobs.values().filter(|job| job.printer == printer).count();
        if waiting >= MOST_JOBS {
            return Err(("label.queue_full", format!("{waiting} labels wait for printer {printer} already")));
        }
        let job = LabelJob {
            job: self.labels.newest + 1 + ahead,
            label: template.id.clone(),
            revision: template.revision,
            printer,
            mac: device.mac,
            session: device.session,
            reprint: *reprint,
            required: *required,
            queued_at: now,
            expires_at: now.plus(expire),
        };
        let event = Event::LabelQueued {
            device: device.clone(),
            job: job.job,
            label: job.label.clone(),
            revision: job.revision,
            printer: job.printer.clone(),
            reprint: *reprint,
            required: *required,
            expires_at: job.expires_at,
            by: by.map(str::to_owned),
        };
        Ok((event, job))
    }

    fn printer(
        &self,
        wanted: Option<&PrinterName>,
        slot: Option<&SlotName>,
    ) -> Result<(PrinterName, std::time::Duration), Unqueued> {
        let line = &self.settings.line;
        let of_slot = slot.and_then(|slot| line.slot(slot)).and_then(|slot| slot.printer.as_deref());
        let Some(name) = wanted.map(PrinterName::as_str).or(of_slot) else {
            let place =
                slot.map_or_else(|| "the device is in no slot".to_owned(), |slot| format!("slot {slot} has none"));
            return Err(("label.no_printer", format!("no printer is named, and {place}")));
        };
        let known = line.printers.iter().find(|(printer, _)| printer.as_str() == name);
        let missing = || ("label.no_printer", format!("there is no printer {name} in the configuration"));
        known.map(|(printer, expire)| (printer.clone(), *expire)).ok_or_else(missing)
    }

    /// Adds the labels that a project prints when a session begins or has passed.
    pub(super) fn with_labels(&self, mut decision: Decision, now: Timestamp) -> Decision {
        let mut added: Vec<Fact> = Vec::new();
        let mut ahead = 0;
        for fact in &decision.facts {
            let Fact::Event(event) = fact else { continue };
            let (device, moment) = match event.as_ref() {
                Event::DeviceStarted { device, .. } => (device, PrintOn::Preinstall),
                Event::DeviceProvisioned { device, .. } => (device, PrintOn::Passed),
                _ => continue,
            };
            let project = device.project.as_ref().and_then(|project| self.projects.get(project));
            for wanted in project.into_iter().flat_map(|project| &project.labels).filter(|label| label.on == moment) {
                let required = wanted.on_failure == OnUnprinted::Fail;
                let (label, printer) = (&wanted.label, wanted.printer.as_ref());
                let wish = Wanted { device: device.clone(), label, printer, reprint: false, required, by: None };
                match self.queued(&wish, ahead, now) {
                    Ok((event, _)) => {
                        ahead += 1;
                        added.push(event.into());
                    }
                    Err(why) => added.extend(self.unprinted(&wish, None, why)),
                }
            }
        }
        decision.facts.extend(added);
        decision
    }

    /// It is told, and where the project says so its session fails.
    fn unprinted(&self, wanted: &Wanted<'_>, job: Option<u64>, (code, detail): (&str, String)) -> Vec<Fact> {
        let mut facts: Vec<Fact> = vec![
            Event::LabelFailed {
                device: wanted.device.clone(),
                job,
                label: wanted.label.clone(),
                printer: wanted.printer.cloned(),
                code: code.to_owned(),
                detail: detail.clone(),
                advice: advice(code).map(str::to_owned),
            }
            .into(),
        ];
        let session = wanted.device.session;
        // A session that begins with this is not on the floor yet.
        let open = session.is_some_and(|id| self.sessions.get(&id).is_none_or(|session| session.is_open()));
        if wanted.required && open {
            let mac = wanted.device.mac;
            let retryable = self.devices.get(&mac).is_none_or(|known| known.failures + 1 < self.settings.max_attempts);
            let failed = Event::DeviceFailed {
                device: wanted.device.clone(),
                step: session.and_then(|id| self.sessions.get(&id)).and_then(|session| session.current_step()),
                code: "label.failed".to_owned(),
                detail: format!("label {}: {detail}", wanted.label),
                advice: advice("label.failed").map(str::to_owned),
                retryable,
                vitals: Vitals::default(),
            };
            facts.push(failed.into());
        }
        facts
    }

    /// A label that the session may not pass without and that is not there yet.
    pub(super) fn owed_label(&self, session: SessionId) -> Option<&LabelJob> {
        self.labels.jobs.values().find(|job| job.required && job.session == Some(session))
    }

    /// What came of a label.
    pub(super) fn label_observed(&self, observation: &Observation) -> Vec<Fact> {
        match observation {
            Observation::LabelPrinted { job, output } => self.label_printed(*job, output.as_ref()),
            Observation::LabelFailed { job, code, detail } => self.label_failed(*job, code, detail),
            _ => Vec::new(),
        }
    }

    /// A printer has taken it. Said of a job that is gone already (it had expired meanwhile), nothing follows.
    fn label_printed(&self, number: u64, output: Option<&String>) -> Vec<Fact> {
        let Some(job) = self.labels.jobs.get(&number) else { return Vec::new() };
        let event = Event::LabelPrinted {
            device: self.reference_of(job),
            job: number,
            label: job.label.clone(),
            printer: job.printer.clone(),
            reprint: job.reprint,
            output: output.cloned(),
        };
        let mut facts = vec![event.into()];
        facts.extend(self.cleared(&format!("printer.{}", job.printer)));
        facts
    }

    /// It can never be printed, or has waited for too long.
    fn label_failed(&self, number: u64, code: &str, detail: &str) -> Vec<Fact> {
        let Some(job) = self.labels.jobs.get(&number) else { return Vec::new() };
        let wish = Wanted {
            device: self.reference_of(job),
            label: &job.label,
            printer: Some(&job.printer),
            reprint: job.reprint,
            required: job.required,
            by: None,
        };
        self.unprinted(&wish, Some(number), (code, detail.to_owned()))
    }

    /// What the clock says to labels that wait.
    pub(super) fn labels_expired(&self, now: Timestamp) -> Vec<Fact> {
        let late = self.labels.jobs.values().filter(|job| job.expires_at <= now);
        late.flat_map(|job| {
            let why = self.alarms.get(&format!("printer.{}", job.printer));
            let waited = now.since(job.queued_at).as_secs();
            let why = why.map_or_else(|| "the printer did not come to it".to_owned(), Clone::clone);
            self.label_failed(job.job, "label.expired", &format!("not printed within {waited} s: {why}"))
        })
        .collect()
    }

    fn reference_of(&self, job: &LabelJob) -> DeviceRef {
        match job.session.and_then(|id| self.sessions.get(&id)) {
            Some(session) => self.reference_in(session),
            None => DeviceRef { session: job.session, ..self.reference(job.mac) },
        }
    }

    pub(super) fn apply_label_event(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::LabelAdded(label) => self.learn_label(label.clone()),
            Event::LabelRemoved { label } => drop(self.labels.templates.remove(label)),
            Event::LabelQueued { device, job, label, revision, printer, reprint, required, expires_at, .. } => {
                self.labels.newest = self.labels.newest.max(*job);
                let job = LabelJob {
                    job: *job,
                    label: label.clone(),
                    revision: *revision,
                    printer: printer.clone(),
                    mac: device.mac,
                    session: device.session,
                    reprint: *reprint,
                    required: *required,
                    queued_at: at,
                    expires_at: *expires_at,
                };
                self.labels.jobs.insert(job.job, job);
            }
            Event::LabelPrinted { job, .. } | Event::LabelFailed { job: Some(job), .. } => {
                self.labels.jobs.remove(job);
            }
            _ => {}
        }
    }
}
