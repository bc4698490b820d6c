//! The boards that are simulated: what is printed on them and burnt into them.

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::core::device::{Mac, Revision, Serial};

/// Which board a simulated device is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Model {
    /// Pi 3B: boot ROM, then bootcode.bin
    Pi3,
    Pi4,
    Cm4,
    Pi5,
    Cm5,
}

impl Model {
    pub const ALL: [Self; 5] = [Self::Pi3, Self::Pi4, Self::Cm4, Self::Pi5, Self::Cm5];

    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pi3 => "pi3",
            Self::Pi4 => "pi4",
            Self::Cm4 => "cm4",
            Self::Pi5 => "pi5",
            Self::Cm5 => "cm5",
        }
    }

    pub const fn revision(self) -> Revision {
        Revision(match self {
            Self::Pi3 => 0xa0_2082,
            Self::Pi4 => 0xc0_3111,
            Self::Cm4 => 0xc0_3140,
            Self::Pi5 => 0xc0_4170,
            Self::Cm5 => 0xd0_4180,
        })
    }

    /// What Linux calls it: `/proc/device-tree/model`.
    pub fn text(self) -> String {
        let name = match self {
            Self::Pi3 => "3 Model B",
            Self::Pi4 => "4 Model B",
            Self::Cm4 => "Compute Module 4",
            Self::Pi5 => "5 Model B",
            Self::Cm5 => "Compute Module 5",
        };
        format!("Raspberry Pi {name} Rev 1.{}", self.revision().0 & 0xf)
    }

    /// The first three bytes of its address: one of Raspberry Pi's, made a locally administered one.
    pub const fn prefix(self) -> [u8; 3] {
        match self {
            Self::Pi3 => [0xba, 0x27, 0xeb],
            Self::Pi4 | Self::Cm4 => [0xe6, 0x5f, 0x01],
            Self::Pi5 | Self::Cm5 => [0x2e, 0xcf, 0x67],
        }
    }

    /// As the serials of this model look; the low word follows the address. On a Pi 3 it is the other way round: the
    /// end of the address is that of the serial. On a Pi 5 the high word is random.
    pub fn serial(self, mac: Mac) -> Serial {
        let [_, _, _, d, e, f] = mac.bytes();
        let low = u64::from(u32::from_be_bytes([0xb5, d, e, f]));
        let high = match self {
            Self::Pi3 => 0,
            Self::Pi4 | Self::Cm4 => 0x1000_0000,
            Self::Pi5 | Self::Cm5 => scattered(low),
        };
        Serial(high << 32 | low)
    }
}

/// Looks random, and is the same for the same device (the multiplier is that of splitmix64).
const fn scattered(seed: u64) -> u64 {
    seed.wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32
}

/// How old the bootloader in the EEPROM of a Pi 4 or CM4 is; the others have one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Firmware {
    #[default]
    Current,
    /// Before 2020-03: its serial four times in option 97, a bare REQUEST, blocks of 1024 bytes, 65535 of them
    Old,
}

/// What the bootloader knows of its board.
#[derive(Clone, Copy, Debug)]
pub struct Board {
    pub model: Model,
    pub mac: Mac,
    pub serial: Serial,
    pub revision: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_model_says_what_it_is_by_its_revision() {
        let boards = Model::ALL.map(|model| model.revision().board().unwrap());
        assert_eq!(boards, ["3B", "4B", "CM4", "5", "CM5"]);
        assert_eq!(Model::Cm4.text(), "Raspberry Pi Compute Module 4 Rev 1.0");
        assert_eq!(Model::Pi3.text(), "Raspberry Pi 3 Model B Rev 1.2");
    }

    #[test]
    fn serials_look_like_those_of_their_model() {
        let mac: Mac = "e65f0100fffe".parse().unwrap();
        assert_eq!(Model::Cm4.serial(mac).to_string(), "10000000b500fffe");
        assert_eq!(Model::Pi3.serial(mac).to_string(), "00000000b500fffe");
        let [one, same, other] =
            [mac, mac, "e65f0100ffff".parse().unwrap()].map(|mac| Model::Cm5.serial(mac).to_string());
        assert_eq!(one, same);
        assert!(one.ends_with("b500fffe") && one[..8] != other[..8], "{one} {other}");
    }
}
