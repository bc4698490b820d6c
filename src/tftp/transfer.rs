//! One download as a machine (RFC 1350, options RFC 2348, 2349, 7440): packets and moments in, packets out.
//!
//! What bootloaders forced on it: DATA is sent again only after a real timeout (a duplicate hangs `start4.elf` of
//! 2021), an old ACK is never answered, and an ERROR from the client is an ordinary end, for they look whether a file
//! is there by asking for it and hanging up.

#[cfg(test)]
mod tests;

use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::tftp::packet::{Packet, Request};

/// What was agreed on for one download.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Terms {
    block_size: usize,
    window: u16,
    interval: Duration,
    /// The answer to the options asked for; empty if there is nothing to agree on.
    oack: Vec<(String, String)>,
}

/// How a download has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// All of it was sent; the last ACK may have been lost.
    Sent,
    /// The client hung up after one block at most.
    Probed,
    /// The client hung up or vanished in the middle.
    Aborted,
}

pub struct Transfer {
    file: Bytes,
    terms: Terms,
    /// The OACK waits for its ACK, so no DATA has been sent.
    opening: bool,
    /// Blocks acknowledged and sent, counted from 1 without wrapping.
    acked: u64,
    sent: u64,
    total: u64,
    deadline: Instant,
    timeouts: u32,
    end: Option<End>,
}

impl Transfer {
    /// Begins the download; the packets are its first ones.
    pub fn begin(request: &Request, file: Bytes, max_block: usize, now: Instant) -> (Self, Vec<Packet>) {
        let terms = agree(request, file.len(), max_block);
        let mut transfer = Self {
            opening: !terms.oack.is_empty(),
            acked: 0,
            sent: 0,
            // The last block is a short one, or an empty one.
            total: u64::try_from(file.len() / terms.block_size).unwrap_or(u64::MAX).saturating_add(1),
            deadline: now + terms.interval,
            timeouts: 0,
            end: None,
            file,
            terms,
        };
        let first = transfer.again();
        (transfer, first)
    }

    /// Takes a packet of the client.
    pub fn handle(&mut self, packet: &Packet, now: Instant) -> Vec<Packet> {
        match packet {
            _ if self.end.is_some() => Vec::new(),
            Packet::Ack { block } => self.acknowledged(*block, now),
            Packet::Error { .. } => {
                self.end = Some(if self.sent <= 1 { End::Probed } else { End::Aborted });
                Vec::new()
            }
            // Nothing else belongs into a download, and an answer could start a quarrel.
            Packet::Rrq(_) | Packet::Wrq(_) | Packet::Data { .. } | Packet::Oack { .. } => Vec::new(),
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends again what is not acknowledged, or gives up. Does nothing before the deadline.
    pub fn handle_timeout(&mut self, now: Instant) -> Vec<Packet> {
        if now < self.deadline || self.end.is_some() {
            return Vec::new();
        }
        if self.timeouts == RETRIES {
            self.end = Some(if self.sent == self.total { End::Sent } else { End::Aborted });
            return Vec::new();
        }
        self.timeouts += 1;
        self.deadline = now + self.pause();
        self.again()
    }

    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes of the file that the client is known to have.
    pub fn bytes(&self) -> u64 {
        let size = u64::try_from(self.file.len()).unwrap_or(u64::MAX);
        self.acked.saturating_mul(u64::try_from(self.terms.block_size).unwrap_or(u64::MAX)).min(size)
    }

    fn acknowledged(&mut self, block: u16, now: Instant) -> Vec<Packet> {
        if self.opening {
            if block != 0 {
                return Vec::new();
            }
            self.opening = false;
        } else {
            let Some(acked) = self.unwrap(block) else {
                return Vec::new();
            };
            self.acked = acked;
        }
        self.timeouts = 0;
        self.deadline = now + self.terms.interval;
        if self.acked == self.total {
            self.end = Some(End::Sent);
            return Vec::new();
        }
        self.window()
    }

    /// The block that a counter of 16 bits means, if it is one that was sent and not acknowledged yet.
    fn unwrap(&self, block: u16) -> Option<u64> {
        let [.., high, low] = self.acked.to_be_bytes();
        let ahead = u64::from(block.wrapping_sub(u16::from_be_bytes([high, low])));
        (1..=self.sent - self.acked).contains(&ahead).then_some(self.acked + ahead)
    }

    fn again(&mut self) -> Vec<Packet> {
        match self.opening {
            true => vec![Packet::Oack { options: self.terms.oack.clone() }],
            false => self.window(),
        }
    }

    /// The blocks after the last acknowledged one, as many as were agreed on.
    fn window(&mut self) -> Vec<Packet> {
        let last = self.total.min(self.acked + u64::from(self.terms.window));
        self.sent = last;
        (self.acked + 1..=last).map(|number| self.block(number)).collect()
    }

    fn block(&self, number: u64) -> Packet {
        let size = self.terms.block_size;
        let from = usize::try_from(number - 1).unwrap_or(usize::MAX).saturating_mul(size).min(self.file.len());
        let to = from.saturating_add(size).min(self.file.len());
        let [.., high, low] = number.to_be_bytes();
        Packet::Data { block: u16::from_be_bytes([high, low]), data: self.file.slice(from..to) }
    }

    fn pause(&self) -> Duration {
        let longest = LONGEST_PAUSE.max(self.terms.interval);
        self.terms.interval.saturating_mul(1 << self.timeouts.min(16)).min(longest)
    }
}

/// Agrees to what was asked, as it was asked where possible, and offers nothing more.
fn agree(request: &Request, size: usize, max_block: usize) -> Terms {
    let mut terms = Terms { block_size: BLOCK, window: 1, interval: INTERVAL, oack: Vec::new() };
    for (name, value) in &request.options {
        if terms.oack.iter().any(|(known, _)| known == name) {
            continue;
        }
        let asked: Option<u64> = value.parse().ok();
        let agreed = match (name.as_str(), asked) {
            ("tsize", _) => size.to_string(),
            ("blksize", Some(asked @ 8..=65_464)) => {
                terms.block_size = usize::try_from(asked).unwrap_or(BLOCK).min(max_block.max(BLOCK));
                terms.block_size.to_string()
            }
            ("timeout", Some(asked @ 1..=10)) => {
                terms.interval = Duration::from_secs(asked);
                value.clone()
            }
            ("windowsize", Some(asked @ 1..=65_535)) => {
                terms.window = u16::try_from(asked).unwrap_or(u16::MAX).min(MAX_WINDOW);
                terms.window.to_string()
            }
            _ => continue,
        };
        terms.oack.push((name.clone(), agreed));
    }
    terms
}

/// Without `blksize`.
const BLOCK: usize = 512;
const MAX_WINDOW: u16 = 32;
/// Below a second a slow board would be sent duplicates.
const INTERVAL: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// 1 + 2 + 4 + 8 + 8 + 8 seconds without a sign of life: as long as a bootloader gives a whole file.
const RETRIES: u32 = 5;
