//! One module on the line: what names it and what is known of it.

use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::core::text::serde_by_text;

/// The Ethernet address; the id of a device in topics, subjects and URLs: 12 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac([u8; 6]);

impl Mac {
    pub const fn new(bytes: [u8; 6]) -> Self {
        Self(bytes)
    }

    pub const fn bytes(self) -> [u8; 6] {
        self.0
    }

    /// `dc-a6-32-01-36-c2`, the form of the bootloader's `TFTP_PREFIX=2`.
    pub fn dashes(self) -> String {
        let [a, b, c, d, e, f] = self.0;
        format!("{a:02x}-{b:02x}-{c:02x}-{d:02x}-{e:02x}-{f:02x}")
    }

    /// A multicast or all-zero address names no device.
    pub fn is_unicast(self) -> bool {
        self.0[0] & 1 == 0 && self.0 != [0; 6]
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Mac {
    type Err = String;

    /// Reads 12 hex digits, bare or as six pairs separated by `:` or `-`.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a MAC address: {text:?}");
        let separated = |separator: char| {
            let pairs: Vec<&str> = text.split(separator).collect();
            (pairs.len() == 6 && pairs.iter().all(|pair| pair.len() == 2)).then(|| pairs.concat())
        };
        let digits = match text.len() {
            12 => text.to_owned(),
            17 => separated(':').or_else(|| separated('-')).ok_or_else(wrong)?,
            _ => return Err(wrong()),
        };
        if !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let value = u64::from_str_radix(&digits, 16).map_err(|_| wrong())?;
        let [_, _, a, b, c, d, e, f] = value.to_be_bytes();
        Ok(Self([a, b, c, d, e, f]))
    }
}

/// The low word of the serial, known from option 97: the prefix under which the bootloader asks for its files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial8(pub u32);

impl fmt::Display for Serial8 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

impl FromStr for Serial8 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a serial of 8 hex digits: {text:?}");
        if text.len() != 8 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u32::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

/// The whole serial, as `/proc/cpuinfo` prints it: 16 hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial(pub u64);

impl Serial {
    #[expect(clippy::cast_possible_truncation, reason = "the low word is what is meant")]
    pub const fn low(self) -> Serial8 {
        Serial8(self.0 as u32)
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for Serial {
    type Err = String;

    /// Reads 8 to 16 hex digits: short forms are known from hand-made calls.
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("not a serial of 8 to 16 hex digits: {text:?}");
        if !(8..=16).contains(&text.len()) || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        u64::from_str_radix(text, 16).map(Self).map_err(|_| wrong())
    }
}

/// A board revision code (documentation of Raspberry Pi, `revision-codes.adoc`): six or more hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u32);

impl Revision {
    /// Bits 4 to 11 of a new-style code; old-style codes name boards that cannot netboot.
    pub fn board(self) -> Option<&'static str> {
        if self.0 & (1 << 23) == 0 {
            return None;
        }
        Some(match (self.0 >> 4) & 0xff {
            0x08 => "3B",
            0x0a => "CM3",
            0x0d => "3B+",
            0x10 => "CM3+",
            0x11 => "4B",
            0x13 => "400",
            0x14 => "CM4",
            0x15 => "CM4S",
            0x17 => "5",
            0x18 => "CM5",
            0x19 => "500",
            0x1a => "CM5 Lite",
            0x1b => "CM0",
            _ => return None,
        })
    }

    /// Bits 20 to 22 of a new-style code, in MiB. 7 means "other".
    pub fn memory_mb(self) -> Option<u32> {
        let code = (self.0 >> 20) & 7;
        (self.0 & (1 << 23) != 0 && code < 7).then(|| 256 << code)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl FromStr for Revision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        u32::from_str_radix(text, 16).map(Self).map_err(|_| format!("not a board revision: {text:?}"))
    }
}

serde_by_text!(Mac, Serial8, Serial, Revision);

/// Which boot ROM or bootloader asks; it decides the shape of the answer and the set of boot files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Family {
    /// BCM2837: the boot ROM of Pi 3, or `bootcode.bin`
    Pi3,
    /// BCM2711: Pi 4, 400, CM4
    Pi4,
    /// BCM2712: Pi 5, 500, CM5
    Pi5,
}

/// What option 97 of a boot client tells, before any file is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BootIdentity {
    pub family: Family,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<Revision>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub serial8: Option<Serial8>,
}

/// What the device's Linux stage tells of itself in the query of `/scriptexecute`. All of it may be missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Facts {
    /// As the device tree says it: `Raspberry Pi Compute Module 4 Rev 1.1`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// Size of the storage in sectors of 512 bytes; nothing on a module without eMMC or card.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub storage_sectors: Option<u64>,
    /// RAM in KiB, as Linux counts it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_kb: Option<u64>,
    /// As `vcgencmd measure_temp` prints it without `temp=`: `42.0'C`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<String>,
    /// CID register of the eMMC or card, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cid: Option<String>,
    /// CSD register of the eMMC or card, in hex.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub csd: Option<String>,
    /// 2 = network, 3 = rpiboot.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub boot_mode: Option<String>,
    /// Three digits, inverse: 0 = jumper set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jumper: Option<String>,
    /// Set by `simulate` alone: the medium is a plain file and the proof is of the software, not of a module.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub simulated: bool,
}

impl Facts {
    pub fn storage_bytes(&self) -> Option<u64> {
        self.storage_sectors.and_then(|sectors| sectors.checked_mul(512))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mac_is_read_in_three_forms_and_written_in_one() {
        for text in ["e45f01112233", "E4:5F:01:11:22:33", "e4-5f-01-11-22-33"] {
            assert_eq!(text.parse::<Mac>().unwrap().to_string(), "e45f01112233");
        }
        for wrong in
            ["", "e45f0111223", "e4:5f:01:11:22:3", "e4:5f-01:11:22:33", "g45f01112233", "+45f01112233", "e45f0111223é"]
        {
            assert!(wrong.parse::<Mac>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn revision_c03140_is_a_cm4_with_4_gb() {
        let revision = Revision(0xc0_3140);
        assert_eq!(revision.board(), Some("CM4"));
        assert_eq!(revision.memory_mb(), Some(4096));
        assert_eq!(Revision(0xd0_4180).board(), Some("CM5"));
        assert_eq!(Revision(0xd0_4180).memory_mb(), Some(8192));
        assert_eq!(Revision(0x0002).board(), None);
    }

    #[test]
    fn a_serial_gives_its_low_word() {
        let serial: Serial = "10000000a1b2c3d4".parse().unwrap();
        assert_eq!(serial.low().to_string(), "a1b2c3d4");
        assert!("x\"; reboot; echo \"".parse::<Serial>().is_err());
    }
}
