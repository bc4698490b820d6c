//! Packets for one client, one behind the other in a buffer that is kept: a window of DATA leaves in one system call,
//! and no packet costs an allocation.

use crate::tftp::packet::{Packet, encode_data};

#[derive(Debug, Default)]
pub struct Burst {
    bytes: Vec<u8>,
    /// Where to cut: every packet but the last is this long.
    segment: usize,
}

impl Burst {
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// One packet, or none.
    pub fn is_single(&self) -> bool {
        self.bytes.len() <= self.segment
    }

    /// All packets without a gap, for a kernel that cuts them itself.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub fn packets(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.segment.max(1))
    }

    /// This packet alone.
    pub fn set(&mut self, packet: &Packet) {
        packet.encode_into(&mut self.bytes);
        self.segment = self.bytes.len();
    }

    /// One more block; only the last may be shorter than the first.
    pub fn push_data(&mut self, block: u16, data: &[u8]) {
        let before = self.bytes.len();
        encode_data(&mut self.bytes, block, data);
        if before == 0 {
            self.segment = self.bytes.len();
        }
    }
}
