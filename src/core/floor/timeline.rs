//! What goes into a device's timeline, and which of it is a warning.

use std::net::Ipv4Addr;

use crate::core::device::Mac;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::observation::{DhcpAsk, DhcpKind, FileResult, FileServed};
use crate::core::plan::SessionId;
use crate::core::time::Timestamp;
use crate::core::timeline::{Moment, What};
use crate::core::view::DhcpVerdict;

/// Warnings that one boot can collect; a board in a loop says the same again and again.
const MOST_WARNINGS: usize = 16;

impl Floor {
    /// The boot files of an address; strangers have no timeline.
    pub(super) fn boot_files(&self, address: Ipv4Addr, files: &[FileServed]) -> Vec<Fact> {
        let Some(mac) = self.addresses.mac_of(address) else { return Vec::new() };
        let mut facts = vec![Note::Timeline { mac, moments: files.iter().map(Moment::from).collect() }.into()];
        let session = self.devices.get(&mac).and_then(|device| device.open_session);
        for file in files.iter().filter(|file| file.result == FileResult::Aborted) {
            // To the bootloader such a file does not exist: it goes on without it, with another kernel for example.
            let text = format!("boot file {} was cut off after {} bytes", file.name, file.bytes);
            facts.push(Note::BootWarned { mac, session, text }.into());
        }
        facts
    }

    /// Only of boot clients and known devices: whoever else asks for an address leaves no row.
    pub(super) fn dhcp_moment(&self, ask: &DhcpAsk, verdict: DhcpVerdict, boots: bool, now: Timestamp) -> Option<Fact> {
        if ask.identity.is_none() && !self.devices.contains_key(&ask.mac) {
            return None;
        }
        let (name, answer) = match ask.kind {
            DhcpKind::Discover => ("discover", "offer"),
            DhcpKind::Request => ("request", "ack"),
            DhcpKind::Inform => ("inform", "ack"),
            DhcpKind::BootServer => ("boot server", "ack"),
        };
        let result = match verdict {
            DhcpVerdict::Silent => "silent".to_owned(),
            DhcpVerdict::Lease(lease) => format!("{answer} {}", lease.address),
            DhcpVerdict::Proxy => "proxy offer".to_owned(),
            DhcpVerdict::Nak => "nak".to_owned(),
            DhcpVerdict::OptionsOnly | DhcpVerdict::BootServer => answer.to_owned(),
        };
        let boot = boots.then(|| Moment::new(now, What::Boot, "dhcp", ""));
        let moments = boot.into_iter().chain([Moment::new(now, What::Dhcp, name, result)]).collect();
        Some(Note::Timeline { mac: ask.mac, moments }.into())
    }

    pub(super) fn script_moment(mac: Mac, result: &str, now: Timestamp) -> Fact {
        Note::Timeline { mac, moments: vec![Moment::new(now, What::Script, "scriptexecute", result)] }.into()
    }

    pub(super) fn warned(&mut self, mac: Mac, session: Option<SessionId>, text: &str) {
        let note = |warnings: &mut Vec<String>| {
            if warnings.len() < MOST_WARNINGS && !warnings.iter().any(|known| known == text) {
                warnings.push(text.to_owned());
            }
        };
        if let Some(device) = self.devices.get_mut(&mac) {
            note(&mut device.boot_warnings);
        }
        if let Some(session) = session.and_then(|id| self.sessions.get_mut(&id)) {
            note(&mut session.warnings);
        }
    }
}
