//! The journey of a session: it asks for its script, reports its steps, and ends in exactly one way.

use crate::core::advice::advice;
use crate::core::device::Mac;
use crate::core::event::{DeviceRef, Event, Via};
use crate::core::floor::{Decision, Doubt, Fact, Floor, Note, firmware, scripts};
use crate::core::observation::{Cache, Evidence, Report, Reported, ScriptAsk, Vitals};
use crate::core::plan::{Plan, SessionId, Token};
use crate::core::project::Project;
use crate::core::refusal::Refusal;
use crate::core::rule::Known;
use crate::core::session::{Outcome, Session, StepName};
use crate::core::time::Timestamp;
use crate::core::view::Answer;

impl Floor {
    pub(super) fn script_asked(&self, ask: &ScriptAsk, now: Timestamp) -> Result<Decision, Refusal> {
        let mac = match self.who_calls(ask) {
            Ok(mac) => mac,
            Err((refusal, alarm)) => {
                let doubt = alarm.zip(ask.mac).map(|(detail, mac)| self.doubted(Doubt::Address, mac, &detail));
                let facts = doubt.unwrap_or_default();
                return Ok(Decision { facts, answer: Answer::Refused(refusal) });
            }
        };
        let mut facts = Vec::from_iter(self.trusted(Doubt::Address, mac));
        if !self.devices.contains_key(&mac) {
            facts.push(self.discovered(mac, None, Via::Script, None).into());
        }
        if let Some(refusal) = self.serial_conflict(mac, ask, &mut facts) {
            facts.extend(self.refused(self.reference(mac), &refusal, now));
            return Ok(Decision { facts, answer: Answer::Refused(refusal) });
        }
        if let Some(open) = self.open_session(mac) {
            if !open.has_reported() {
                // The device's curl retries: the same attempt, the same script.
                facts.push(Self::script_moment(mac, "again", now));
                return Ok(Decision { facts, answer: Answer::Session(Box::new(open.clone())) });
            }
            facts.push(self.interrupted(
                open,
                "rebooted",
                "the device asked for a new script in the middle of a session",
            ));
        }
        facts.extend(self.asked_as_known(mac, ask.serial));
        let reference = DeviceRef { serial: Some(ask.serial), serial8: Some(ask.serial.low()), ..self.reference(mac) };
        match self.start(mac, ask, &reference, now) {
            Ok(started) => {
                let session = ask.fresh_session;
                facts.push(started);
                facts.push(Note::TokenIssued { session, token: ask.fresh_token.clone() }.into());
                let data = self.devices.get(&mac).map(|device| device.data.clone()).unwrap_or_default();
                if !data.is_empty() {
                    facts.push(Note::DataIssued { session, data }.into());
                }
                facts.push(Self::script_moment(mac, "started", now));
                Ok(self.with_session(facts, session, now))
            }
            // It will be otherwise in a moment: the device's curl asks again.
            Err(refusal) if refusal.code == firmware::NOT_READY => Err(refusal),
            Err(refusal) => {
                let told = self.refused(reference, &refusal, now);
                // A device that is told to ask again does so every few seconds: one line is enough.
                if !refusal.retryable || !told.is_empty() {
                    facts.push(Self::script_moment(mac, &refusal.code, now));
                }
                facts.extend(told);
                Ok(Decision { facts, answer: Answer::Refused(refusal) })
            }
        }
    }

    /// The receipt shows the session as it stands after, so it is folded once ahead.
    fn with_session(&self, facts: Vec<Fact>, session: SessionId, now: Timestamp) -> Decision {
        let mut ahead = Self::new(self.settings.clone());
        for fact in &facts {
            ahead.apply(fact, now);
        }
        let answer =
            ahead.sessions.remove(&session).map_or(Answer::Noted, |session| Answer::Session(Box::new(session)));
        Decision { facts, answer }
    }

    /// An empty `mac` is taken from the lease of the calling address; a disagreement is an alarm.
    fn who_calls(&self, ask: &ScriptAsk) -> Result<Mac, (Refusal, Option<String>)> {
        let tenant = self.addresses.mac_of(ask.address);
        match (ask.mac, tenant) {
            (Some(mac), Some(tenant)) if mac != tenant => {
                let detail = format!("device {mac} calls from {}, which is leased to {tenant}", ask.address);
                Err((Refusal::new(409, "identity_conflict", detail.clone()), Some(detail)))
            }
            (Some(mac), _) | (None, Some(mac)) => Ok(mac),
            (None, None) => {
                let detail = format!("no mac was given, and {} has no lease here", ask.address);
                Err((Refusal::new(400, "unknown_device", detail), None))
            }
        }
    }

    /// A serial that moved to another MAC is told; a MAC that shows another serial is not written.
    fn serial_conflict(&self, mac: Mac, ask: &ScriptAsk, facts: &mut Vec<Fact>) -> Option<Refusal> {
        let shown = ask.serial;
        let other = self.serials.get(&shown).filter(|other| **other != mac);
        let moved = other.map(|other| format!("serial {shown} was known as device {other} and now shows as {mac}"));
        let device = self.devices.get(&mac);
        let known = device.and_then(|device| device.serial).filter(|known| *known != shown);
        let changed = known.map(|known| format!("device {mac} was known with serial {known} and now shows {shown}"));
        let details: Vec<&str> = [&moved, &changed].into_iter().flatten().map(String::as_str).collect();
        if !details.is_empty() {
            facts.extend(self.doubted(Doubt::Serial, mac, &details.join("; ")));
        }
        let authorized = device.is_some_and(|device| device.authorized);
        changed.filter(|_| !authorized).map(|detail| Refusal::new(409, "identity_conflict", detail))
    }

    fn open_session(&self, mac: Mac) -> Option<&Session> {
        let id = self.devices.get(&mac)?.open_session?;
        self.sessions.get(&id).filter(|session| session.is_open())
    }

    fn start(&self, mac: Mac, ask: &ScriptAsk, reference: &DeviceRef, now: Timestamp) -> Result<Fact, Refusal> {
        let rebooted = self.open_session(mac).is_some();
        let slot = self.slot_of(mac, ask.facts.jumper.as_deref());
        let known = Known { serial: Some(ask.serial), slot: slot.clone(), ..self.known(mac) }.with_facts(&ask.facts);
        let choice = self.may_start(&known)?;
        self.slot_is_open(mac, ask.facts.jumper.as_deref())?;
        let Some(project) = choice.project() else {
            return Err(Refusal::new(409, "hold", format!("the rules do not decide about device {mac}")));
        };
        self.taking()?;
        let device = self.devices.get(&mac);
        if rebooted
            && device.is_some_and(|device| !device.authorized && device.failures + 1 >= self.settings.max_attempts)
        {
            return Err(Refusal::new(
                409,
                "attempts_used_up",
                format!("device {mac} broke off too often and is held; look at it, then device.authorize"),
            ));
        }
        let plan = Plan { firmware: self.plan_firmware(project, mac)?, ..self.plan(project, ask)? };
        Ok(Event::DeviceStarted {
            device: DeviceRef {
                session: Some(ask.fresh_session),
                attempt: Some(device.map_or(0, |device| device.attempts) + 1),
                project: Some(project.id.clone()),
                image: Some(plan.image),
                board: ask.facts.jumper.clone(),
                slot,
                ..reference.clone()
            },
            facts: ask.facts.clone(),
            plan,
            warnings: device.map(|device| device.boot_warnings.clone()).unwrap_or_default(),
            boot: self.boot_of(mac, now),
        }
        .into())
    }

    fn plan(&self, project: &Project, ask: &ScriptAsk) -> Result<Plan, Refusal> {
        let wanted = project.image_for(ask.facts.storage_bytes());
        let (image, served) = self.writable(wanted, format_args!("project {}", project.id))?;
        // The query tells the size of the eMMC alone; other storage is measured by the script.
        if project.storage == crate::core::plan::StoragePath::default() {
            let Some(size) = ask.facts.storage_bytes().filter(|size| *size > 0) else {
                return Err(Refusal::new(
                    409,
                    "no_storage",
                    "the module shows no storage; a Lite module needs a card or another storage in its project",
                ));
            };
            if image.raw_size_bytes > size {
                let detail =
                    format!("image {:?} needs {} bytes, the storage has {size}", image.name, image.raw_size_bytes);
                return Err(Refusal::new(409, "image_too_large", detail));
            }
        }
        Ok(Plan {
            image: image.id,
            compression: served.compression,
            size_bytes: served.size_bytes,
            transcoded: served.transcoded,
            raw_sha256: image.raw_sha256,
            raw_size_bytes: image.raw_size_bytes,
            storage: project.storage.clone(),
            status_led: project.status_led,
            scripts: self.plan_scripts(project)?,
            data_file: project.data_file.clone(),
            firmware: None,
            regular_file: ask.facts.simulated,
        })
    }

    /// The session of a report whose token is right.
    pub(super) fn session_of(&self, id: SessionId, token: &Token) -> Result<&Session, Refusal> {
        let session = self.sessions.get(&id).ok_or_else(|| Refusal::not_found("session", id))?;
        if !session.token.matches(token) {
            return Err(Refusal::new(401, "bad_token", format!("the token is not that of session {id}")));
        }
        Ok(session)
    }

    pub(super) fn progressed(
        &self,
        id: SessionId,
        token: &Token,
        bytes: u64,
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        let session = self.session_of(id, token)?;
        if !session.is_open() {
            return Err(closed(session));
        }
        let answer = if session.life.identify_until > now { Answer::Identify } else { Answer::Noted };
        Ok(Decision { facts: vec![Note::Pulse { session: id, bytes }.into()], answer })
    }

    pub(super) fn reported(&self, report: &Report, now: Timestamp) -> Result<Decision, Refusal> {
        let session = self.session_of(report.session, &report.token)?;
        if let Some(ended) = &session.ended {
            let heard = match (&report.what, ended.outcome) {
                (Reported::Finished, Outcome::Passed) => true,
                (Reported::StepFailed { code, .. }, Outcome::Failed) => ended.code.as_ref() == Some(code),
                _ => false,
            };
            // The answer to the last report was lost on its way: say it again.
            if heard {
                return Ok(Decision::noted(Vec::new()));
            }
            let late = Note::LateReport { session: session.id, what: report.what.clone() };
            return Ok(Decision { facts: vec![late.into()], answer: Answer::Refused(closed(session)) });
        }
        match &report.what {
            Reported::StepStarted { step } => self.step_started(session, *step),
            Reported::StepCompleted { step, evidence } => {
                self.step_completed(session, *step, (evidence, &report.vitals), now)
            }
            Reported::StepFailed { step, code, detail } => {
                Ok(Decision::noted(vec![self.failed(session, Some(*step), code, detail).with_vitals(&report.vitals)]))
            }
            Reported::Finished => self.finished(session, &report.vitals, now),
        }
    }

    fn step_started(&self, session: &Session, step: StepName) -> Result<Decision, Refusal> {
        if session.current_step() == Some(step) || session.has_done(step) {
            return Ok(Decision::noted(vec![Note::Sign { session: session.id }.into()]));
        }
        Self::may_run(session, step)?;
        Ok(Decision::noted(vec![Event::StepStarted { device: self.reference_in(session), step }.into()]))
    }

    /// The steps of a plan come in their order, each once.
    fn may_run(session: &Session, step: StepName) -> Result<(), Refusal> {
        let wrong = |why: String| Err(Refusal::new(409, "wrong_state", why));
        if let Some(running) = session.current_step().filter(|running| *running != step) {
            return wrong(format!("step {} is not done yet", running.as_str()));
        }
        let steps = session.plan.steps();
        let Some(at) = steps.iter().position(|planned| *planned == step) else {
            return wrong(format!("the plan of this session has no step {}", step.as_str()));
        };
        match steps[..at].iter().find(|before| !session.has_done(**before)) {
            Some(before) => wrong(format!("step {} comes before {}", before.as_str(), step.as_str())),
            None => Ok(()),
        }
    }

    fn step_completed(
        &self,
        session: &Session,
        step: StepName,
        (evidence, vitals): (&Evidence, &Vitals),
        now: Timestamp,
    ) -> Result<Decision, Refusal> {
        if session.has_done(step) {
            return Ok(Decision::noted(vec![Note::Sign { session: session.id }.into()]));
        }
        Self::may_run(session, step)?;
        if let Err(fault) = proves(&session.plan, step, evidence) {
            return match fault.status {
                400 => Err(fault),
                _ => Ok(Decision {
                    facts: vec![self.failed(session, Some(step), &fault.code, &fault.detail).with_vitals(vitals)],
                    answer: Answer::Refused(fault),
                }),
            };
        }
        let mut facts: Vec<Fact> = Vec::new();
        let device = self.reference_in(session);
        if session.current_step().is_none() {
            facts.push(Event::StepStarted { device: device.clone(), step }.into());
        }
        let duration = session.running.map(|running| now.since(running.since)).unwrap_or_default();
        facts.push(
            Event::StepCompleted {
                device,
                step,
                duration_ms: u64::try_from(duration.as_millis()).unwrap_or(u64::MAX),
                bytes: evidence.bytes,
                sha256: evidence.sha256,
                cache: evidence.cache,
                firmware: evidence.firmware.clone(),
                scripts: evidence.scripts.clone(),
                warnings: evidence.warnings.clone(),
            }
            .into(),
        );
        Ok(Decision::noted(facts))
    }

    /// Passed is said here and nowhere else, and only on a read-back that was checked when it came in.
    fn finished(&self, session: &Session, vitals: &Vitals, now: Timestamp) -> Result<Decision, Refusal> {
        let proof = Self::evidence(session, StepName::Verify)
            .and_then(|evidence| Some((evidence.sha256?, evidence.bytes?, evidence.cache?)));
        let is_done = session.plan.steps().into_iter().all(|step| session.has_done(step));
        let Some((sha256, bytes, cache)) = proof.filter(|_| is_done && session.running.is_none()) else {
            return Err(Refusal::new(409, "wrong_state", "a session finishes after all of its steps"));
        };
        if let Some(job) = self.owed_label(session.id) {
            let detail = format!("label {} is not printed: it waits for printer {}", job.label, job.printer);
            let failed = self.failed(session, None, "label.failed", &detail);
            let refusal = Refusal::new(409, "label.failed", detail);
            return Ok(Decision { facts: vec![failed], answer: Answer::Refused(refusal) });
        }
        Ok(Decision::noted(vec![
            Event::DeviceProvisioned {
                device: self.reference_in(session),
                duration_ms: u64::try_from(now.since(session.started_at).as_millis()).unwrap_or(u64::MAX),
                sha256,
                bytes,
                cache,
                vitals: vitals.clone(),
                simulated: session.facts.simulated,
            }
            .into(),
        ]))
    }

    pub(super) fn failed(&self, session: &Session, step: Option<StepName>, code: &str, detail: &str) -> Fact {
        Event::DeviceFailed {
            device: self.reference_in(session),
            step: step.or_else(|| session.current_step()),
            code: code.to_owned(),
            detail: detail.to_owned(),
            advice: advice(code).map(str::to_owned),
            retryable: self.may_retry(session),
            vitals: Vitals::default(),
        }
        .into()
    }

    pub(super) fn interrupted(&self, session: &Session, code: &str, detail: &str) -> Fact {
        Event::DeviceInterrupted {
            device: self.reference_in(session),
            step: session.current_step(),
            code: code.to_owned(),
            detail: detail.to_owned(),
            advice: advice(code).map(str::to_owned),
            retryable: self.may_retry(session),
        }
        .into()
    }

    fn may_retry(&self, session: &Session) -> bool {
        self.devices.get(&session.mac).is_none_or(|device| device.failures + 1 < self.settings.max_attempts)
    }
}

fn closed(session: &Session) -> Refusal {
    let outcome = session.ended.as_ref().map_or("open", |ended| ended.outcome.as_str());
    Refusal::new(409, "session_closed", format!("session {} has ended: {outcome}", session.id))
}

/// Does the evidence bear out what the report says? 400: it says too little. 409: it shows a failure.
fn proves(plan: &Plan, step: StepName, evidence: &Evidence) -> Result<(), Refusal> {
    let size = plan.raw_size_bytes;
    let short = |deed: &str, bytes: u64| {
        Refusal::new(
            409,
            &format!("{}.size", step.as_str()),
            format!("{bytes} bytes were {deed}, the image has {size}"),
        )
    };
    match step {
        StepName::Write => match evidence.bytes {
            Some(bytes) if bytes != size => Err(short("written", bytes)),
            _ => Ok(()),
        },
        StepName::Verify => {
            let missing = |name: &str| Refusal::invalid(&format!("/{name}"), "a completed verify step needs it");
            let (sha256, bytes, cache) = (
                evidence.sha256.ok_or_else(|| missing("sha256"))?,
                evidence.bytes.ok_or_else(|| missing("bytes"))?,
                evidence.cache.ok_or_else(|| missing("cache"))?,
            );
            if bytes != size {
                return Err(short("read back", bytes));
            }
            if sha256 != plan.raw_sha256 {
                let detail = format!("the medium reads {sha256}, the image is {}", plan.raw_sha256);
                return Err(Refusal::new(409, "verify.mismatch", detail));
            }
            if cache == Cache::NotDropped && !plan.regular_file {
                return Err(Refusal::new(
                    409,
                    "verify.cached",
                    "the read-back came through the page cache, which proves nothing of the medium",
                ));
            }
            Ok(())
        }
        StepName::Firmware => firmware::proves(plan, evidence),
        StepName::Preinstall | StepName::Postinstall => scripts::proves(plan, step, evidence),
    }
}
