//! What the switches of a configuration tell, for a person at the line: each MAC, its port, the slot that it makes.

use crate::config::Config;
use crate::core::slot::Place;
use crate::switches::survey;

/// One line of the table.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Seen {
    pub switch: String,
    pub mac: String,
    pub port: String,
    pub alias: Option<String>,
    pub slot: Option<String>,
    /// The port leads to another switch, so it says nothing about where the MAC is.
    pub uplink: bool,
}

/// What one switch has told.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Told {
    pub switch: String,
    pub address: String,
    pub fault: Option<String>,
    pub packets: u64,
    pub seen: Vec<Seen>,
}

pub async fn switches(config: &Config) -> Vec<Told> {
    let mut all = Vec::new();
    for switch in &config.switches.switches {
        let (found, packets) = survey(switch).await;
        let mut told = Told {
            switch: switch.name.clone(),
            address: switch.access.address.clone(),
            fault: None,
            packets,
            seen: Vec::new(),
        };
        match found {
            Err(fault) => told.fault = Some(fault.to_string()),
            Ok(sightings) => told.seen.extend(sightings.into_iter().map(|sighting| {
                let place = Place { port: Some(&sighting.port), ..Place::default() };
                let slot = config.core.line.slot_of(place).filter(|_| !sighting.uplink);
                Seen {
                    switch: switch.name.clone(),
                    mac: sighting.mac.to_string(),
                    port: sighting.port.port,
                    alias: sighting.port.alias,
                    slot: slot.map(|slot| slot.to_string()),
                    uplink: sighting.uplink,
                }
            })),
        }
        all.push(told);
    }
    all
}
