//! Places on the line: where a device is, and how the attempts there go.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::core::command::Command;
use crate::core::device::Mac;
use crate::core::event::{DeviceRef, Event};
use crate::core::floor::command::Effect;
use crate::core::floor::{Decision, Fact, Floor};
use crate::core::observation::Located;
use crate::core::refusal::Refusal;
use crate::core::shown::{PowerState, SlotShown};
use crate::core::slot::{Place, PowerAction, PowerNews, SlotName, SlotState};
use crate::core::time::Timestamp;

impl Floor {
    pub fn slots(&self) -> &BTreeMap<SlotName, SlotState> {
        &self.slots
    }

    pub fn learn_slots(&mut self, slots: BTreeMap<SlotName, SlotState>) {
        self.slots = slots;
    }

    /// The place of a device, by all that is known of it.
    pub(super) fn slot_of(&self, mac: Mac, jumper: Option<&str>) -> Option<SlotName> {
        // With its script it may be seen for the first time; then only the jumpers tell.
        let device = self.devices.get(&mac);
        let session = device.and_then(|device| device.open_session).and_then(|id| self.sessions.get(&id));
        let jumper = jumper.or_else(|| session.and_then(|session| session.facts.jumper.as_deref()));
        self.settings.line.slot_of(Place {
            port: device.and_then(|device| device.switch_port.as_ref()),
            circuit: device.and_then(|device| device.circuit.as_deref()),
            jumper,
        })
    }

    /// A closed place takes nobody.
    pub(super) fn slot_is_open(&self, mac: Mac, jumper: Option<&str>) -> Result<(), Refusal> {
        let Some(slot) = self.slot_of(mac, jumper) else { return Ok(()) };
        match self.slots.get(&slot).filter(|state| state.quarantined) {
            Some(state) => Err(Refusal::new(
                409,
                "slot_quarantined",
                format!(
                    "{} attempts in a row did not pass in slot {slot}, and it is closed; look at its cable and socket, then slot.release",
                    state.failures
                ),
            )),
            None => Ok(()),
        }
    }

    /// A switch was asked for a device that was just seen.
    pub(super) fn located(&self, located: &Located) -> Vec<Fact> {
        let Some(device) = self.devices.get(&located.mac) else { return Vec::new() };
        let same = match located.ports.as_slice() {
            [port] => device.switch_port.as_ref() == Some(port),
            _ => false,
        };
        if located.ports.is_empty() || same {
            return Vec::new();
        }
        let mut device = match device.open_session.and_then(|id| self.sessions.get(&id)) {
            Some(session) => self.reference_in(session),
            None => self.reference(located.mac),
        };
        let known = self.devices.get(&located.mac);
        if let [port] = located.ports.as_slice() {
            device.switch_port = Some(port.clone());
            device.slot = self.settings.line.slot_of(Place {
                port: Some(port),
                circuit: known.and_then(|known| known.circuit.as_deref()),
                jumper: device.board.as_deref(),
            });
            return vec![Event::DeviceLocated { device, candidates: Vec::new() }.into()];
        }
        vec![Event::DeviceLocated { device, candidates: located.ports.clone() }.into()]
    }

    pub(super) fn list_slots(&self) -> Value {
        let line = &self.settings.line;
        let names: std::collections::BTreeSet<&SlotName> =
            line.slots.iter().map(|slot| &slot.name).chain(self.slots.keys()).collect();
        let mut here: BTreeMap<SlotName, Vec<Mac>> = BTreeMap::new();
        for session in self.sessions.values().filter(|session| session.is_open()) {
            if let Some(slot) = &session.slot {
                here.entry(slot.clone()).or_default().push(session.mac);
            }
        }
        let shown = names.into_iter().map(|name| {
            let state = self.slots.get(name).cloned().unwrap_or_default();
            let all = state.passed + state.failed;
            let configured = line.slot(name);
            SlotShown {
                slot: name.clone(),
                configured: configured.is_some(),
                printer: configured.and_then(|slot| slot.printer.clone()),
                port: state.port,
                passed: state.passed,
                failed: state.failed,
                yield_percent: (all > 0).then(|| state.passed * 100 / all),
                failures_in_a_row: state.failures,
                quarantined: state.quarantined,
                power: if state.off { PowerState::Off } else { PowerState::On },
                devices: here.get(name).cloned().unwrap_or_default(),
            }
        });
        json!({"slots": shown.collect::<Vec<_>>()})
    }

    pub(super) fn release_slot(&self, slot: &SlotName, command: &Command) -> Result<Effect, Refusal> {
        let state = self.slots.get(slot).ok_or_else(|| Refusal::not_found("slot", slot))?;
        if !state.quarantined {
            return Err(Refusal::new(409, "wrong_state", format!("slot {slot} is not quarantined")));
        }
        let event = Event::SlotReleased { slot: slot.clone(), by: command.actor.id.clone() };
        Ok((vec![event.into()], json!({"slot": slot})))
    }

    /// Adds what follows for the place when attempts end there.
    pub(super) fn with_quarantines(&self, mut decision: Decision) -> Decision {
        let Some(most) = self.settings.line.quarantine_after else { return decision };
        let mut closed = Vec::new();
        for fact in &decision.facts {
            let Fact::Event(event) = fact else { continue };
            let (Event::DeviceFailed { device, .. } | Event::DeviceInterrupted { device, .. }) = event.as_ref() else {
                continue;
            };
            let Some(slot) = &device.slot else { continue };
            let state = self.slots.get(slot).cloned().unwrap_or_default();
            if !state.quarantined && state.failures + 1 >= most {
                closed.push(Event::SlotQuarantined { slot: slot.clone(), failures: state.failures + 1 }.into());
            }
        }
        decision.facts.extend(closed);
        decision
    }

    /// What an event means for the place that it is about.
    pub(super) fn apply_slot_event(&mut self, event: &Event, at: Timestamp) {
        match event {
            Event::DeviceLocated { device: DeviceRef { slot: Some(slot), switch_port: Some(port), .. }, .. } => {
                self.slots.entry(slot.clone()).or_default().port = Some(port.clone());
            }
            Event::DeviceProvisioned { device: DeviceRef { slot: Some(slot), .. }, .. } => {
                let state = self.slots.entry(slot.clone()).or_default();
                state.passed += 1;
                state.failures = 0;
            }
            Event::DeviceFailed { device: DeviceRef { slot: Some(slot), .. }, .. }
            | Event::DeviceInterrupted { device: DeviceRef { slot: Some(slot), .. }, .. } => {
                let state = self.slots.entry(slot.clone()).or_default();
                state.failed += 1;
                state.failures += 1;
            }
            Event::SlotQuarantined { slot, .. } => self.slots.entry(slot.clone()).or_default().quarantined = true,
            Event::SlotReleased { slot, .. } => {
                let state = self.slots.entry(slot.clone()).or_default();
                state.quarantined = false;
                state.failures = 0;
            }
            Event::SlotPowerRequested { slot, .. } => {
                self.slots.entry(slot.clone()).or_default().power = Some(PowerNews { at, pending: true });
            }
            Event::SlotPowered { slot, action, .. } => {
                let state = self.slots.entry(slot.clone()).or_default();
                state.off = *action == PowerAction::Off;
                state.power = Some(PowerNews { at, pending: false });
            }
            Event::SlotPowerFailed { slot, .. } => {
                self.slots.entry(slot.clone()).or_default().power = Some(PowerNews { at, pending: false });
            }
            _ => {}
        }
    }
}
