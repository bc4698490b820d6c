//! The name that a bootloader asks for: whose prefix it carries, and which file it means.

use crate::bootfiles::NotServed;
use crate::core::device::{Family, Mac, Serial8};

/// A name taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The device that the name itself tells (`TFTP_PREFIX`: low word of the serial, or MAC).
    pub device: Option<Prefix>,
    /// Below a place of the folder: no prefix, no empty part, no `..`.
    pub path: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefix {
    Serial(Serial8),
    Mac(Mac),
}

impl Prefix {
    /// The name of the device's folder: always the lower-case form.
    pub fn folder(self) -> String {
        match self {
            Self::Serial(serial8) => serial8.to_string(),
            Self::Mac(mac) => mac.dashes(),
        }
    }

    /// `c0ffee12` or `dc-a6-32-01-36-c2`.
    pub fn parse(part: &str) -> Option<Self> {
        let mac = || part.contains('-').then(|| part.parse().ok()).flatten().map(Self::Mac);
        part.parse().ok().map(Self::Serial).or_else(mac)
    }
}

impl Asked {
    pub fn parse(asked: &str) -> Result<Self, NotServed> {
        if asked.contains(['\\', '\0']) || asked.split('/').any(|part| part == "..") {
            return Err(NotServed::Denied);
        }
        // Seen from Pi 4 and 5: a leading slash, and a doubled one after the prefix.
        let parts: Vec<&str> = asked.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        let (device, parts) = match parts.as_slice() {
            [first, rest @ ..] if !rest.is_empty() => match Prefix::parse(first) {
                Some(prefix) => (Some(prefix), rest),
                None => (None, &parts[..]),
            },
            _ => (None, &parts[..]),
        };
        match parts.first() {
            // The sets are looked at for whom they are meant; under their own names they would go to anyone.
            Some(first) if !is_set(first) && Prefix::parse(first).is_none() => {}
            _ => return Err(NotServed::Missing),
        }
        let path = parts.join("/");
        if is_never_served(&path) { Err(NotServed::Missing) } else { Ok(Self { device, path }) }
    }
}

/// The folder of projects' sets.
pub const PROJECTS: &str = "projects";

/// The folder of a family's set: the number of its chip.
pub const fn set_of(family: Family) -> &'static str {
    match family {
        Family::Pi3 => "2710",
        Family::Pi4 => "2711",
        Family::Pi5 => "2712",
    }
}

/// Folders may lie on a file system that knows no case.
pub fn is_set(part: &str) -> bool {
    [PROJECTS, "2710", "2711", "2712"].iter().any(|set| part.eq_ignore_ascii_case(set))
}

/// Names that make a bootloader flash its EEPROM or start a rescue system. They are asked for at every boot, so a file
/// of that name that happens to lie in the folder would be a trap.
pub fn is_never_served(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path).to_ascii_lowercase();
    name.starts_with("pieeprom.") || name.starts_with("recovery.") || name == "recover4.elf"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_its_device_and_its_file() {
        let parts = |asked| Asked::parse(asked).map(|asked| (asked.device.map(Prefix::folder), asked.path)).ok();
        for (asked, device, path) in [
            ("start4.elf", None, "start4.elf"),
            ("//start4.elf", None, "start4.elf"),
            ("c0ffee12//overlays/./dwc2.dtbo", Some("c0ffee12"), "overlays/dwc2.dtbo"),
            ("C0FFEE12/config.txt", Some("c0ffee12"), "config.txt"),
            ("DC-A6-32-01-36-C2/config.txt", Some("dc-a6-32-01-36-c2"), "config.txt"),
            ("dca6320136c2/config.txt", None, "dca6320136c2/config.txt"),
        ] {
            assert_eq!(parts(asked), Some((device.map(str::to_owned), path.to_owned())), "{asked}");
        }
    }

    #[test]
    fn sets_and_folders_of_devices_have_no_names_of_their_own() {
        for asked in [
            "projects/gateway/start4.elf",
            "Projects/gateway/start4.elf",
            "c0ffee12/projects/gateway/start4.elf",
            "2711/start4.elf",
            "c0ffee12/2711/start4.elf",
            "./2712",
            "c0ffee12/deadbeef/config.txt",
            "c0ffee12/dc-a6-32-01-36-c2/config.txt",
            "c0ffee12",
            "/",
            "",
        ] {
            assert!(matches!(Asked::parse(asked), Err(NotServed::Missing)), "{asked}");
        }
    }
}
