//! Switches and slots: which places the line has, and what is asked of the switches.

use std::collections::BTreeSet;
use std::time::Duration;

use snmp2::v3::{AuthProtocol, Cipher};

use crate::config::file::File;
use crate::config::file::line::{self as file, Authentication, Privacy, SnmpVersion};
use crate::config::{ConfigError, secret, wrong};
use crate::core::slot::{AutomaticCycle, Line, Slot};
use crate::core::text::is_segment;
use crate::switches::client::{Access, Login};
use crate::switches::power::{Numbering, Power};
use crate::switches::{self, Switch};

/// A device that was not seen for an hour is forgotten, so waiting must be over well before.
const LONGEST_WAIT: Duration = Duration::from_secs(30 * 60);
/// What ten cycles do not help, the next will not either.
const MOST_CYCLES: u32 = 10;

pub fn switches(file: &File) -> Result<switches::Settings, ConfigError> {
    let mut names = BTreeSet::new();
    let mut all = Vec::new();
    for wanted in &file.switches {
        if !is_segment(&wanted.name) {
            return Err(wrong("switches", format!("not [A-Za-z0-9_-]{{1,64}}: {:?}", wanted.name)));
        }
        if !names.insert(&wanted.name) {
            return Err(wrong("switches", format!("two switches are called {}", wanted.name)));
        }
        all.push(one(wanted)?);
    }
    Ok(switches::Settings { switches: all, pause: file.power.pause.0 })
}

fn one(wanted: &file::ManagedSwitch) -> Result<Switch, ConfigError> {
    let named = |what: String| wrong("switches", format!("{}: {what}", wanted.name));
    let address = match wanted.address.rsplit_once(':') {
        Some((_, port)) if port.parse::<u16>().is_ok() => wanted.address.clone(),
        _ if wanted.address.is_empty() => return Err(named("address is missing".to_owned())),
        _ => format!("{}:161", wanted.address),
    };
    let access =
        |login| Access { address: address.clone(), login, timeout: wanted.timeout.0, retries: wanted.retries.min(10) };
    let community = |path: &std::path::Path| {
        Ok::<_, ConfigError>(Login::Community(secret("switches community_file", path)?.into_bytes()))
    };
    let reader = match wanted.version {
        SnmpVersion::V2c => match &wanted.community_file {
            Some(path) => community(path)?,
            None => Login::Community(b"public".to_vec()),
        },
        SnmpVersion::V3 => user(wanted)?,
    };
    let power = match &wanted.poe {
        None => None,
        Some(poe) => {
            let login = match (wanted.version, &wanted.write_community_file) {
                (SnmpVersion::V2c, Some(path)) => community(path)?,
                (SnmpVersion::V2c, None) => return Err(named("poe needs write_community_file".to_owned())),
                (SnmpVersion::V3, _) => reader.clone(),
            };
            let numbering = match poe.numbering {
                file::PoeNumbering::Port => Numbering::Port,
                file::PoeNumbering::Interface => Numbering::Interface,
            };
            Some((Power { group: poe.group, numbering }, access(login)))
        }
    };
    let uplink_macs = wanted.uplink_macs;
    Ok(Switch {
        name: wanted.name.clone(),
        access: access(reader),
        power,
        uplinks: wanted.uplinks.clone(),
        uplink_macs,
    })
}

fn user(wanted: &file::ManagedSwitch) -> Result<Login, ConfigError> {
    let named = |what: &str| wrong("switches", format!("{}: {what}", wanted.name));
    let name = wanted.username.clone().ok_or_else(|| named("version 3 needs username"))?;
    let password = |path: &Option<std::path::PathBuf>, key| {
        path.as_deref().map(|path| secret(key, path).map(String::into_bytes)).transpose()
    };
    let auth = password(&wanted.auth_password_file, "switches auth_password_file")?;
    let privacy = password(&wanted.privacy_password_file, "switches privacy_password_file")?;
    if privacy.is_some() && auth.is_none() {
        return Err(named("privacy_password_file needs auth_password_file"));
    }
    let protocol = match wanted.auth {
        Authentication::Md5 => AuthProtocol::Md5,
        Authentication::Sha1 => AuthProtocol::Sha1,
        Authentication::Sha256 => AuthProtocol::Sha256,
        Authentication::Sha512 => AuthProtocol::Sha512,
    };
    let cipher = match wanted.privacy {
        Privacy::Des => Cipher::Des,
        Privacy::Aes128 => Cipher::Aes128,
        Privacy::Aes256 => Cipher::Aes256,
    };
    Ok(Login::User {
        name,
        auth: auth.map(|secret| (protocol, secret)),
        privacy: privacy.map(|secret| (cipher, secret)),
    })
}

pub fn line(file: &File) -> Result<Line, ConfigError> {
    let mut names = BTreeSet::new();
    let mut slots = Vec::new();
    for wanted in &file.slots {
        let named = |what: String| wrong("slots", format!("{}: {what}", wanted.name));
        let port = match (&wanted.switch, &wanted.port) {
            (Some(switch), Some(port)) => Some((switch.clone(), port.clone())),
            (None, None) => None,
            _ => return Err(named("switch and port go together".to_owned())),
        };
        if let Some((switch, _)) = &port
            && !file.switches.iter().any(|known| known.name == *switch)
        {
            return Err(named(format!("there is no switch {switch:?}")));
        }
        if port.is_none() && wanted.circuit.is_none() && wanted.jumper.is_none() {
            return Err(named("give switch and port, circuit, or jumper".to_owned()));
        }
        if !names.insert(wanted.name.clone()) {
            return Err(named("is named twice".to_owned()));
        }
        slots.push(Slot {
            name: wanted.name.clone(),
            port,
            circuit: wanted.circuit.clone(),
            jumper: wanted.jumper.clone(),
            printer: wanted.printer.clone(),
        });
    }
    if file.power.pause.0 < Duration::from_secs(1) {
        return Err(wrong("power.pause", "a module needs a second without power at least"));
    }
    let powered: BTreeSet<String> =
        file.switches.iter().filter(|switch| switch.poe.is_some()).map(|switch| switch.name.clone()).collect();
    let automatic = file.power.automatic.map(|wanted| automatic(wanted, file, &powered)).transpose()?;
    Ok(Line {
        slots,
        order: file.places.order.clone(),
        made: file.places.made,
        powered,
        quarantine_after: file.places.quarantine_after,
        automatic,
        printers: crate::config::printers::queues(file)?,
    })
}

fn automatic(wanted: file::Automatic, file: &File, powered: &BTreeSet<String>) -> Result<AutomaticCycle, ConfigError> {
    let file::Automatic { after, times, pause } = wanted;
    if powered.is_empty() {
        return Err(wrong("power.automatic", "no switch has poe, so no power could be cycled"));
    }
    if after.0 > LONGEST_WAIT {
        let detail = format!("{} s; at most {} s", after.0.as_secs(), LONGEST_WAIT.as_secs());
        return Err(wrong("power.automatic.after", detail));
    }
    if !(1..=MOST_CYCLES).contains(&times) {
        return Err(wrong("power.automatic.times", format!("{times}; from 1 to {MOST_CYCLES}")));
    }
    if pause.0 < file.power.pause.0 {
        let off = file.power.pause.0.as_secs();
        let detail = format!("{} s; a port is without power for {off} s already (power.pause)", pause.0.as_secs());
        return Err(wrong("power.automatic.pause", detail));
    }
    Ok(AutomaticCycle { after: after.0, times, pause: pause.0 })
}
