//! What becomes of the journal: who reads it and how far, what is kept of it, what is sent again.

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::Mac;
use crate::core::shown::{JournalShown, SinkShown};
use crate::core::time::Timestamp;

/// Rows that one commit deletes at most: a device that reports meanwhile waits for no more than that.
pub const PRUNE: u32 = 200;
/// A sink that is so many events behind is an alarm.
pub const LAG_EVENTS: u64 = 10_000;
/// So is one whose next event has waited for so long.
pub const LAG_MS: i64 = 3_600_000;

/// Whether events go out to a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SinkState {
    /// There is no connection; events wait.
    #[default]
    Down,
    Up,
    /// The broker is there and does not let us; events wait.
    Stalled,
}

impl SinkState {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Down => "down",
            Self::Up => "up",
            Self::Stalled => "stalled",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        [Self::Down, Self::Up, Self::Stalled].into_iter().find(|state| state.as_str() == text)
    }
}

/// One reader of the journal with a place of its own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sink {
    /// Everything up to here is acknowledged or given up for good.
    pub acked: u64,
    /// A bus; else a part of the station that reads on for itself.
    pub bus: bool,
    /// A sink that is not enabled keeps its place and holds nothing back.
    pub enabled: bool,
    pub state: SinkState,
    /// Why it is down or stalled.
    pub reason: Option<String>,
    /// In this state since.
    pub since: Timestamp,
    /// Events that it would not take, and that nobody has dealt with.
    pub dead: BTreeSet<u64>,
}

/// No new sessions begin, by somebody's wish.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Drained {
    /// Whoever said so.
    pub by: String,
    /// For people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    pub at: Timestamp,
}

/// The delivery's part of the floor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Delivery {
    pub sinks: BTreeMap<String, Sink>,
    /// The newest event.
    pub newest: u64,
    /// Up to here none is kept.
    pub pruned: u64,
    /// When the oldest that is kept happened, if somebody has asked.
    pub oldest_at: Option<Timestamp>,
    /// What the bodies of the kept events take, as last measured.
    pub bytes: u64,
    pub drained: Option<Drained>,
}

impl Delivery {
    /// The oldest that is kept, or will be.
    pub const fn oldest(&self) -> u64 {
        self.pruned + 1
    }

    /// Up to where everyone who counts has read.
    pub fn held(&self) -> u64 {
        self.sinks.values().filter(|sink| sink.enabled).map(|sink| sink.acked).min().unwrap_or(self.newest)
    }

    pub fn backlog(&self, sink: &Sink) -> u64 {
        self.newest.saturating_sub(sink.acked)
    }

    /// The buses, as every door shows them.
    pub fn shown(&self) -> Vec<SinkShown> {
        let buses = self.sinks.iter().filter(|(_, sink)| sink.bus);
        buses.map(|(name, sink)| self.shown_sink(name, sink)).collect()
    }

    pub fn shown_sink(&self, name: &str, sink: &Sink) -> SinkShown {
        SinkShown {
            name: name.to_owned(),
            enabled: sink.enabled,
            state: sink.state,
            since: sink.since,
            cursor: sink.acked,
            backlog: self.backlog(sink),
            dead_letters: sink.dead.len(),
            reason: sink.reason.clone(),
        }
    }

    pub const fn shown_journal(&self) -> JournalShown {
        JournalShown { oldest: self.oldest(), newest: self.newest, bytes: self.bytes }
    }
}

/// What the keeper of the journal has measured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Extent {
    /// The last of the oldest rows, at most `PRUNE`, that are older than events are kept; 0 for none.
    pub aged: u64,
    /// The last of the oldest `PRUNE` rows, of whatever age.
    pub oldest_rows: u64,
    /// What the bodies take.
    pub bytes: u64,
    /// What they may take.
    pub cap_bytes: u64,
    /// Left on the disk.
    pub free_bytes: u64,
    /// Below this the disk is low.
    pub low_bytes: u64,
    /// Since when the next event of a sink waits.
    pub waiting: BTreeMap<String, Timestamp>,
}

/// Which events are sent again, and how far that is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Replay {
    /// Where they are sent.
    pub sink: String,
    /// The first, by its sequence.
    pub from: u64,
    /// The last, by its sequence.
    pub to: u64,
    #[serde(flatten)]
    pub which: Which,
    /// Events a second.
    pub rate: u32,
    /// The last that was acknowledged.
    #[serde(default)]
    pub reached: u64,
    /// How many went out.
    #[serde(default)]
    pub sent: u64,
}

/// A choice among the events of a range.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Which {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Timestamp>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
    /// `device`, `project`, ..
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<Mac>,
    /// `device.provisioned`, or `device.step.*`
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub types: Vec<String>,
    /// Only those that the sink would not take.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub dead_letters: bool,
}

impl Which {
    pub fn takes(&self, name: &str) -> bool {
        let matches = |term: &String| match term.strip_suffix('*') {
            Some(prefix) => name.starts_with(prefix),
            None => name == term,
        };
        self.types.is_empty() || self.types.iter().any(matches)
    }
}

/// `events.replay`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsReplay {
    /// May be left out where there is one.
    #[serde(default)]
    pub sink: Option<String>,
    /// The first, by its sequence.
    #[serde(default)]
    pub from: Option<u64>,
    /// The last, by its sequence.
    #[serde(default)]
    pub to: Option<u64>,
    /// Happened then or later.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// Happened before.
    #[serde(default)]
    pub until: Option<Timestamp>,
    /// Of the subject: `device`, `project`, ..
    #[serde(default)]
    pub kind: Option<String>,
    /// Of this one.
    #[serde(default)]
    pub device: Option<Mac>,
    /// Names, or beginnings of names: `device.step.*`.
    #[serde(default)]
    pub types: Vec<String>,
    /// Only those that the sink would not take.
    #[serde(default)]
    pub dead_letters: bool,
    /// Events a second.
    #[serde(default)]
    pub rate: Option<u32>,
}

/// `events.discard`: dead letters that nobody will send again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EventsDiscard {
    /// Of which bus.
    pub sink: String,
    /// One of them; else all.
    #[serde(default)]
    pub sequence: Option<u64>,
}

/// `station.drain`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StationDrain {
    /// For people.
    #[serde(default)]
    pub reason: Option<String>,
}
