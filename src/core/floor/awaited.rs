//! Devices that are to ask for their script, and the power of those that do not: it is cycled unasked, a few times, where
//! the configuration says so.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::core::event::{Event, Via};
use crate::core::floor::device::{Device, REFUSAL_PAUSE};
use crate::core::floor::power::{LOST, PowerWish, leaves_eeprom_open};
use crate::core::floor::{Decision, Fact, Floor};
use crate::core::session::Session;
use crate::core::slot::{AutomaticCycle, Awaited, PowerAction, PowerReason, SlotName, SwitchPort};
use crate::core::time::Timestamp;

/// Who asks where nobody does.
const BY: &str = "bootline";
/// Whoever was not seen for so long was taken away; the floor forgets him as well.
pub const GONE: Duration = Duration::from_secs(3600);
/// So long after its start it may still turn out in which place a session is.
const UNPLACED: Duration = Duration::from_secs(60);

impl Floor {
    /// A device that the tables know to be awaited. The station was away, not the device: its time begins anew.
    pub fn learn_awaited(&mut self, mut device: Device, now: Timestamp) {
        if let Some((since, _)) = &mut device.awaited.since {
            *since = now;
        }
        self.learn_device(device);
    }

    /// Cycles for devices that should have asked for their script by now, and an alarm where those did not help. One a
    /// switch and second, so that not all of a line draw their first current at once.
    pub(super) fn power_cycles(&self, now: Timestamp) -> Vec<Fact> {
        let Some(limits) = self.settings.line.automatic else { return Vec::new() };
        let mut late: Vec<(&Device, Timestamp, PowerReason)> = self
            .devices
            .values()
            .filter(|device| device.open_session.is_none() && now.since(device.seen_at) < GONE)
            .filter_map(|device| device.awaited.since.map(|(since, reason)| (device, since, reason)))
            .filter(|(_, since, _)| now.since(*since) >= limits.after)
            .collect();
        late.sort_by_key(|(device, since, _)| (*since, device.mac));
        let mut asked = BTreeSet::new();
        let mut facts = Vec::new();
        for (device, since, reason) in late {
            let Some((slot, port)) = self.cycled_at(device, limits, now) else { continue };
            if asked.contains(&port.switch) || !self.is_still_there(device, &slot, since, now) {
                continue;
            }
            if device.awaited.cycles >= limits.times {
                facts.extend(self.alarm(&alarm_of(&slot), &in_vain(device, &slot)));
                continue;
            }
            asked.insert(port.switch.clone());
            let (action, device) = (PowerAction::Cycle, Some(device.mac));
            facts.push(PowerWish { slot: &slot, action, device, by: BY, reason: Some(reason) }.at(port).into());
        }
        facts
    }

    /// Where the power of a device may be cycled unasked by now.
    fn cycled_at(&self, device: &Device, limits: AutomaticCycle, now: Timestamp) -> Option<(SlotName, SwitchPort)> {
        let slot = self.slot_of(device.mac, None)?;
        let state = self.slots.get(&slot).cloned().unwrap_or_default();
        if state.off || state.quarantined {
            return None;
        }
        if let Some(news) = state.power {
            // A device that was just given power has its time before it, whoever gave it.
            let wait = limits.after.max(limits.pause);
            let wait = if news.pending { wait.max(LOST) } else { wait };
            if now.since(news.at) < wait {
                return None;
            }
        }
        let port = self.power_port(&slot).ok()?;
        // What would be refused anyway needs no new start.
        self.may_start(&self.known(device.mac)).and_then(|_| self.taking()).ok()?;
        Some((slot, port))
    }

    /// Nobody else was seen in its place since: another module may be at work there.
    fn is_still_there(&self, device: &Device, slot: &SlotName, since: Timestamp, now: Timestamp) -> bool {
        let taken = |session: &Session| match &session.slot {
            Some(place) => place == slot && (session.is_open() || session.started_at >= since),
            None => session.is_open() && now.since(session.started_at) < UNPLACED,
        };
        let replaced = |other: &Device| {
            other.last_boot() > device.last_boot() && self.slot_of(other.mac, None).as_ref() == Some(slot)
        };
        let mac = device.mac;
        !self.sessions.values().any(|session| session.mac != mac && taken(session))
            && !self.devices.values().any(|other| other.mac != mac && replaced(other))
    }

    /// Where a device has its script, the place is in order again.
    pub(super) fn with_recoveries(&self, mut decision: Decision) -> Decision {
        let mut recovered = Vec::new();
        for fact in &decision.facts {
            let Fact::Event(event) = fact else { continue };
            let (Event::DeviceStarted { device, .. } | Event::DeviceLocated { device, .. }) = event.as_ref() else {
                continue;
            };
            if let (Some(slot), Some(_)) = (&device.slot, device.session) {
                recovered.extend(self.cleared(&alarm_of(slot)));
            }
        }
        decision.facts.extend(recovered);
        decision
    }

    /// What an event means for the waiting. Where power is never cycled unasked, nobody waits.
    pub(super) fn apply_awaited(&mut self, event: &Event, at: Timestamp) {
        let Some(limits) = self.settings.line.automatic else { return };
        if let Event::SlotPowerRequested {
            device: Some(mac),
            reason: Some(PowerReason::Stuck | PowerReason::Retry),
            ..
        } = event
        {
            if let Some(device) = self.devices.get_mut(mac) {
                device.awaited.cycles += 1;
            }
            return;
        }
        let Some(reference) = event.device() else { return };
        let session = reference.session.and_then(|id| self.sessions.get(&id));
        let risky = session.is_none_or(leaves_eeprom_open);
        let Some(device) = self.devices.get_mut(&reference.mac) else { return };
        device.awaited.since = match event {
            // Its first packet may be its script's, which is told next.
            Event::DeviceDiscovered { via: Via::Script, .. } => return,
            Event::DeviceDiscovered { .. } => device.boots_since(limits, at).map(|since| (since, PowerReason::Stuck)),
            Event::DeviceFailed { retryable: true, .. } | Event::DeviceInterrupted { retryable: true, .. }
                if !risky =>
            {
                Some((at, PowerReason::Retry))
            }
            Event::DeviceStarted { .. } => {
                device.awaited = Awaited::default();
                None
            }
            Event::DeviceRefused { .. }
            | Event::DeviceFailed { .. }
            | Event::DeviceInterrupted { .. }
            | Event::DeviceProvisioned { .. }
            | Event::DeviceAborted { .. } => None,
            _ => return,
        };
    }
}

impl Device {
    /// Since when it boots, and boots again, without getting to its script. Nothing where it was refused lately: that is
    /// not said again in its next boot.
    fn boots_since(&self, limits: AutomaticCycle, at: Timestamp) -> Option<Timestamp> {
        if self.refused.values().any(|said| at.since(*said) < REFUSAL_PAUSE) {
            return None;
        }
        let before = self.awaited.since.map(|(since, _)| since);
        // One that was away meanwhile begins anew.
        let again = self.discover_at.is_some_and(|last| at.since(last) < limits.after);
        Some(before.filter(|_| again).unwrap_or(at))
    }

    fn last_boot(&self) -> Option<Timestamp> {
        self.boot.as_ref().map(|boot| boot.discovered_at).max(self.discover_at)
    }
}

fn alarm_of(slot: &SlotName) -> String {
    format!("slot.{slot}")
}

fn in_vain(device: &Device, slot: &SlotName) -> String {
    let cycles = device.awaited.cycles;
    let times = if cycles == 1 { "once".to_owned() } else { format!("{cycles} times") };
    format!(
        "device {} in slot {slot} does not ask for its script, though its power was cycled {times}; look at the module, its boot order, its cable and the socket",
        device.mac
    )
}
