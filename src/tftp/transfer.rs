//! One download as a machine (RFC 1350, options RFC 2347, 2348, 2349, 7440): packets and moments in, packets out.
//!
//! What bootloaders forced on it: DATA is sent again only after a real timeout (a duplicate hangs `start4.elf` of
//! 2021), an old ACK is never answered, and an ERROR from the client is an ordinary end, for they look whether a file
//! is there by asking for it and hanging up. Windows, which no bootloader of a Pi asks for, are less strict: see
//! `window_is_lost`.

#[cfg(test)]
mod tests;

use std::ops::RangeInclusive;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::tftp::burst::Burst;
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
    /// The client hung up before it acknowledged a block.
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
    /// Up to here blocks were sent more than once, so that an ACK may come more than once too.
    repeated: Option<u64>,
    total: u64,
    deadline: Instant,
    timeouts: u32,
    end: Option<End>,
}

impl Transfer {
    /// Begins the download; `first` has its first packets.
    pub fn begin(request: &Request, file: Bytes, max_block: usize, now: Instant) -> Self {
        let terms = agree(request, file.len(), max_block);
        Self {
            opening: !terms.oack.is_empty(),
            acked: 0,
            sent: 0,
            repeated: None,
            // The last block is a short one, or an empty one.
            total: u64::try_from(file.len() / terms.block_size).unwrap_or(u64::MAX).saturating_add(1),
            deadline: now + terms.interval,
            timeouts: 0,
            end: None,
            file,
            terms,
        }
    }

    pub fn first(&mut self, out: &mut Burst) {
        out.clear();
        self.speak(out);
    }

    /// Takes a packet of the client. Afterwards `out` holds what to send, perhaps nothing.
    pub fn handle(&mut self, packet: &Packet, now: Instant, out: &mut Burst) {
        out.clear();
        match packet {
            _ if self.end.is_some() => {}
            Packet::Ack { block } => self.acknowledged(*block, now, out),
            Packet::Error { .. } => self.end = Some(if self.acked == 0 { End::Probed } else { End::Aborted }),
            // Nothing else belongs into a download, and an answer could start a quarrel.
            Packet::Rrq(_) | Packet::Wrq(_) | Packet::Data { .. } | Packet::Oack { .. } => {}
        }
    }

    /// When `handle_timeout` wants to be called.
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Sends again what is not acknowledged, or gives up. Does nothing before the deadline.
    pub fn handle_timeout(&mut self, now: Instant, out: &mut Burst) {
        out.clear();
        if now < self.deadline || self.end.is_some() {
            return;
        }
        if self.timeouts == RETRIES {
            self.end = Some(if self.sent == self.total { End::Sent } else { End::Aborted });
            return;
        }
        self.timeouts += 1;
        self.deadline = now + self.pause();
        self.speak(out);
    }

    pub fn end(&self) -> Option<End> {
        self.end
    }

    /// Bytes of the file that the client is known to have.
    pub fn bytes(&self) -> u64 {
        let size = u64::try_from(self.file.len()).unwrap_or(u64::MAX);
        let block = u64::try_from(self.terms.block_size).unwrap_or(u64::MAX);
        self.acked.saturating_mul(block).min(size)
    }

    /// The client had begun, and then was silent for an interval. If it asks for the file anew now, it was restarted.
    pub fn is_forsaken(&self) -> bool {
        let begun = if self.terms.oack.is_empty() { self.acked > 0 } else { !self.opening };
        begun && self.timeouts > 0
    }

    /// Length of the packets of a window, if windows of more than one block were agreed on.
    pub fn segment(&self) -> Option<usize> {
        (self.terms.window > 1).then_some(self.terms.block_size + HEADER)
    }

    fn acknowledged(&mut self, block: u16, now: Instant, out: &mut Burst) {
        if self.opening {
            if block != 0 {
                return;
            }
            self.opening = false;
        } else {
            match self.ahead(block) {
                Some(0) if self.window_is_lost() => {}
                Some(ahead @ 1..) => self.acked += ahead,
                Some(0) | None => return,
            }
        }
        self.timeouts = 0;
        self.deadline = now + self.terms.interval;
        if self.acked == self.total {
            self.end = Some(End::Sent);
            return;
        }
        self.window(out);
    }

    /// How many more blocks a counter of 16 bits acknowledges, if it is one that was sent.
    fn ahead(&self, block: u16) -> Option<u64> {
        let ahead = u64::from(block.wrapping_sub(low(self.acked)));
        (ahead <= self.sent - self.acked).then_some(ahead)
    }

    /// What the last acknowledged block, acknowledged once more, means: that the first block of the window was lost
    /// (RFC 7440 section 4). With one block at a time it would be the Sorcerer's Apprentice (RFC 1123 section 4.2.3.1).
    /// So it would be when blocks were sent twice, which a client acknowledges twice.
    fn window_is_lost(&self) -> bool {
        self.terms.window > 1 && self.repeated.is_none_or(|repeated| self.acked > repeated)
    }

    /// What is not acknowledged yet.
    fn speak(&mut self, out: &mut Burst) {
        if self.opening {
            if self.timeouts > 0 {
                self.repeated = Some(0);
            }
            out.set(&Packet::Oack { options: self.terms.oack.clone() });
        } else {
            self.window(out);
        }
    }

    /// The blocks after the last acknowledged one, as many as were agreed on.
    fn window(&mut self, out: &mut Burst) {
        if self.sent > self.acked {
            self.repeated = Some(self.sent);
        }
        self.sent = self.total.min(self.acked + u64::from(self.terms.window));
        for number in self.acked + 1..=self.sent {
            out.push_data(low(number), self.block(number));
        }
    }

    fn block(&self, number: u64) -> &[u8] {
        let size = self.terms.block_size;
        let from = usize::try_from(number - 1).unwrap_or(usize::MAX).saturating_mul(size).min(self.file.len());
        let to = from.saturating_add(size).min(self.file.len());
        &self.file[from..to]
    }

    fn pause(&self) -> Duration {
        let longest = LONGEST_PAUSE.max(self.terms.interval);
        self.terms.interval.saturating_mul(1 << self.timeouts.min(16)).min(longest)
    }
}

/// Agrees to what was asked and offers nothing more. What is agreed to as asked is said as it was asked, digit by digit:
/// there are clients that take another text for another value.
fn agree(request: &Request, size: usize, max_block: usize) -> Terms {
    let asked = |name: &str, range: RangeInclusive<usize>| {
        let values = request.options.iter().filter(|(known, _)| known == name);
        values.filter_map(|(_, value)| number(value)).find(|asked| range.contains(asked))
    };
    let block_size = asked("blksize", SMALLEST_BLOCK..=65_464).map(|asked| asked.min(max_block.max(SMALLEST_BLOCK)));
    let block = block_size.unwrap_or(BLOCK);
    let window =
        asked("windowsize", 1..=65_535).map(|asked| asked.min(MAX_WINDOW).min((MAX_BURST / (block + HEADER)).max(1)));
    let timeout = asked("timeout", 1..=LONGEST_INTERVAL);
    let mut oack: Vec<(String, String)> = Vec::new();
    for (name, value) in &request.options {
        let agreed = match name.as_str() {
            _ if oack.iter().any(|(known, _)| known == name) => None,
            "tsize" => Some(size),
            "blksize" => block_size,
            "windowsize" => window,
            "timeout" => timeout,
            _ => None,
        };
        if let Some(agreed) = agreed {
            let text = if number(value) == Some(agreed) { value.clone() } else { agreed.to_string() };
            oack.push((name.clone(), text));
        }
    }
    Terms {
        block_size: block,
        window: window.and_then(|window| u16::try_from(window).ok()).unwrap_or(1),
        interval: timeout.and_then(|seconds| u64::try_from(seconds).ok()).map_or(INTERVAL, Duration::from_secs),
        oack,
    }
}

/// Decimal digits and nothing else.
fn number(text: &str) -> Option<usize> {
    text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
}

fn low(number: u64) -> u16 {
    let [.., high, low] = number.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// Opcode and number of a DATA packet.
const HEADER: usize = 4;
/// Without `blksize`.
const BLOCK: usize = 512;
/// RFC 2348.
const SMALLEST_BLOCK: usize = 8;
const MAX_WINDOW: usize = 32;
/// A window leaves as one datagram that the kernel cuts, and such a datagram has an end.
const MAX_BURST: usize = 65_000;
/// Below a second a slow board would be sent duplicates.
const INTERVAL: Duration = Duration::from_secs(1);
/// In seconds. Somebody who asks for minutes does not get to hold a download that long.
const LONGEST_INTERVAL: usize = 10;
const LONGEST_PAUSE: Duration = Duration::from_secs(8);
/// 1 + 2 + 4 + 8 + 8 + 8 seconds without a sign of life: as long as a bootloader gives a whole file.
const RETRIES: u32 = 5;
