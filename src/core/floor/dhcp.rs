//! Who gets an address: boot clients with something to do, their Linux stage always, nobody else unless told otherwise.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::core::device::{BootIdentity, Mac};
use crate::core::event::{DeviceRef, Event, Via};
use crate::core::floor::{Decision, Fact, Floor, Note};
use crate::core::observation::{DhcpAsk, DhcpKind};
use crate::core::rule::Known;
use crate::core::time::Timestamp;
use crate::core::view::{Answer, DhcpVerdict, Lease};

/// A DISCOVER so long after the last one is a new boot.
pub(super) const NEW_BOOT: Duration = Duration::from_secs(60);

impl Floor {
    pub(super) fn dhcp_asked(&self, ask: &DhcpAsk, now: Timestamp) -> Decision {
        let mut facts = self.boot_noted(ask, now);
        let boots = facts.iter().any(|fact| matches!(fact, Fact::Event(_)));
        let verdict = match self.serves(ask, &mut facts, now) {
            true => self.verdict(ask, &mut facts, now),
            false => DhcpVerdict::Silent,
        };
        facts.extend(self.dhcp_moment(ask, verdict, boots, now));
        Decision { facts, answer: Answer::Dhcp(verdict) }
    }

    /// A DISCOVER with option 97 is a sight of a device, perhaps the first in this boot.
    fn boot_noted(&self, ask: &DhcpAsk, now: Timestamp) -> Vec<Fact> {
        let Some(identity) = ask.identity.filter(|_| ask.kind == DhcpKind::Discover) else {
            return Vec::new();
        };
        let mut facts = Vec::new();
        let known = self.devices.get(&ask.mac);
        let last = known.and_then(|device| device.discover_at);
        let new_boot = last.is_none_or(|at| now.since(at) >= NEW_BOOT) || known.is_some_and(|device| device.reported);
        if new_boot {
            let address = match ask.proxy {
                true => self.addresses.address_of(ask.mac),
                false => self.addresses.choose(ask.mac, now),
            };
            let mut seen = self.discovered(ask.mac, Some(identity), Via::Dhcp, address);
            if let Event::DeviceDiscovered { device, .. } = &mut seen {
                device.circuit.clone_from(&ask.circuit);
            }
            facts.push(seen.into());
        }
        facts.extend(self.booted_as_known(ask.mac, identity.serial8));
        facts.push(Note::BootSeen { mac: ask.mac, identity, circuit: ask.circuit.clone() }.into());
        facts
    }

    pub(super) fn discovered(
        &self,
        mac: Mac,
        identity: Option<BootIdentity>,
        via: Via,
        address: Option<Ipv4Addr>,
    ) -> Event {
        let reference = self.reference(mac);
        let revision = identity.and_then(|identity| identity.revision);
        let serial8 = identity.and_then(|identity| identity.serial8).or(reference.serial8);
        Event::DeviceDiscovered {
            device: DeviceRef { serial8, ..reference },
            via,
            revision,
            model: revision.and_then(|revision| revision.board()).map(str::to_owned),
            memory_mb: revision.and_then(|revision| revision.memory_mb()),
            address,
        }
    }

    /// A bootloader is served while there may be something to do for it; the Linux stage of a known device always.
    fn serves(&self, ask: &DhcpAsk, facts: &mut Vec<Fact>, now: Timestamp) -> bool {
        let known = self.devices.contains_key(&ask.mac);
        if ask.identity.is_none() {
            return known || ask.anyone;
        }
        if ask.kind != DhcpKind::Discover {
            // It was offered an address a moment ago: it may take it, whatever has changed since.
            return known;
        }
        let known = self.known(ask.mac);
        let serial8 = ask.identity.and_then(|identity| identity.serial8).or(known.serial8);
        // The switch says at each boot where the cable is now.
        let known = Known { serial8, circuit: ask.circuit.clone(), ..known };
        let known = known.with_revision(ask.identity.and_then(|identity| identity.revision));
        match self.may_start(&known).and_then(|_| self.taking()) {
            Ok(()) => true,
            Err(refusal) => {
                let mut device = self.reference(ask.mac);
                device.serial8 = ask.identity.and_then(|identity| identity.serial8).or(device.serial8);
                device.circuit.clone_from(&ask.circuit);
                facts.extend(self.refused(device, &refusal, now));
                false
            }
        }
    }

    fn verdict(&self, ask: &DhcpAsk, facts: &mut Vec<Fact>, now: Timestamp) -> DhcpVerdict {
        if ask.kind == DhcpKind::BootServer {
            return Self::boot_server(ask);
        }
        if ask.proxy {
            return self.beside(ask, facts, now);
        }
        let time = self.addresses.lease_time();
        match ask.kind {
            DhcpKind::Inform | DhcpKind::BootServer => DhcpVerdict::OptionsOnly,
            DhcpKind::Discover => match self.addresses.choose(ask.mac, now) {
                Some(address) => self.leased(ask.mac, address, facts, now),
                None => {
                    facts.extend(self.pool_exhausted());
                    DhcpVerdict::Silent
                }
            },
            DhcpKind::Request => match ask.requested {
                Some(address) if self.addresses.may_have(ask.mac, address, now) => {
                    self.leased(ask.mac, address, facts, now)
                }
                Some(_) => DhcpVerdict::Nak,
                None => self
                    .addresses
                    .address_of(ask.mac)
                    .map_or(DhcpVerdict::Silent, |address| DhcpVerdict::Lease(Lease { address, time })),
            },
        }
    }

    /// A Raspberry Pi has its answer at the usual port and never asks here.
    const fn boot_server(ask: &DhcpAsk) -> DhcpVerdict {
        match ask.anyone && ask.identity.is_none() {
            true => DhcpVerdict::BootServer,
            false => DhcpVerdict::Silent,
        }
    }

    /// Another server gives the addresses. Which one it gave is kept, so that a download is known by its device.
    fn beside(&self, ask: &DhcpAsk, facts: &mut Vec<Fact>, now: Timestamp) -> DhcpVerdict {
        match (ask.kind, ask.requested) {
            (DhcpKind::Discover, _) => DhcpVerdict::Proxy,
            (DhcpKind::Request, Some(address)) => {
                self.leased(ask.mac, address, facts, now);
                DhcpVerdict::Silent
            }
            (DhcpKind::Request | DhcpKind::Inform | DhcpKind::BootServer, _) => DhcpVerdict::Silent,
        }
    }

    /// Promised is given: the boot ROM of Pi 3 never sends a REQUEST, so the offer already binds.
    fn leased(&self, mac: Mac, address: Ipv4Addr, facts: &mut Vec<Fact>, now: Timestamp) -> DhcpVerdict {
        let time = self.addresses.lease_time();
        if !self.addresses.is_fresh(mac, address, now) {
            facts.push(Note::Leased { mac, address, until: now.plus(time) }.into());
        }
        DhcpVerdict::Lease(Lease { address, time })
    }

    pub(super) fn dhcp_released(&self, mac: Mac, address: Ipv4Addr) -> Decision {
        match self.addresses.mac_of(address) == Some(mac) {
            true => Decision::noted(vec![Note::Released { mac, address }.into()]),
            false => Decision::noted(Vec::new()),
        }
    }
}
