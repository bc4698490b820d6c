//! Labels: templates of the site, where and when a project prints them, and the queue of each printer.

pub mod render;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::Mac;
use crate::core::plan::SessionId;
use crate::core::text::{is_segment, is_slug, serde_by_text, slug};
use crate::core::time::Timestamp;

/// Jobs that wait for one printer.
pub const MOST_JOBS: usize = 1000;
/// Labels that one project prints.
pub const MOST_LABELS: usize = 8;

/// A slug `[a-z0-9-]{1,64}` made from the label's free name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LabelId(String);

impl LabelId {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn from_name(name: &str) -> Option<Self> {
        slug(name).map(Self)
    }
}

impl fmt::Display for LabelId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for LabelId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_slug(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("not a label id [a-z0-9-]{{1,64}}: {text:?}")),
        }
    }
}

/// The name of a printer: `[A-Za-z0-9_-]{1,64}`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PrinterName(String);

impl PrinterName {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PrinterName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for PrinterName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match is_segment(text) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("not the name of a printer, [A-Za-z0-9_-]{{1,64}}: {text:?}")),
        }
    }
}

serde_by_text!(LabelId, PrinterName);

/// A template without its text, which the ledger keeps by id and revision.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    pub id: LabelId,
    /// As the user wrote it.
    pub name: String,
    /// Of its text, in bytes.
    pub size_bytes: u64,
    /// Rises by one each time that it is put.
    pub revision: u64,
    /// When it was put last.
    pub updated_at: Timestamp,
}

/// When a project prints a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PrintOn {
    /// When the session begins.
    Preinstall,
    /// After the device has passed.
    Passed,
}

/// What a label that does not come out means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnUnprinted {
    /// `label.failed` is said.
    #[default]
    Warn,
    /// The session fails as well, and does not pass before the label is printed.
    Fail,
}

/// A label that a project prints for each of its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectLabel {
    /// The template, by its id.
    pub label: LabelId,
    pub on: PrintOn,
    /// Left out, the printer of the device's slot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub printer: Option<PrinterName>,
    /// `fail` is possible with `on: preinstall` alone.
    #[serde(default)]
    pub on_failure: OnUnprinted,
}

/// A label that waits for its printer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LabelJob {
    /// Rises with each label; never used twice.
    pub job: u64,
    pub label: LabelId,
    /// Of the text, as it was then.
    pub revision: u64,
    pub printer: PrinterName,
    /// Whose label it is.
    pub mac: Mac,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<SessionId>,
    /// It says of itself that it is not the first.
    pub reprint: bool,
    /// The session does not pass without it.
    pub required: bool,
    pub queued_at: Timestamp,
    /// Then it is given up.
    pub expires_at: Timestamp,
}

/// Templates and queues, as the floor holds them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Labels {
    pub templates: BTreeMap<LabelId, Label>,
    pub jobs: BTreeMap<u64, LabelJob>,
    /// The number of the newest job.
    pub newest: u64,
}

/// The printers of the configuration, and how long a label waits for each.
pub type Printers = BTreeMap<PrinterName, Duration>;
