//! What a device did on its way up: its packets, the boot files it asked for, its script, the bootloader's own text.
//! Rows of the ledger, not events: they tell the one who looks at a board that does not come up.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::core::observation::FileServed;
use crate::core::time::Timestamp;

/// One line of a device's timeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Moment {
    pub at: Timestamp,
    pub what: What,
    /// The packet, the file, the call; for the bootloader's text, the text.
    pub name: String,
    /// Of a file: those that the device is known to have.
    pub bytes: u64,
    pub result: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A boot begins.
    Boot,
    Dhcp,
    File,
    /// A line of the bootloader's own text.
    Console,
    Script,
}

impl What {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Dhcp => "dhcp",
            Self::File => "file",
            Self::Console => "console",
            Self::Script => "script",
        }
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for What {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Boot, Self::Dhcp, Self::File, Self::Console, Self::Script]
            .into_iter()
            .find(|what| what.as_str() == text)
            .ok_or_else(|| format!("nothing of a timeline: {text:?}"))
    }
}

impl Moment {
    pub fn new(at: Timestamp, what: What, name: impl Into<String>, result: impl Into<String>) -> Self {
        Self { at, what, name: name.into(), bytes: 0, result: result.into() }
    }
}

impl From<&FileServed> for Moment {
    fn from(file: &FileServed) -> Self {
        Self { bytes: file.bytes, ..Self::new(file.at, What::File, file.name.clone(), file.result.as_str()) }
    }
}
