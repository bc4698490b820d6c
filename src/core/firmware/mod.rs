//! EEPROM firmware: what the library knows of an image, and what a project wants of it.

pub mod bootconf;
pub mod eeprom;

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::device::{Family, Revision};
use crate::core::image::Digest;
use crate::core::text::serde_by_text;
use crate::core::time::Timestamp;

/// The chip that boots from an EEPROM image; it follows from the size of the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Chip {
    /// Pi 4, 400, CM4, CM4S
    Bcm2711,
    /// Pi 5, 500, CM5
    Bcm2712,
}

impl Chip {
    pub const fn of_size(bytes: usize) -> Option<Self> {
        match bytes {
            0x8_0000 => Some(Self::Bcm2711),
            0x20_0000 => Some(Self::Bcm2712),
            _ => None,
        }
    }

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Bcm2711 => "bcm2711",
            Self::Bcm2712 => "bcm2712",
        }
    }

    pub const fn family(self) -> Family {
        match self {
            Self::Bcm2711 => Family::Pi4,
            Self::Bcm2712 => Family::Pi5,
        }
    }

    /// Where Linux on the device sees its EEPROM (rpi-eeprom-update, 2026).
    pub const fn spi_device(self) -> &'static str {
        match self {
            Self::Bcm2711 => "/dev/spidev0.0",
            Self::Bcm2712 => "/dev/spidev10.0",
        }
    }
}

/// One EEPROM image of the library.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Firmware {
    /// SHA-256 of the file as it was uploaded.
    pub id: Digest,
    /// For people, never a path.
    pub name: String,
    /// Of the file, in bytes.
    pub size_bytes: u64,
    /// The chip that it is for.
    pub chip: Chip,
    /// `2026-08-04 8ba17717`: the day of the build and the start of its commit, as far as the image tells.
    pub version: String,
    /// When it was built, in seconds since 1970: what "older" is judged by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<u32>,
    /// The `bootconf.txt` that it comes with.
    pub bootconf: String,
    /// How long another `bootconf.txt` may be.
    pub room_bytes: u32,
    /// When it was taken in.
    pub added_at: Timestamp,
}

/// What a project wants of the EEPROM of its devices.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recipe {
    /// SHA-256 of the firmware in the library.
    pub image: Digest,
    /// Over what `bootconf.txt` of the image says.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub settings: BTreeMap<String, String>,
    /// In the place of what `bootconf.txt` of the image says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootconf: Option<String>,
    /// Other boards are refused; empty: any board of the chip.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allow_revisions: Vec<BoardKind>,
    /// A `BOOT_ORDER` without network is what is wanted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub force_boot_order: bool,
    /// An EEPROM with newer firmware gets this one all the same.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
}

impl Recipe {
    /// The `bootconf.txt` that the device gets, where it is not the one of the image.
    pub fn edited(&self, firmware: &Firmware) -> Option<String> {
        let text = match &self.bootconf {
            Some(text) => text.clone(),
            None => bootconf::with_settings(&firmware.bootconf, &self.settings),
        };
        (text != firmware.bootconf).then_some(text)
    }

    pub fn allows(&self, revision: Revision) -> bool {
        self.allow_revisions.is_empty() || self.allow_revisions.iter().any(|kind| kind.covers(revision))
    }
}

/// The firmware in the plan of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirmwarePlan {
    /// SHA-256 of the firmware in the library.
    pub image: Digest,
    /// The chip that it is for.
    pub chip: Chip,
    /// Of the firmware.
    pub version: String,
    /// When it was built, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<u32>,
    /// Another `bootconf.txt` than the image's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bootconf: Option<String>,
    /// Of the image as the device gets it.
    pub sha256: Digest,
    /// In bytes.
    pub size_bytes: u64,
    /// Newer firmware is replaced, too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub allow_downgrade: bool,
}

/// What the firmware step of a device has seen and done.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct FirmwareSeen {
    /// What the EEPROM held before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_before: Option<String>,
    /// When that was built, in seconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built_before: Option<u32>,
    /// What the EEPROM holds now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version_after: Option<String>,
    /// The EEPROM held the image already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub skipped: bool,
}

/// Boards by their name (`CM4`) or one by its revision code (`c03140`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BoardKind {
    Board(&'static str),
    Revision(Revision),
}

impl BoardKind {
    pub fn covers(&self, revision: Revision) -> bool {
        match self {
            Self::Board(name) => revision.board() == Some(name),
            Self::Revision(code) => *code == revision,
        }
    }

    /// The chip on it, where the name or the code tells.
    pub fn chip(&self) -> Option<Chip> {
        let board = match self {
            Self::Board(name) => name,
            Self::Revision(code) => code.board()?,
        };
        Some(match board {
            "4B" | "400" | "CM4" | "CM4S" => Chip::Bcm2711,
            "5" | "500" | "CM5" | "CM5 Lite" => Chip::Bcm2712,
            _ => return None,
        })
    }
}

impl fmt::Display for BoardKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Board(name) => f.write_str(name),
            Self::Revision(code) => code.fmt(f),
        }
    }
}

impl FromStr for BoardKind {
    type Err = String;

    /// Names first: some of them (`400`, `4B`) would be hex numbers too.
    fn from_str(text: &str) -> Result<Self, String> {
        let boards = (0..=0xff).filter_map(|kind| Revision(1 << 23 | kind << 4).board());
        if let Some(name) = boards.into_iter().find(|board| *board == text) {
            return Ok(Self::Board(name));
        }
        let code = (6..=8).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
        match text.parse() {
            Ok(revision) if code => Ok(Self::Revision(revision)),
            _ => Err(format!("neither a board such as CM4 nor a revision code such as c03140: {text:?}")),
        }
    }
}

serde_by_text!(BoardKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn boards_are_named_by_their_name_or_by_their_code() {
        let kind = |text: &str| text.parse::<BoardKind>();
        assert!(kind("CM4").unwrap().covers(Revision(0xc0_3140)));
        assert!(kind("c03140").unwrap().covers(Revision(0xc0_3140)));
        assert!(!kind("CM4").unwrap().covers(Revision(0xd0_4180)));
        assert!(!kind("c03141").unwrap().covers(Revision(0xc0_3140)));
        assert_eq!(kind("400").unwrap(), BoardKind::Board("400"));
        assert_eq!(kind("CM5 Lite").unwrap().chip(), Some(Chip::Bcm2712));
        assert_eq!(kind("c03140").unwrap().chip(), Some(Chip::Bcm2711));
        for wrong in ["", "CM9", "c0314", "+c03140", "c03140123", "x"] {
            assert!(kind(wrong).is_err(), "{wrong}");
        }
    }
}
