//! Power of a place, as it is asked for. Only a port that is a slot of a switch with power is ever switched.

use std::time::Duration;

use serde_json::json;

use crate::core::command::{Command, SlotPower};
use crate::core::device::Mac;
use crate::core::event::Event;
use crate::core::floor::command::Effect;
use crate::core::floor::{Fact, Floor};
use crate::core::observation::PowerDone;
use crate::core::plan::StepName;
use crate::core::refusal::Refusal;
use crate::core::session::Session;
use crate::core::slot::{PowerAction, PowerReason, SlotName, SwitchPort};
use crate::core::time::Timestamp;

/// A request that was not answered for so long never will be: the station died over it.
pub(super) const LOST: Duration = Duration::from_secs(600);

/// What is asked of the power of a place.
pub(super) struct PowerWish<'a> {
    pub slot: &'a SlotName,
    pub action: PowerAction,
    pub device: Option<Mac>,
    pub by: &'a str,
    pub reason: Option<PowerReason>,
}

impl PowerWish<'_> {
    pub(super) fn at(&self, port: SwitchPort) -> Event {
        Event::SlotPowerRequested {
            slot: self.slot.clone(),
            action: self.action,
            port,
            device: self.device,
            by: self.by.to_owned(),
            reason: self.reason,
        }
    }
}

impl Floor {
    pub(super) fn power_slot(&self, wanted: &SlotPower, command: &Command) -> Result<Effect, Refusal> {
        let (slot, action, by) = (&wanted.slot, wanted.action, command.actor.id.as_str());
        self.request_power(&PowerWish { slot, action, device: None, by, reason: None })
    }

    pub(super) fn power_cycle(&self, mac: Mac, command: &Command) -> Result<Effect, Refusal> {
        self.devices.get(&mac).ok_or_else(|| Refusal::not_found("device", mac))?;
        let slot = self
            .slot_of(mac, None)
            .ok_or_else(|| Refusal::new(409, "no_slot", format!("it is not known in which slot device {mac} is")))?;
        let (action, by) = (PowerAction::Cycle, command.actor.id.as_str());
        self.request_power(&PowerWish { slot: &slot, action, device: Some(mac), by, reason: None })
    }

    fn request_power(&self, wish: &PowerWish<'_>) -> Result<Effect, Refusal> {
        let port = self.power_port(wish.slot)?;
        let told = json!({"slot": wish.slot, "action": wish.action, "port": port});
        Ok((vec![wish.at(port).into()], told))
    }

    pub(super) fn power_port(&self, slot: &SlotName) -> Result<SwitchPort, Refusal> {
        let line = &self.settings.line;
        let seen = self.slots.get(slot).and_then(|state| state.port.clone());
        let configured = line.slot(slot).and_then(|slot| slot.port.clone());
        if seen.is_none() && configured.is_none() && line.slot(slot).is_none() {
            return Err(Refusal::not_found("slot", slot));
        }
        // A port that was never seen is asked for by the word of the configuration.
        let port =
            seen.or_else(|| configured.map(|(switch, port)| SwitchPort { switch, port, alias: None, number: 0 }));
        match port {
            Some(port) if line.powered.contains(&port.switch) => Ok(port),
            Some(port) => Err(Refusal::new(
                409,
                "no_power_control",
                format!(
                    "power of switch {} is not to be switched from here: give it write access and poe in switches",
                    port.switch
                ),
            )),
            None => Err(Refusal::new(409, "no_power_control", format!("slot {slot} is at no port of a switch"))),
        }
    }

    /// Power of a place was switched, or could not be.
    pub(super) fn power_done(&self, done: &PowerDone) -> Vec<Fact> {
        let PowerDone { slot, action, by, fault } = done;
        let (slot, action, by) = (slot.clone(), *action, by.clone());
        vec![match fault {
            None => Event::SlotPowered { slot, action, by }.into(),
            Some(detail) => Event::SlotPowerFailed { slot, action, by, detail: detail.clone() }.into(),
        }]
    }

    /// The LED of its port goes off and on with its power: where a device runs no script, that is all there is. Why not,
    /// if that would do harm or nobody would see it.
    pub(super) fn identify_by_port(&self, mac: Mac, command: &Command, now: Timestamp) -> Result<Effect, String> {
        let slot = self.slot_of(mac, None).ok_or_else(|| "it is not known in which slot it is".to_owned())?;
        let port = self.power_port(&slot).map_err(|refusal| refusal.detail)?;
        let state = self.slots.get(&slot).cloned().unwrap_or_default();
        if state.off {
            return Err(format!("power of its slot {slot} is off"));
        }
        if state.power.is_some_and(|news| news.pending && now.since(news.at) < LOST) {
            return Err(format!("power of its slot {slot} is being switched just now"));
        }
        if let Some(other) = self.worked_on(&slot).find(|other| *other != mac) {
            return Err(format!("device {other} is worked on in its slot {slot}"));
        }
        let newest = self.sessions.values().filter(|session| session.mac == mac).max_by_key(|session| session.id);
        if newest.is_some_and(leaves_eeprom_open) {
            return Err("its EEPROM may be half written, so its power stays on".to_owned());
        }
        let (action, by, reason) = (PowerAction::Cycle, command.actor.id.as_str(), Some(PowerReason::Identify));
        let wish = PowerWish { slot: &slot, action, device: Some(mac), by, reason };
        let told = json!({"device": mac, "by": "port", "slot": slot, "action": action, "port": port});
        Ok((vec![wish.at(port).into()], told))
    }

    /// Devices with an open session in a place.
    pub(super) fn worked_on<'a>(&'a self, slot: &'a SlotName) -> impl Iterator<Item = Mac> + 'a {
        let here = move |session: &&Session| session.is_open() && session.slot.as_ref() == Some(slot);
        self.sessions.values().filter(here).map(|session| session.mac)
    }
}

/// It was to write the EEPROM and has not said that this is done: without power now, the module may need rpiboot.
pub(super) fn leaves_eeprom_open(session: &Session) -> bool {
    session.plan.firmware.is_some() && !session.has_done(StepName::Firmware)
}
