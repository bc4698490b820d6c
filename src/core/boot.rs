//! A boot as a whole: how the device was first seen, what it fetched, and how long it took to ask for its script.

use std::net::Ipv4Addr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::event::Via;
use crate::core::observation::{FileResult, FileServed};
use crate::core::time::Timestamp;

/// The sum of a boot, told with the session that it led to.
///
/// Boot files are told to the station once a second, so that no download waits for a commit: at the moment when the
/// session begins, those of the last second may be missing. What comes later is added to the device's own row.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Boot {
    /// By what it was seen first in this boot.
    pub via: Via,
    /// When that was.
    pub discovered_at: Timestamp,
    /// IPv4 address that it has on the line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<Ipv4Addr>,
    #[serde(flatten)]
    pub files: Fetched,
    /// From its first packet until its session began; nothing before that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_ms: Option<u64>,
}

/// What a device has asked for by TFTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Fetched {
    /// Files that it has got whole.
    pub files: u32,
    /// Of these and of those that were cut off.
    pub bytes: u64,
    /// Files that it asked for and that are not there; many are optional.
    pub missing: u32,
    /// Files of which it asked only whether they are there.
    pub probed: u32,
    /// Files that were cut off in the middle.
    pub aborted: u32,
}

impl Boot {
    pub fn new(via: Via, discovered_at: Timestamp, address: Option<Ipv4Addr>) -> Self {
        Self { via, discovered_at, address, files: Fetched::default(), duration_ms: None }
    }
}

impl Fetched {
    pub fn of(files: &[FileServed]) -> Self {
        files.iter().fold(Self::default(), |sum, file| sum.plus(Self::one(file)))
    }

    pub const fn plus(self, other: Self) -> Self {
        Self {
            files: self.files.saturating_add(other.files),
            bytes: self.bytes.saturating_add(other.bytes),
            missing: self.missing.saturating_add(other.missing),
            probed: self.probed.saturating_add(other.probed),
            aborted: self.aborted.saturating_add(other.aborted),
        }
    }

    fn one(file: &FileServed) -> Self {
        let none = Self { bytes: file.bytes, ..Self::default() };
        match file.result {
            FileResult::Sent => Self { files: 1, ..none },
            FileResult::Missing => Self { missing: 1, ..none },
            FileResult::Probed => Self { probed: 1, ..none },
            FileResult::Aborted => Self { aborted: 1, ..none },
        }
    }
}
