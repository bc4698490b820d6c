//! Slots: named places on the line, and how it is known in which one a device is.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::label::Printers;
use crate::core::text::{is_segment, serde_by_text};
use crate::core::time::Timestamp;

/// The name of a place: `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotName(String);

impl SlotName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Of a place that nobody has named: what cannot stand in a name becomes `-`.
    fn made(text: &str) -> Option<Self> {
        let name: String = text.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect();
        let name = name.trim_matches('-').get(..name.trim_matches('-').len().min(64))?.to_owned();
        is_segment(&name).then_some(Self(name))
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SlotName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_segment(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("not the name of a slot, [A-Za-z0-9_-]{{1,64}}: {text:?}")),
        }
    }
}

serde_by_text!(SlotName);

/// A port of a managed switch, as the switch names it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct SwitchPort {
    /// As the configuration calls the switch.
    pub switch: String,
    /// `ifName`, `ifDescr` or the number of the port.
    pub port: String,
    /// `ifAlias`, where an administrator has written one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alias: Option<String>,
    /// `dot1dBasePort`
    pub number: u64,
}

impl SwitchPort {
    /// Whether somebody means this port by that word.
    pub fn is_called(&self, word: &str) -> bool {
        self.port == word || self.alias.as_deref() == Some(word) || self.number.to_string() == word
    }
}

/// What tells where a device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// The switch, asked by SNMP.
    Switch,
    /// Option 82, which a switch or relay agent has added.
    Circuit,
    /// The jumpers of the board.
    Jumper,
}

/// A place that the configuration names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Slot {
    pub name: SlotName,
    /// Switch, and port by name, alias or number.
    pub port: Option<(String, String)>,
    pub circuit: Option<String>,
    pub jumper: Option<String>,
    /// Where the labels of its devices come out.
    pub printer: Option<String>,
}

/// How the places of a line are told apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub slots: Vec<Slot>,
    /// Who is believed first.
    pub order: Vec<Source>,
    /// Ports, circuits and alike that no slot names become slots as they appear.
    pub made: bool,
    /// Switches whose power may be switched.
    pub powered: BTreeSet<String>,
    /// So many attempts in a row that did not pass close a slot.
    pub quarantine_after: Option<u32>,
    /// Power is cycled unasked for devices that do not come up.
    pub automatic: Option<AutomaticCycle>,
    pub printers: Printers,
}

/// For whom power is cycled without anybody asking, and how often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AutomaticCycle {
    /// A device that should have asked for its script has not done so for so long.
    pub after: Duration,
    /// So often until it gets its script.
    pub times: u32,
    /// Between two of one place, whoever asked for them.
    pub pause: Duration,
}

impl Default for Line {
    fn default() -> Self {
        Self {
            slots: Vec::new(),
            order: vec![Source::Switch, Source::Circuit, Source::Jumper],
            made: true,
            powered: BTreeSet::new(),
            quarantine_after: None,
            automatic: None,
            printers: Printers::new(),
        }
    }
}

/// What is known of the place of a device.
#[derive(Clone, Copy, Debug, Default)]
pub struct Place<'a> {
    pub port: Option<&'a SwitchPort>,
    pub circuit: Option<&'a str>,
    pub jumper: Option<&'a str>,
}

impl Line {
    pub fn slot(&self, name: &SlotName) -> Option<&Slot> {
        self.slots.iter().find(|slot| slot.name == *name)
    }

    /// The slot of a device. A named one first, by the first source that names one; else one made of what is known.
    pub fn slot_of(&self, place: Place<'_>) -> Option<SlotName> {
        let named = self.order.iter().find_map(|source| self.slots.iter().find(|slot| slot.is(*source, place)));
        if let Some(slot) = named {
            return Some(slot.name.clone());
        }
        self.order.iter().filter(|_| self.made).find_map(|source| match source {
            Source::Switch => place.port.and_then(|port| SlotName::made(&format!("{}-{}", port.switch, port.port))),
            Source::Circuit => place.circuit.and_then(SlotName::made),
            // All boards of a kind have the same jumpers: they name a place only where somebody says so.
            Source::Jumper => None,
        })
    }
}

impl Slot {
    fn is(&self, source: Source, place: Place<'_>) -> bool {
        match source {
            Source::Switch => {
                let meant = self.port.as_ref().zip(place.port);
                meant.is_some_and(|((switch, word), port)| port.switch == *switch && port.is_called(word))
            }
            Source::Circuit => self.circuit.is_some() && self.circuit.as_deref() == place.circuit,
            Source::Jumper => self.jumper.is_some() && self.jumper.as_deref() == place.jumper,
        }
    }
}

/// What a station knows of one place.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SlotState {
    /// Where it was last seen to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<SwitchPort>,
    pub passed: u64,
    /// Attempts that did not pass.
    pub failed: u64,
    /// The same, since the last that passed.
    pub failures: u32,
    /// No device is worked on here until somebody has looked at it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub quarantined: bool,
    /// Its power was switched off here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub off: bool,
    /// What was last heard of its power.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub power: Option<PowerNews>,
}

/// A request for power, or what came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PowerNews {
    pub at: Timestamp,
    /// Nobody has said yet what came of it.
    pub pending: bool,
}

/// What is to happen to the power of a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerAction {
    Off,
    On,
    /// Off, and on again after a pause.
    Cycle,
}

/// Why power is switched where the request does not say so itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PowerReason {
    /// Unasked: the device was seen and did not ask for its script.
    Stuck,
    /// Unasked: its attempt did not pass and it may try again.
    Retry,
    /// The port shows where the device is.
    Identify,
}

/// Whether a device is to ask for its script, and what was done to its power for that.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Awaited {
    /// Since when, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<(Timestamp, PowerReason)>,
    /// Cycles since it last got one.
    #[serde(default)]
    pub cycles: u32,
}

impl Awaited {
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(name: &str, alias: Option<&str>, number: u64) -> SwitchPort {
        SwitchPort { switch: "sw1".to_owned(), port: name.to_owned(), alias: alias.map(str::to_owned), number }
    }

    fn slot(name: &str) -> Slot {
        Slot { name: name.parse().unwrap(), port: None, circuit: None, jumper: None, printer: None }
    }

    #[test]
    fn a_port_is_meant_by_name_alias_or_number() {
        let line = |word: &str| Line {
            slots: vec![Slot { port: Some(("sw1".to_owned(), word.to_owned())), ..slot("bench-3") }],
            made: false,
            ..Line::default()
        };
        let known = port("Gi1/0/3", Some("bench three"), 3);
        for word in ["Gi1/0/3", "bench three", "3"] {
            let found = line(word).slot_of(Place { port: Some(&known), ..Place::default() });
            assert_eq!(found.unwrap().as_str(), "bench-3", "{word}");
        }
        assert_eq!(line("4").slot_of(Place { port: Some(&known), ..Place::default() }), None);
        let elsewhere = SwitchPort { switch: "sw2".to_owned(), ..known };
        assert_eq!(line("3").slot_of(Place { port: Some(&elsewhere), ..Place::default() }), None);
    }

    #[test]
    fn the_order_decides_and_a_named_slot_goes_before_a_made_one() {
        let named = Slot { jumper: Some("001".to_owned()), ..slot("jumpered") };
        let by_circuit = Slot { circuit: Some("eth1".to_owned()), ..slot("circuited") };
        let known = port("Gi1/0/7", None, 7);
        let place = Place { port: Some(&known), circuit: Some("eth1"), jumper: Some("001") };
        let all = Line { slots: vec![named, by_circuit], ..Line::default() };
        assert_eq!(all.slot_of(place).unwrap().as_str(), "circuited");
        let turned = Line { order: vec![Source::Jumper, Source::Circuit, Source::Switch], ..all };
        assert_eq!(turned.slot_of(place).unwrap().as_str(), "jumpered");
        assert_eq!(Line::default().slot_of(place).unwrap().as_str(), "sw1-Gi1-0-7");
        assert_eq!(Line { made: false, ..Line::default() }.slot_of(place), None);
        assert_eq!(Line::default().slot_of(Place { jumper: Some("001"), ..Place::default() }), None);
    }

    #[test]
    fn made_names_can_stand_in_a_topic() {
        assert_eq!(SlotName::made("sw 1-Gi1/0/7").unwrap().as_str(), "sw-1-Gi1-0-7");
        assert_eq!(SlotName::made("---"), None);
        assert_eq!(SlotName::made(&"x".repeat(90)).unwrap().as_str().len(), 64);
        assert!("a/b".parse::<SlotName>().is_err());
    }
}
