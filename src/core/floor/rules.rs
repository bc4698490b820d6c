//! Rules: how they are set, and what they would say of a device.

use serde_json::json;

use crate::core::command::{RulesSet, RulesTest};
use crate::core::event::Event;
use crate::core::floor::Floor;
use crate::core::floor::command::Effect;
use crate::core::refusal::Refusal;
use crate::core::rule::{By, Choice, Known, MOST_RULES, Rule, Rules};
use crate::core::shown::{ChoiceShown, JudgedRule, Reason, RulesTested};

/// An event has 64 KiB at most, and the rules are one.
const LONGEST: usize = 48 << 10;

impl Floor {
    pub(super) fn set_rules(&self, wanted: &RulesSet, if_match: Option<u64>) -> Result<Effect, Refusal> {
        let now = self.rules.revision;
        if let Some(revision) = if_match.filter(|revision| *revision != now) {
            let detail = format!("the rules are at revision {now}, not {revision}");
            return Err(Refusal::new(412, "precondition_failed", detail));
        }
        let rules = self.checked(&wanted.rules)?;
        let active: Vec<&str> = rules.without_rules(&self.projects).map(|project| project.id.as_str()).collect();
        if let [_, _, ..] = active.as_slice() {
            let detail = format!(
                "{} would all be active without a rule, and it could not be told which one a device gets; deactivate all \
                 but one of them first",
                active.join(", ")
            );
            return Err(Refusal::new(409, "wrong_state", detail));
        }
        let Rules { revision, rules } = rules;
        Ok((
            vec![Event::RulesChanged { revision, rules: rules.clone() }.into()],
            json!({"revision": revision, "rules": rules}),
        ))
    }

    /// What serde could not know: the projects are there, and all of it fits into an event.
    fn checked(&self, rules: &[Rule]) -> Result<Rules, Refusal> {
        if rules.len() > MOST_RULES {
            return Err(Refusal::invalid("/params/rules", format!("{} rules; at most {MOST_RULES}", rules.len())));
        }
        for (index, rule) in rules.iter().enumerate() {
            if !self.projects.contains_key(&rule.project) {
                let pointer = format!("/params/rules/{index}/project");
                return Err(Refusal::invalid(&pointer, format!("there is no project {}", rule.project)));
            }
            let name = rule.name.as_deref().unwrap_or_default();
            if name.chars().count() > 200 || name.contains(char::is_control) {
                let pointer = format!("/params/rules/{index}/name");
                return Err(Refusal::invalid(&pointer, "a name has at most 200 characters and none for control"));
            }
        }
        let length = json!(rules).to_string().len();
        if length > LONGEST {
            let detail = format!("the rules are {length} bytes long; at most {LONGEST}");
            return Err(Refusal::new(413, "too_large", detail));
        }
        Ok(Rules { revision: self.rules.revision + 1, rules: rules.to_vec() })
    }

    /// Which rule takes the device, and why the others do not.
    pub(super) fn test_rules(&self, asked: &RulesTest) -> Result<Effect, Refusal> {
        let rules = match &asked.rules {
            Some(rules) => self.checked(rules)?,
            None => self.rules.clone(),
        };
        let known = self.asked_about(asked);
        let assigned = self.devices.get(&asked.device).and_then(|device| device.assigned.as_ref());
        let choice = match rules.choose(&self.projects, assigned, &known) {
            Ok(Choice::Project { project, by }) => {
                let project = project.id.clone();
                match by {
                    By::Assignment => ChoiceShown::Assignment { project },
                    By::Rule { rule } => ChoiceShown::Rule { rule, project },
                    By::Default => ChoiceShown::Default { project },
                }
            }
            Ok(Choice::Undecided(projects)) => {
                ChoiceShown::Undecided { projects: projects.iter().map(|project| project.id.clone()).collect() }
            }
            Err(Refusal { code, detail, .. }) => ChoiceShown::Nothing { code, detail },
        };
        let held = self.may_start(&known).err().map(|Refusal { code, detail, .. }| Reason { code, detail });
        let judged = rules.rules.iter().map(|rule| self.judged(rule, &known)).collect();
        Ok((Vec::new(), json!(RulesTested { device: asked.device, choice, refusal: held, rules: judged })))
    }

    fn judged(&self, rule: &Rule, known: &Known) -> JudgedRule {
        JudgedRule {
            project: rule.project.clone(),
            name: rule.name.clone(),
            active: self.projects.get(&rule.project).is_some_and(|project| project.active),
            holds: rule.when.judge(known),
            conditions: rule.when.findings(known),
        }
    }

    fn asked_about(&self, asked: &RulesTest) -> Known {
        let mut known = self.known(asked.device);
        if asked.revision.is_some() {
            known = known.with_revision(asked.revision);
        }
        known.serial8 = asked.serial.map(crate::core::device::Serial::low).or(known.serial8);
        known.serial = asked.serial.or(known.serial);
        known.storage_bytes = asked.storage_bytes;
        known.jumper.clone_from(&asked.jumper);
        if asked.circuit.is_some() {
            known.circuit.clone_from(&asked.circuit);
        }
        known
    }
}
