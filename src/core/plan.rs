//! A project made concrete for one device: everything that the script needs, and nothing else.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::core::firmware::FirmwarePlan;
use crate::core::image::{Compression, Digest};
use crate::core::project::StatusLed;
use crate::core::script::{FileName, PlannedScript, Scripts};
use crate::core::text::{is_segment, serde_by_text};

/// One attempt on one device. A `UUIDv7`, so that ids sort by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for SessionId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Uuid::parse_str(text).map(Self).map_err(|_| format!("not a session id: {text:?}"))
    }
}

/// What a device shows with each report of its session. Secret: never in events or logs.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Compares in a time that does not depend on where the two differ.
    pub fn matches(&self, other: &Self) -> bool {
        let differ = self.0.bytes().zip(other.0.bytes()).fold(0, |sum, (a, b)| sum | (a ^ b));
        self.0.len() == other.0.len() && differ == 0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

impl FromStr for Token {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if is_segment(text) { Ok(Self(text.to_owned())) } else { Err("not a session token".to_owned()) }
    }
}

/// A block device below `/dev`: `/dev/mmcblk0`, `/dev/nvme0n1`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct StoragePath(String);

impl StoragePath {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for StoragePath {
    fn default() -> Self {
        Self("/dev/mmcblk0".to_owned())
    }
}

impl fmt::Display for StoragePath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for StoragePath {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.strip_prefix("/dev/") {
            Some(name) if is_segment(name) => Ok(Self(text.to_owned())),
            _ => Err(format!("not a storage device such as /dev/mmcblk0: {text:?}")),
        }
    }
}

serde_by_text!(SessionId, StoragePath);

/// Part of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepName {
    Firmware,
    Preinstall,
    Write,
    Verify,
    Postinstall,
}

impl StepName {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Firmware => "firmware",
            Self::Preinstall => "preinstall",
            Self::Write => "write",
            Self::Verify => "verify",
            Self::Postinstall => "postinstall",
        }
    }
}

impl Plan {
    /// What is to be done, in its order.
    pub fn steps(&self) -> Vec<StepName> {
        let ends = !self.scripts.postinstall.is_empty()
            || self.data_file.is_some()
            || self.scripts.all().any(|planned| planned.manner.background);
        [
            (self.firmware.is_some(), StepName::Firmware),
            (!self.scripts.preinstall.is_empty(), StepName::Preinstall),
            (true, StepName::Write),
            (true, StepName::Verify),
            (ends, StepName::Postinstall),
        ]
        .into_iter()
        .filter_map(|(is_planned, step)| is_planned.then_some(step))
        .collect()
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Plan {
    /// The image, by the SHA-256 of its uploaded file.
    pub image: Digest,
    /// Of the form that is served, and its size.
    pub compression: Compression,
    /// Of the form that is served, in bytes.
    pub size_bytes: u64,
    /// That form is not the file that was uploaded, but one that the station has made of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub transcoded: bool,
    /// What a read-back of the medium must give.
    pub raw_sha256: Digest,
    /// How much is written to the medium, in bytes.
    pub raw_size_bytes: u64,
    /// Where it is written to.
    pub storage: StoragePath,
    /// LED on the carrier board that shows how it goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status_led: Option<StatusLed>,
    /// Goes into the EEPROM before the image goes onto the medium.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub firmware: Option<FirmwarePlan>,
    /// Scripts of the site, with the revisions that they had when the session began.
    #[serde(default, skip_serializing_if = "Scripts::is_empty")]
    pub scripts: Scripts<PlannedScript>,
    /// In the root of the boot partition.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_file: Option<FileName>,
    /// The medium may be a regular file: a simulated device (never a real one).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub regular_file: bool,
}
