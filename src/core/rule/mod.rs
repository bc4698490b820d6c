//! Which device gets which project: ordered rules, the first that takes a device wins; what no rule takes goes to the
//! one active project that has no rules, or is held. With no rules at all every device gets that project.
//!
//! A bootloader that asks at DHCP has not told its storage and its jumpers yet, so a rule has three answers.

mod pattern;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::core::device::{Facts, Mac, Revision, Serial, Serial8};
use crate::core::project::{Project, ProjectId};
use crate::core::refusal::Refusal;

pub use crate::core::rule::pattern::{
    Bounds, CircuitPattern, JumperPattern, MacPattern, Model, RevisionPattern, SerialPattern,
};

/// The most that a station takes: beyond it nobody reads them any more.
pub const MOST_RULES: usize = 200;

/// The rules of a station, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Rules {
    /// Rises by one with every change; `if_match` compares it.
    pub revision: u64,
    /// In the order in which they are asked; the first that takes a device wins.
    pub rules: Vec<Rule>,
}

/// Devices of which all of `when` holds get the project, if it is active.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The one that such devices get.
    pub project: ProjectId,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Empty: every device.
    #[serde(default)]
    pub when: When,
}

/// Conditions: all that are given must hold, and of a list any one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Any of these serials.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub serial: Vec<SerialPattern>,
    /// Any of these MAC addresses.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub mac: Vec<MacPattern>,
    /// Any of these boards.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub model: Vec<Model>,
    /// Any of these revision codes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub revision: Vec<RevisionPattern>,
    /// RAM in MiB.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<Bounds>,
    /// Of `/dev/mmcblk0`, as the module tells it when it asks for its script.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage_bytes: Option<Bounds>,
    /// Any of these jumper settings: `0` = set, `1` = not set, `x` for either.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub jumper: Vec<JumperPattern>,
    /// Any of these places on the line, as the switch names them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub circuit: Vec<CircuitPattern>,
}

/// Whether a condition holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Holds {
    Yes,
    No,
    /// What it asks for is not known yet.
    Maybe,
}

impl Holds {
    const fn of(yes: bool) -> Self {
        if yes { Self::Yes } else { Self::No }
    }

    fn all(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(Self::Yes, |all, one| match (all, one) {
            (Self::No, _) | (_, Self::No) => Self::No,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
            (Self::Yes, Self::Yes) => Self::Yes,
        })
    }

    fn any(answers: impl IntoIterator<Item = Self>) -> Self {
        answers.into_iter().fold(Self::No, |any, one| match (any, one) {
            (Self::Yes, _) | (_, Self::Yes) => Self::Yes,
            (Self::Maybe, _) | (_, Self::Maybe) => Self::Maybe,
            (Self::No, Self::No) => Self::No,
        })
    }
}

/// What is known of a device when it is judged.
#[derive(Clone, Debug)]
pub struct Known {
    pub mac: Mac,
    pub serial8: Option<Serial8>,
    pub serial: Option<Serial>,
    pub model: Option<Model>,
    pub revision: Option<Revision>,
    pub memory_mb: Option<u32>,
    pub storage_bytes: Option<u64>,
    pub jumper: Option<String>,
    pub circuit: Option<String>,
    /// The device has told all that it will tell: what is missing now will not come.
    pub complete: bool,
}

impl Known {
    /// Nothing but its address.
    pub const fn new(mac: Mac) -> Self {
        Self {
            mac,
            serial8: None,
            serial: None,
            model: None,
            revision: None,
            memory_mb: None,
            storage_bytes: None,
            jumper: None,
            circuit: None,
            complete: false,
        }
    }

    /// What option 97 has told.
    pub fn with_revision(mut self, revision: Option<Revision>) -> Self {
        self.revision = revision;
        self.model = revision.and_then(Model::of_revision);
        self.memory_mb = revision.and_then(Revision::memory_mb);
        self
    }

    /// What the device tells when it asks for its script; the revision, where it is known, is believed first.
    pub fn with_facts(mut self, facts: &Facts) -> Self {
        self.model = self.model.or_else(|| facts.model.as_deref().and_then(Model::of_text));
        self.memory_mb = self.memory_mb.or_else(|| facts.memory_kb.map(whole_memory));
        self.storage_bytes = facts.storage_bytes();
        self.jumper.clone_from(&facts.jumper);
        self.complete = true;
        self
    }

    const fn unknown(&self) -> Holds {
        if self.complete { Holds::No } else { Holds::Maybe }
    }
}

/// Linux shows a little less than there is: the next size that is built.
fn whole_memory(kb: u64) -> u32 {
    (0..7).map(|code| 256_u32 << code).find(|mb| u64::from(*mb) * 1024 >= kb).unwrap_or(u32::MAX)
}

/// One condition of a rule beside what is known, for the one who asks why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Finding {
    /// Which condition.
    pub field: &'static str,
    /// Whether it holds.
    pub holds: Holds,
    /// What the rule asks for.
    pub wanted: Value,
    /// What is known of the device; null if nothing.
    pub known: Value,
}

impl When {
    /// Whether all of it holds.
    pub fn judge(&self, known: &Known) -> Holds {
        Holds::all(self.findings(known).into_iter().map(|finding| finding.holds))
    }

    /// Each condition that is given, beside what is known.
    pub fn findings(&self, known: &Known) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut add = |field, is_given: bool, holds, wanted: Value, known: Value| {
            if is_given {
                findings.push(Finding { field, holds, wanted, known });
            }
        };
        let text = |text: Option<String>| text.map_or(Value::Null, Value::from);
        let serial = known.serial.map(|serial| serial.to_string());
        let serial = serial.or_else(|| known.serial8.map(|serial8| serial8.to_string()));
        add("serial", !self.serial.is_empty(), self.judge_serial(known), json!(self.serial), text(serial));
        let mac = Holds::of(self.mac.iter().any(|pattern| pattern.matches(known.mac)));
        add("mac", !self.mac.is_empty(), mac, json!(self.mac), json!(known.mac));
        let model = known.model.map_or_else(|| known.unknown(), |model| Holds::of(self.model.contains(&model)));
        add("model", !self.model.is_empty(), model, json!(self.model), json!(known.model));
        let revision = known.revision.map_or_else(
            || known.unknown(),
            |revision| Holds::of(self.revision.iter().any(|pattern| pattern.matches(revision))),
        );
        add("revision", !self.revision.is_empty(), revision, json!(self.revision), json!(known.revision));
        let within = |bounds: Option<Bounds>, value: Option<u64>| {
            value
                .map_or_else(|| known.unknown(), |value| Holds::of(bounds.is_some_and(|bounds| bounds.contains(value))))
        };
        let memory = within(self.memory_mb, known.memory_mb.map(u64::from));
        add("memory_mb", self.memory_mb.is_some(), memory, json!(self.memory_mb), json!(known.memory_mb));
        let storage = within(self.storage_bytes, known.storage_bytes);
        add(
            "storage_bytes",
            self.storage_bytes.is_some(),
            storage,
            json!(self.storage_bytes),
            json!(known.storage_bytes),
        );
        let jumper = known.jumper.as_deref().map_or_else(
            || known.unknown(),
            |jumper| Holds::of(self.jumper.iter().any(|pattern| pattern.matches(jumper))),
        );
        add("jumper", !self.jumper.is_empty(), jumper, json!(self.jumper), json!(known.jumper));
        let circuit = known.circuit.as_deref().map_or_else(
            || known.unknown(),
            |circuit| Holds::of(self.circuit.iter().any(|pattern| pattern.matches(circuit))),
        );
        add("circuit", !self.circuit.is_empty(), circuit, json!(self.circuit), json!(known.circuit));
        findings
    }

    fn judge_serial(&self, known: &Known) -> Holds {
        Holds::any(self.serial.iter().map(|pattern| match (known.serial, known.serial8) {
            (Some(serial), _) => Holds::of(pattern.matches(serial)),
            (None, Some(serial8)) if !known.complete => pattern.may_match(serial8),
            (None, _) => known.unknown(),
        }))
    }
}

/// Why a device gets its project.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "by", rename_all = "snake_case")]
pub enum By {
    /// `device.assign` named it.
    Assignment,
    /// Counted from 0, in the order of the rules.
    Rule { rule: usize },
    /// It is the one active project without rules.
    Default,
}

/// What the rules say of a device.
#[derive(Clone, Debug, PartialEq)]
pub enum Choice<'a> {
    Project {
        project: &'a Project,
        by: By,
    },
    /// Which of these is seen once more is known; in the order in which they would be taken.
    Undecided(Vec<&'a Project>),
}

impl<'a> Choice<'a> {
    /// The project, if there is no doubt about it.
    pub fn project(&self) -> Option<&'a Project> {
        match self {
            Self::Project { project, .. } => Some(project),
            Self::Undecided(_) => None,
        }
    }

    /// All that it may become.
    pub fn candidates(&self) -> Vec<&'a Project> {
        match self {
            Self::Project { project, .. } => vec![project],
            Self::Undecided(projects) => projects.clone(),
        }
    }
}

type Projects = BTreeMap<ProjectId, Project>;

impl Rules {
    pub fn name(&self, project: &ProjectId) -> bool {
        self.rules.iter().any(|rule| rule.project == *project)
    }

    /// Active projects that no rule names. Commands see to it that there is one at most.
    pub fn without_rules<'a>(&'a self, projects: &'a Projects) -> impl Iterator<Item = &'a Project> {
        projects.values().filter(|project| project.active && !self.name(&project.id))
    }

    /// The project for a device, or why there is none.
    pub fn choose<'a>(
        &'a self,
        projects: &'a Projects,
        assigned: Option<&ProjectId>,
        known: &Known,
    ) -> Result<Choice<'a>, Refusal> {
        if let Some(id) = assigned {
            return assigned_project(projects, id, known.mac);
        }
        let mut maybe: Vec<&Project> = Vec::new();
        for (index, rule) in self.rules.iter().enumerate() {
            let Some(project) = projects.get(&rule.project).filter(|project| project.active) else { continue };
            match rule.when.judge(known) {
                Holds::Yes if maybe.is_empty() => return Ok(Choice::Project { project, by: By::Rule { rule: index } }),
                Holds::Yes => {
                    maybe.push(project);
                    return Ok(Choice::Undecided(maybe));
                }
                Holds::Maybe => maybe.push(project),
                Holds::No => {}
            }
        }
        let default = self.without_rules(projects).next();
        match default {
            Some(project) if maybe.is_empty() => Ok(Choice::Project { project, by: By::Default }),
            None if maybe.is_empty() => Err(nothing(projects, known.mac)),
            _ => {
                maybe.extend(default);
                Ok(Choice::Undecided(maybe))
            }
        }
    }
}

fn assigned_project<'a>(projects: &'a Projects, id: &ProjectId, mac: Mac) -> Result<Choice<'a>, Refusal> {
    let refused =
        |what: &str| Refusal::new(409, "no_project", format!("device {mac} is assigned to project {id}, which {what}"));
    let project = projects.get(id).ok_or_else(|| refused("does not exist; device.assign another one"))?;
    match project.active {
        true => Ok(Choice::Project { project, by: By::Assignment }),
        false => Err(refused("is not active; activate it and power the device again")),
    }
}

fn nothing(projects: &Projects, mac: Mac) -> Refusal {
    match projects.values().any(|project| project.active) {
        true => Refusal::new(
            409,
            "hold",
            format!("no rule takes device {mac} and no project without rules is active; rules.test says why"),
        ),
        false => Refusal::new(
            409,
            "no_project",
            "no project is active at this station; activate one and power the device again",
        ),
    }
}
