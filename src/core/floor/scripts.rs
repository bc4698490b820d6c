//! Scripts of the site, and what single devices are told: how they are put, planned, and what came of them.

use serde_json::json;

use crate::core::command::{Command, DeviceAssign, ScriptName, ScriptPut};
use crate::core::device::Mac;
use crate::core::event::{DeviceRef, Event};
use crate::core::floor::command::Effect;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::observation::{Evidence, ScriptOutput};
use crate::core::plan::Plan;
use crate::core::project::Project;
use crate::core::refusal::Refusal;
use crate::core::script::{DeviceData, Manner, OnFailure, PlannedScript, Script, ScriptId, Scripts, Variables};
use crate::core::session::{Session, StepName};
use crate::core::time::Timestamp;

/// A request has 64 KiB at most.
const LONGEST_TEXT: usize = 48 << 10;
/// A day.
const LONGEST_TIMEOUT: u32 = 86_400;
const MOST_SCRIPTS: usize = 16;
/// What one device can be told, names and values together.
const LONGEST_DATA: usize = 32 << 10;

impl Floor {
    pub(super) fn put_script(
        &self,
        wanted: &ScriptPut,
        if_match: Option<u64>,
        now: Timestamp,
    ) -> Result<Effect, Refusal> {
        let id = ScriptId::from_name(&wanted.name).ok_or_else(|| {
            Refusal::invalid("/params/name", format!("no letter or digit in {:?} to make an id of", wanted.name))
        })?;
        if wanted.name.chars().count() > 200 || wanted.name.contains(char::is_control) {
            return Err(Refusal::invalid("/params/name", "a name has at most 200 characters and none for control"));
        }
        if wanted.text.trim().is_empty() || wanted.text.len() > LONGEST_TEXT || wanted.text.contains('\0') {
            let detail = format!("a script has between 1 and {LONGEST_TEXT} bytes and no NUL");
            return Err(Refusal::invalid("/params/text", detail));
        }
        if !(1..=LONGEST_TIMEOUT).contains(&wanted.timeout_s) {
            let detail = format!("not between 1 and {LONGEST_TIMEOUT} seconds: {}", wanted.timeout_s);
            return Err(Refusal::invalid("/params/timeout_s", detail));
        }
        let revision = self.scripts.get(&id).map_or(0, |script| script.revision);
        if let Some(expected) = if_match.filter(|expected| *expected != revision) {
            let detail = format!("script {id} is at revision {revision}, not {expected}");
            return Err(Refusal::new(412, "precondition_failed", detail));
        }
        let manner =
            Manner { on_failure: wanted.on_failure, background: wanted.background, timeout_s: wanted.timeout_s };
        let script = Script {
            id: id.clone(),
            name: wanted.name.clone(),
            size_bytes: u64::try_from(wanted.text.len()).unwrap_or(u64::MAX),
            manner,
            revision: revision + 1,
            updated_at: now,
        };
        let text = Note::ScriptText { script: id, revision: revision + 1, text: wanted.text.clone() };
        Ok((vec![Event::ScriptAdded(script.clone()).into(), text.into()], json!({"script": script})))
    }

    pub(super) fn delete_script(
        &self,
        ScriptName { script: id }: &ScriptName,
        if_match: Option<u64>,
    ) -> Result<Effect, Refusal> {
        let script = self.scripts.get(id).ok_or_else(|| Refusal::not_found("script", id))?;
        if let Some(expected) = if_match.filter(|expected| *expected != script.revision) {
            let detail = format!("script {id} is at revision {}, not {expected}", script.revision);
            return Err(Refusal::new(412, "precondition_failed", detail));
        }
        if let Some(user) = self.projects.values().find(|project| project.scripts.all().any(|used| used == id)) {
            return Err(Refusal::new(409, "in_use", format!("script {id} is used by project {}", user.id)));
        }
        // Put again it would begin at revision 1, with another text than the one that the session was planned with.
        let plans = |session: &&Session| session.is_open() && session.plan.scripts.all().any(|used| used.script == *id);
        if let Some(user) = self.sessions.values().find(plans) {
            return Err(Refusal::new(409, "in_use", format!("script {id} is used by session {}", user.id)));
        }
        Ok((vec![Event::ScriptRemoved { script: id.clone() }.into()], json!({"script": script})))
    }

    /// The scripts of a project are there.
    pub(super) fn checked_scripts(&self, wanted: &Scripts) -> Result<Scripts, Refusal> {
        for (field, ids) in [("preinstall", &wanted.preinstall), ("postinstall", &wanted.postinstall)] {
            for (index, id) in ids.iter().enumerate() {
                let pointer = format!("/params/scripts/{field}/{index}");
                if !self.scripts.contains_key(id) {
                    return Err(Refusal::invalid(&pointer, format!("there is no script {id}")));
                }
                if ids[..index].contains(id) {
                    return Err(Refusal::invalid(&pointer, format!("script {id} is named twice")));
                }
            }
        }
        let count = wanted.all().count();
        if count > MOST_SCRIPTS {
            return Err(Refusal::invalid("/params/scripts", format!("{count} scripts; at most {MOST_SCRIPTS}")));
        }
        Ok(wanted.clone())
    }

    pub(super) fn plan_scripts(&self, project: &Project) -> Result<Scripts<PlannedScript>, Refusal> {
        let planned = |ids: &[ScriptId]| {
            let planned = ids.iter().map(|id| {
                let script = self.scripts.get(id).ok_or_else(|| {
                    Refusal::new(409, "no_script", format!("the script {id} of project {} is gone", project.id))
                })?;
                Ok(PlannedScript { script: id.clone(), revision: script.revision, manner: script.manner })
            });
            planned.collect::<Result<Vec<_>, Refusal>>()
        };
        Ok(Scripts {
            preinstall: planned(&project.scripts.preinstall)?,
            postinstall: planned(&project.scripts.postinstall)?,
        })
    }

    /// What a script has printed: a row of the session, whatever came of the session.
    pub(super) fn script_output(&self, output: &ScriptOutput) -> Result<Vec<Fact>, Refusal> {
        let session = self.session_of(output.session, &output.token)?;
        if !session.plan.scripts.all().any(|planned| planned.script == output.script) {
            let what = format!("{} in the plan of session {}", output.script, session.id);
            return Err(Refusal::not_found("script", what));
        }
        let note = Note::ScriptOutput {
            session: output.session,
            script: output.script.clone(),
            text: output.text.clone(),
            truncated: output.truncated,
        };
        Ok(vec![note.into(), Note::Sign { session: output.session }.into()])
    }

    /// Before it was ever seen, too. Secrets travel in a note: an event is for everyone.
    pub(super) fn assign(&self, wanted: &DeviceAssign, command: &Command) -> Result<Effect, Refusal> {
        let mac = wanted.device;
        if !mac.is_unicast() {
            return Err(Refusal::invalid("/params/device", format!("{mac} names no device")));
        }
        if let Some(project) = wanted.project.as_ref().filter(|project| !self.projects.contains_key(project)) {
            return Err(Refusal::invalid("/params/project", format!("there is no project {project}")));
        }
        let data = DeviceData { variables: wanted.variables.clone(), secrets: wanted.secrets.clone() };
        if wanted.project.is_none() && data.is_empty() {
            return Err(Refusal::invalid("/params", "an assignment needs a project, variables or secrets"));
        }
        check_data(&data)?;
        let by = command.actor.id.clone();
        let device = DeviceRef { project: wanted.project.clone(), ..self.reference(mac) };
        let secrets: Vec<_> = data.secrets.keys().cloned().collect();
        let result = json!({"device": mac, "project": wanted.project, "variables": data.variables, "secrets": secrets});
        let assigned = Event::DeviceAssigned { device, variables: data.variables.clone(), secrets, by };
        Ok((vec![assigned.into(), Note::DataAssigned { mac, data }.into()], result))
    }

    pub(super) fn unassign(&self, mac: Mac, command: &Command) -> Result<Effect, Refusal> {
        let device = self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let result = json!({"device": mac, "project": null});
        if device.assigned.is_none() && device.data.is_empty() {
            return Ok((Vec::new(), result));
        }
        let by = command.actor.id.clone();
        let unassigned = Event::DeviceUnassigned { device: self.reference(mac), by };
        Ok((vec![unassigned.into(), Note::DataAssigned { mac, data: DeviceData::default() }.into()], result))
    }
}

fn check_data(data: &DeviceData) -> Result<(), Refusal> {
    let length = |variables: &Variables| variables.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
    let total: usize = [&data.variables, &data.secrets].map(length).iter().sum();
    if total > LONGEST_DATA {
        return Err(Refusal::new(413, "too_large", format!("{total} bytes of data; at most {LONGEST_DATA} a device")));
    }
    for (field, variables) in [("variables", &data.variables), ("secrets", &data.secrets)] {
        if let Some((name, _)) = variables.iter().find(|(_, value)| value.contains('\0')) {
            return Err(Refusal::invalid(&format!("/params/{field}/{name}"), "a value holds no NUL"));
        }
    }
    match data.variables.keys().find(|name| data.secrets.contains_key(name)) {
        Some(name) => Err(Refusal::invalid(&format!("/params/secrets/{name}"), "is a variable too")),
        None => Ok(()),
    }
}

/// Every script of the step has run, and those that must not fail have not. Those beside it are told at the end.
pub(super) fn proves(plan: &Plan, step: StepName, evidence: &Evidence) -> Result<(), Refusal> {
    let Scripts { preinstall, postinstall } = &plan.scripts;
    let due: Vec<&PlannedScript> = match step {
        StepName::Preinstall => preinstall.iter().filter(|planned| !planned.manner.background).collect(),
        _ => postinstall.iter().chain(preinstall.iter().filter(|planned| planned.manner.background)).collect(),
    };
    for planned in due {
        let id = &planned.script;
        let Some(run) = evidence.scripts.iter().find(|run| run.script == *id) else {
            return Err(Refusal::invalid("/script", format!("how did script {id} end?")));
        };
        if run.exit != 0 && planned.manner.on_failure == OnFailure::Fail {
            return Err(Refusal::new(409, "script.failed", format!("script {id} ended with {}", run.exit)));
        }
    }
    Ok(())
}
