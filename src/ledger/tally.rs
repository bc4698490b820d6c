//! What has come through the neck since the start, by kind: devices talk in three protocols, and each tells here.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::core::observation::{DhcpKind, FileResult, FileServed, Input, Observation};

/// Counts that only rise.
#[derive(Debug, Default)]
pub struct Tally {
    dhcp: [AtomicU64; DHCP.len()],
    files: [AtomicU64; FILES.len()],
    file_bytes: AtomicU64,
}

const DHCP: [&str; 6] = ["discover", "request", "inform", "boot_server", "release", "decline"];
const FILES: [FileResult; 4] = [FileResult::Sent, FileResult::Missing, FileResult::Probed, FileResult::Aborted];

impl Tally {
    pub fn count(&self, input: &Input) {
        let Input::Observed(observation) = input else { return };
        match observation {
            Observation::Dhcp(ask) => self.dhcp(match ask.kind {
                DhcpKind::Discover => 0,
                DhcpKind::Request => 1,
                DhcpKind::Inform => 2,
                DhcpKind::BootServer => 3,
            }),
            Observation::DhcpReleased { .. } => self.dhcp(4),
            Observation::DhcpDeclined { .. } => self.dhcp(5),
            Observation::BootFiles { files, .. } => files.iter().for_each(|file| self.file(file)),
            _ => {}
        }
    }

    fn dhcp(&self, kind: usize) {
        self.dhcp[kind].fetch_add(1, Ordering::Relaxed);
    }

    fn file(&self, file: &FileServed) {
        for (result, count) in FILES.iter().zip(&self.files) {
            if *result == file.result {
                count.fetch_add(1, Ordering::Relaxed);
            }
        }
        self.file_bytes.fetch_add(file.bytes, Ordering::Relaxed);
    }

    /// Messages of clients, by kind.
    pub fn dhcp_messages(&self) -> impl Iterator<Item = (&'static str, u64)> {
        DHCP.into_iter().zip(self.dhcp.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    /// Boot files, by how they went.
    pub fn boot_files(&self) -> impl Iterator<Item = (&'static str, u64)> {
        FILES.iter().map(|result| result.as_str()).zip(self.files.iter().map(|count| count.load(Ordering::Relaxed)))
    }

    pub fn boot_file_bytes(&self) -> u64 {
        self.file_bytes.load(Ordering::Relaxed)
    }
}
