//! What goes into a device's timeline, and which of it is a warning.

use std::net::Ipv4Addr;

use crate::core::boot::{Boot, Fetched};
use crate::core::device::Mac;
use crate::core::event::Via;
use crate::core::floor::device::Console;
use crate::core::floor::dhcp::NEW_BOOT;
use crate::core::floor::{Fact, Floor, Note};
use crate::core::observation::{ConsoleLine, DhcpAsk, DhcpKind, FileResult, FileServed};
use crate::core::plan::SessionId;
use crate::core::time::Timestamp;
use crate::core::timeline::{Moment, What};
use crate::core::view::DhcpVerdict;

/// start4.elf of some years ignores a `config.txt` beyond 4096 bytes (raspberrypi/firmware#1012).
const CONFIG_LIMIT: u64 = 4096;
/// Warnings that one boot can collect; a board in a loop says the same again and again.
const MOST_WARNINGS: usize = 16;
/// Lines of a bootloader's text in one boot: a board in a loop must not push its earlier boots out of the timeline.
const MOST_LINES: u32 = 1000;

impl Floor {
    /// The boot files of an address; strangers have no timeline.
    pub(super) fn boot_files(&self, address: Ipv4Addr, files: &[FileServed]) -> Vec<Fact> {
        let Some(mac) = self.addresses.mac_of(address) else { return Vec::new() };
        let moments = files.iter().map(Moment::from).collect();
        let mut facts =
            vec![Note::Timeline { mac, moments }.into(), Note::Fetched { mac, files: Fetched::of(files) }.into()];
        let session = self.devices.get(&mac).and_then(|device| device.open_session);
        for file in files.iter().filter(|file| file.result == FileResult::Aborted) {
            // To the bootloader such a file does not exist: it goes on without it, with another kernel for example.
            let text = format!("boot file {} was cut off after {} bytes", file.name, file.bytes);
            facts.push(Note::BootWarned { mac, session, text }.into());
        }
        let long = |file: &&FileServed| file.result == FileResult::Sent && file.bytes >= CONFIG_LIMIT;
        for file in files.iter().filter(|file| file.name.rsplit('/').next() == Some("config.txt")).filter(long) {
            let text = format!("{} has {} bytes; firmware may ignore it from {CONFIG_LIMIT} on", file.name, file.bytes);
            facts.push(Note::BootWarned { mac, session, text }.into());
        }
        facts
    }

    /// The bootloader's text. It comes before the first DHCP packet of a boot, so a device that was never seen says its
    /// first lines to nobody.
    pub(super) fn console_text(&self, mac: Mac, lines: &[ConsoleLine], now: Timestamp) -> Vec<Fact> {
        let Some(device) = self.devices.get(&mac) else { return Vec::new() };
        // After a long silence it is another boot, whether or not it asks this station for an address.
        let so_far = device.console.filter(|console| now.since(console.heard_at) < NEW_BOOT);
        let so_far = so_far.map_or(0, |console| console.lines);
        let room = usize::try_from(MOST_LINES.saturating_sub(so_far)).unwrap_or(0);
        let mut moments: Vec<Moment> =
            lines.iter().take(room).map(|line| Moment::new(line.at, What::Console, line.text.clone(), "")).collect();
        let dropped = lines.get(room).filter(|_| so_far <= MOST_LINES);
        moments.extend(dropped.map(|line| {
            let text = format!("{MOST_LINES} lines of this boot are kept");
            Moment::new(line.at, What::Console, text, "the rest is dropped")
        }));
        let lines = u32::try_from(lines.len()).unwrap_or(u32::MAX).saturating_add(so_far);
        let heard = Note::ConsoleHeard { mac, lines: lines.min(MOST_LINES + 1) }.into();
        match moments.is_empty() {
            true => vec![heard],
            false => vec![Note::Timeline { mac, moments }.into(), heard],
        }
    }

    pub(super) fn console_heard(&mut self, mac: Mac, lines: u32, at: Timestamp) {
        if let Some(device) = self.devices.get_mut(&mac) {
            device.console = Some(Console { lines, heard_at: at });
        }
    }

    pub(super) fn fetched(&mut self, mac: Mac, files: Fetched) {
        if let Some(boot) = self.devices.get_mut(&mac).and_then(|device| device.boot.as_mut()) {
            boot.files = boot.files.plus(files);
        }
    }

    /// The boot that leads to a session which begins now. A second session of the same boot tells nothing of it, and
    /// neither does one after a boot beside another DHCP server, which was not seen.
    pub(super) fn boot_of(&self, mac: Mac, now: Timestamp) -> Option<Boot> {
        let seen = match self.devices.get(&mac) {
            Some(device) => device.boot.clone().filter(|boot| boot.duration_ms.is_none())?,
            None => Boot::new(Via::Script, now, None),
        };
        let duration = now.since(seen.discovered_at).as_millis();
        let address = self.addresses.address_of(mac).or(seen.address);
        Some(Boot { address, duration_ms: Some(u64::try_from(duration).unwrap_or(u64::MAX)), ..seen })
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
