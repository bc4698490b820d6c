//! Requests: what they may change, and what they are answered.

use serde_json::{Value, json};

use crate::core::command::{
    Command, DeviceName, ImageRef, NAMES, Order, ProjectCreate, ProjectName, ProjectUpdate, Reply, SizedImageRef,
    Status,
};
use crate::core::device::Mac;
use crate::core::event::Event;
use crate::core::floor::{Decision, Fact, Floor};
use crate::core::image::Image;
use crate::core::project::{Boot, Project, ProjectId, SizedImage};
use crate::core::refusal::Refusal;
use crate::core::session::Session;
use crate::core::shown::StationShown;
use crate::core::time::Timestamp;
use crate::core::view::Answer;

pub(super) type Effect = (Vec<Fact>, Value);

/// Sizes of storage that one project tells apart.
const MOST_SIZES: usize = 8;

impl Floor {
    pub(super) fn carry_out(&self, command: &Command, now: Timestamp) -> Result<Decision, Refusal> {
        if command.expires_at < now {
            return Err(Refusal::new(410, "expired", format!("the request expired at {}", command.expires_at)));
        }
        if command.if_match.is_some() && !command.order.is_revised() {
            let detail = format!("{} has no revision that could match", command.name);
            return Err(Refusal::invalid("/if_match", detail));
        }
        let (mut facts, mut reply) = match &command.order {
            Order::ImageAdd(wanted) => self.begin_job(self.add_image(wanted, command, now)?, command, now),
            Order::EventsReplay(wanted) => self.begin_job(self.plan_replay(wanted, command, now)?, command, now),
            _ => {
                let (facts, result) = self.effect(command, now)?;
                (facts, Reply::succeeded(command, &self.settings.station, now, result))
            }
        };
        if command.dry_run {
            facts.clear();
            let would = json!({"dry_run": true, "would": reply.result});
            reply = Reply::succeeded(command, &self.settings.station, now, would);
        }
        if command.order.is_long() && !command.dry_run {
            reply = Reply { status: Status::Accepted, is_final: false, code: 202, ..reply };
        }
        if !command.order.reads_only() && !command.dry_run {
            facts.push(completed(command, &reply));
        }
        Ok(Decision { facts, answer: Answer::Reply(Box::new(reply)) })
    }

    fn effect(&self, command: &Command, now: Timestamp) -> Result<Effect, Refusal> {
        match &command.order {
            Order::ProjectCreate(wanted) => self.create_project(wanted, now),
            Order::ProjectUpdate(wanted) => self.update_project(wanted, command.if_match, now),
            Order::ProjectActivate(name) => self.activate_project(self.matched(name, command.if_match)?),
            Order::ProjectDeactivate(name) => Ok(deactivate_project(self.matched(name, command.if_match)?)),
            Order::ProjectDelete(name) => self.delete_project(self.matched(name, command.if_match)?),
            Order::ProjectGet(name) => Ok((Vec::new(), json!({"project": self.matched(name, command.if_match)?}))),
            Order::ProjectList => Ok((Vec::new(), json!({"projects": self.projects.values().collect::<Vec<_>>()}))),
            Order::ImageList => Ok((Vec::new(), self.list_images())),
            Order::JobCancel(name) => self.cancel_job(name.job.as_str(), now),
            Order::ImageDelete(name) => self.delete_image(self.find_image(&name.image)?),
            Order::FirmwareList => Ok((Vec::new(), json!({"firmware": self.firmware.values().collect::<Vec<_>>()}))),
            Order::FirmwareAdd(wanted) => Self::add_firmware(wanted),
            Order::FirmwareDelete(name) => {
                self.delete_firmware(self.find_firmware(&name.firmware, "/params/firmware")?)
            }
            Order::DeviceGet(DeviceName { device }) => Ok((Vec::new(), json!({"device": self.show_device(*device)?}))),
            Order::DeviceAuthorize(DeviceName { device }) => self.authorize(*device, command),
            Order::DeviceAbort(DeviceName { device }) => self.abort(*device, command),
            Order::DeviceAssign(wanted) => self.assign(wanted, command),
            Order::DeviceUnassign(DeviceName { device }) => self.unassign(*device, command),
            Order::DevicePowerCycle(DeviceName { device }) => self.power_cycle(*device, command),
            Order::SlotList => Ok((Vec::new(), self.list_slots())),
            Order::SlotPower(wanted) => self.power_slot(wanted, command),
            Order::SlotRelease(name) => self.release_slot(&name.slot, command),
            Order::DeviceIdentify(wanted) => self.identify(wanted, command, now),
            Order::ScriptPut(wanted) => self.put_script(wanted, command.if_match, now),
            Order::ScriptDelete(name) => self.delete_script(name, command.if_match),
            Order::ScriptList => Ok((Vec::new(), json!({"scripts": self.scripts.values().collect::<Vec<_>>()}))),
            Order::LabelPut(wanted) => self.put_label(wanted, command.if_match, now),
            Order::LabelDelete(name) => self.delete_label(name, command.if_match),
            Order::LabelList => Ok((Vec::new(), json!({"labels": self.labels.templates.values().collect::<Vec<_>>()}))),
            Order::LabelPrint(wanted) => self.print_label(wanted, command, now),
            Order::RulesSet(wanted) => self.set_rules(wanted, command.if_match),
            Order::RulesGet => Ok((Vec::new(), json!(self.rules))),
            Order::RulesTest(asked) => self.test_rules(asked),
            Order::StationInfo => Ok((Vec::new(), self.station_info())),
            Order::StationDrain(wanted) => Ok(self.drain(wanted, command, now)),
            Order::StationResume => Ok(self.resume(command)),
            Order::EventsDiscard(wanted) => self.discard(wanted),
            // They begin long work, see above.
            Order::ImageAdd(_) | Order::EventsReplay(_) => Ok((Vec::new(), Value::Null)),
            Order::TokenCreate(wanted) => self.create_token(wanted, command, now),
            Order::TokenRevoke(wanted) => self.revoke_token(wanted, command, now),
            Order::TokenList => Ok(self.list_tokens()),
        }
    }

    /// By rising size, each size once.
    fn find_sizes(&self, wanted: &[SizedImageRef]) -> Result<Vec<SizedImage>, Refusal> {
        let mut sizes = Vec::new();
        for (index, SizedImageRef { up_to_bytes, image }) in wanted.iter().enumerate() {
            let image = self.find_image_id(image)?;
            if sizes.iter().any(|sized: &SizedImage| sized.up_to_bytes == *up_to_bytes) {
                let pointer = format!("/params/sizes/{index}/up_to_bytes");
                return Err(Refusal::invalid(&pointer, format!("{up_to_bytes} bytes are named twice")));
            }
            sizes.push(SizedImage { up_to_bytes: *up_to_bytes, image });
        }
        if sizes.len() > MOST_SIZES {
            return Err(Refusal::invalid("/params/sizes", format!("{} sizes; at most {MOST_SIZES}", sizes.len())));
        }
        sizes.sort_by_key(|sized| sized.up_to_bytes);
        Ok(sizes)
    }

    pub(super) fn find_image(&self, wanted: &ImageRef) -> Result<&Image, Refusal> {
        let missing = || Refusal::not_found("image", wanted);
        match wanted {
            ImageRef::Id(id) => self.shelf.images.get(id).ok_or_else(missing),
            ImageRef::Name(name) => {
                let mut named = self.shelf.images.values().filter(|image| image.name == *name);
                let first = named.next().ok_or_else(missing)?;
                match named.next() {
                    None => Ok(first),
                    Some(_) => Err(Refusal::invalid(
                        "/params/image",
                        format!("several images are called {name:?}; name it by its sha256"),
                    )),
                }
            }
        }
    }

    fn matched(&self, name: &ProjectName, if_match: Option<u64>) -> Result<&Project, Refusal> {
        let project = self.projects.get(&name.project).ok_or_else(|| Refusal::not_found("project", &name.project))?;
        match if_match {
            Some(revision) if revision != project.revision => Err(Refusal::new(
                412,
                "precondition_failed",
                format!("project {} is at revision {}, not {revision}", project.id, project.revision),
            )),
            _ => Ok(project),
        }
    }

    fn create_project(&self, wanted: &ProjectCreate, now: Timestamp) -> Result<Effect, Refusal> {
        verified(wanted.verify)?;
        let id = project_id(&wanted.name)?;
        if self.projects.contains_key(&id) {
            return Err(Refusal::new(409, "already_exists", format!("there is a project {id} already")));
        }
        let project = Project {
            id: id.clone(),
            name: wanted.name.clone(),
            image: self.find_image_id(&wanted.image)?,
            sizes: self.find_sizes(&wanted.sizes)?,
            status_led: wanted.status_led,
            scripts: self.checked_scripts(&wanted.scripts)?,
            data_file: wanted.data_file.clone(),
            labels: self.checked_labels(&wanted.labels)?,
            storage: wanted.storage.clone(),
            again: wanted.again,
            boot: wanted.boot.clone().and_then(Boot::filled),
            firmware: wanted.firmware.as_ref().map(|wish| self.recipe(wish)).transpose()?,
            active: wanted.active,
            revision: 1,
            created_at: now,
            updated_at: now,
        };
        let mut facts = match wanted.active {
            true => self.others_off(&id),
            false => Vec::new(),
        };
        facts.push(Event::ProjectCreated(project.clone()).into());
        if wanted.active {
            facts.push(Event::ProjectActivated { project: id, revision: 1 }.into());
        }
        Ok((facts, json!({"project": project})))
    }

    fn update_project(&self, wanted: &ProjectUpdate, if_match: Option<u64>, now: Timestamp) -> Result<Effect, Refusal> {
        verified(wanted.verify)?;
        let project = self.matched(&ProjectName { project: wanted.project.clone() }, if_match)?;
        if let Some(name) = &wanted.name {
            project_id(name)?;
        }
        let image = match &wanted.image {
            Some(image) => self.find_image_id(image)?,
            None => project.image,
        };
        let firmware = match &wanted.firmware {
            Some(wish) => wish.as_ref().map(|wish| self.recipe(wish)).transpose()?,
            None => project.firmware.clone(),
        };
        let changed = Project {
            name: wanted.name.clone().unwrap_or_else(|| project.name.clone()),
            image,
            sizes: wanted
                .sizes
                .as_deref()
                .map(|sizes| self.find_sizes(sizes))
                .transpose()?
                .unwrap_or_else(|| project.sizes.clone()),
            status_led: wanted.status_led.unwrap_or(project.status_led),
            scripts: match &wanted.scripts {
                Some(scripts) => self.checked_scripts(scripts)?,
                None => project.scripts.clone(),
            },
            data_file: wanted.data_file.clone().unwrap_or_else(|| project.data_file.clone()),
            labels: match &wanted.labels {
                Some(labels) => self.checked_labels(labels)?,
                None => project.labels.clone(),
            },
            storage: wanted.storage.clone().unwrap_or_else(|| project.storage.clone()),
            again: wanted.again.unwrap_or(project.again),
            boot: wanted.boot.clone().map_or_else(|| project.boot.clone(), Boot::filled),
            firmware,
            revision: project.revision + 1,
            updated_at: now,
            ..project.clone()
        };
        Ok((vec![Event::ProjectUpdated(changed.clone()).into()], json!({"project": changed})))
    }

    /// Of the projects without rules one is active: the others step back.
    fn activate_project(&self, project: &Project) -> Result<Effect, Refusal> {
        if let Some(gone) = project.images().find(|image| !self.knows_image(*image)) {
            let detail = format!("the image {gone} of project {} is gone", project.id);
            return Err(Refusal::new(409, "no_image", detail));
        }
        let revision = project.revision + 1;
        let shown = Project { active: true, revision, ..project.clone() };
        if project.active {
            return Ok((Vec::new(), json!({"project": project})));
        }
        let mut facts = self.others_off(&project.id);
        facts.push(Event::ProjectActivated { project: project.id.clone(), revision }.into());
        Ok((facts, json!({"project": shown})))
    }

    fn others_off(&self, id: &ProjectId) -> Vec<Fact> {
        if self.rules.name(id) {
            return Vec::new();
        }
        self.rules
            .without_rules(&self.projects)
            .filter(|other| other.id != *id)
            .map(|other| Event::ProjectDeactivated { project: other.id.clone(), revision: other.revision + 1 }.into())
            .collect()
    }

    fn delete_project(&self, project: &Project) -> Result<Effect, Refusal> {
        if project.active {
            return Err(Refusal::new(
                409,
                "wrong_state",
                format!("project {} is active; deactivate it first", project.id),
            ));
        }
        if let Some(index) = self.rules.rules.iter().position(|rule| rule.project == project.id) {
            return Err(Refusal::new(409, "in_use", format!("project {} is named by rule {index}", project.id)));
        }
        Ok((vec![Event::ProjectDeleted { project: project.id.clone() }.into()], json!({"project": project})))
    }

    fn delete_image(&self, image: &Image) -> Result<Effect, Refusal> {
        let in_use = |user: String| Err(Refusal::new(409, "in_use", format!("image {} is used by {user}", image.id)));
        if let Some(project) = self.projects.values().find(|project| project.images().any(|used| used == image.id)) {
            return in_use(format!("project {}", project.id));
        }
        if let Some(session) =
            self.sessions.values().find(|session| session.is_open() && session.plan.image == image.id)
        {
            return in_use(format!("session {}", session.id));
        }
        let gone = Event::ImageRemoved { image: image.id, name: image.name.clone() };
        Ok((vec![gone.into()], json!({"image": image})))
    }

    fn show_device(&self, mac: Mac) -> Result<Value, Refusal> {
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let session = device.open_session.and_then(|id| self.sessions.get(&id)).map(Session::shown);
        let mut shown = device.shown();
        shown["session"] = json!(session);
        Ok(shown)
    }

    fn authorize(&self, mac: Mac, command: &Command) -> Result<Effect, Refusal> {
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let mut facts: Vec<Fact> = self.looked_at(mac).collect();
        if !device.authorized {
            facts.push(Event::DeviceAuthorized { device: self.reference(mac), by: command.actor.id.clone() }.into());
        }
        Ok((facts, json!({"device": mac, "authorized": true})))
    }

    fn abort(&self, mac: Mac, command: &Command) -> Result<Effect, Refusal> {
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let session = device
            .open_session
            .and_then(|id| self.sessions.get(&id))
            .ok_or_else(|| Refusal::new(409, "wrong_state", format!("device {mac} has no open session")))?;
        let by = command.actor.id.clone();
        let aborted = Event::DeviceAborted {
            device: self.reference_in(session),
            step: session.current_step(),
            detail: format!("aborted by {by}"),
            by,
        };
        Ok((vec![aborted.into()], json!({"device": mac, "session": session.id, "outcome": "aborted"})))
    }

    fn station_info(&self) -> Value {
        let active = self.projects.values().filter(|project| project.active);
        json!(StationShown {
            station: self.settings.station.clone(),
            version: self.settings.version.clone(),
            commands: NAMES.map(str::to_owned).to_vec(),
            projects: self.projects.len(),
            active_projects: active.map(|project| project.id.clone()).collect(),
            rules: self.rules.rules.len(),
            images: self.shelf.images.len(),
            firmware: self.firmware.len(),
            open_sessions: self.sessions.values().filter(|session| session.is_open()).count(),
            alarms: self.alarms.clone(),
            drained: self.delivery.drained.clone(),
            journal: self.delivery.shown_journal(),
            sinks: self.delivery.shown(),
        })
    }
}

fn deactivate_project(project: &Project) -> Effect {
    if !project.active {
        return (Vec::new(), json!({"project": project}));
    }
    let revision = project.revision + 1;
    let shown = Project { active: false, revision, ..project.clone() };
    (vec![Event::ProjectDeactivated { project: project.id.clone(), revision }.into()], json!({"project": shown}))
}

fn project_id(name: &str) -> Result<ProjectId, Refusal> {
    if name.chars().count() > 200 || name.chars().any(char::is_control) {
        return Err(Refusal::invalid("/params/name", "a name has at most 200 characters and none for control"));
    }
    ProjectId::from_name(name)
        .ok_or_else(|| Refusal::invalid("/params/name", format!("no letter or digit in {name:?} to make an id of")))
}

/// An outcome is never better than the evidence, so the read-back cannot be switched off.
fn verified(verify: bool) -> Result<(), Refusal> {
    match verify {
        true => Ok(()),
        false => Err(Refusal::invalid(
            "/params/verify",
            "false is not possible: a device passes only when its medium was read back",
        )),
    }
}

fn completed(command: &Command, reply: &Reply) -> Fact {
    Event::CommandCompleted {
        command_id: command.id.to_string(),
        name: command.name.clone(),
        actor: json!(command.actor),
        transport: command.transport.as_str().to_owned(),
        status: if reply.is_final { "succeeded" } else { "accepted" }.to_owned(),
        code: reply.code,
        correlation_id: command.correlation_id.clone(),
        error: None,
    }
    .into()
}
