//! One download: a port of its own, and what drives the machine.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Instant;

use bytes::Bytes;
use nix::errno::Errno;
use tracing::debug;

use crate::tftp::burst::Burst;
use crate::tftp::desk::Desk;
use crate::tftp::line::Line;
use crate::tftp::packet::{Packet, Request, code};
use crate::tftp::transfer::{End, Transfer};

/// A file that somebody asked for, read and ready.
pub struct Order {
    pub peer: SocketAddr,
    pub request: Request,
    pub file: Bytes,
}

/// Buffers and knowledge that all downloads of a thread share.
pub struct Tray {
    pub burst: Burst,
    heard: [u8; LONGEST_REPLY],
    /// The kernel cuts a window into packets (UDP GSO, Linux 4.18). False after it refused once.
    cuts: bool,
}

impl Default for Tray {
    fn default() -> Self {
        Self { burst: Burst::default(), heard: [0; LONGEST_REPLY], cuts: true }
    }
}

pub struct Download {
    line: Line,
    peer: SocketAddr,
    file: String,
    transfer: Transfer,
    /// When its thread looks at it; not after the machine's deadline.
    pub alarm: Instant,
}

impl Download {
    /// Sends the first packet.
    pub fn begin(order: Order, desk: &Desk, tray: &mut Tray) -> io::Result<Self> {
        let Order { peer, request, file } = order;
        let line = desk.line(peer)?;
        let transfer = Transfer::begin(&request, file, desk.max_block, Instant::now());
        if let Some(segment) = transfer.segment().and_then(|segment| i32::try_from(segment).ok()).filter(|_| tray.cuts)
        {
            tray.cuts = line.cut(segment);
        }
        let alarm = transfer.deadline();
        let mut download = Self { line, peer, file: request.file, transfer, alarm };
        download.transfer.first(&mut tray.burst);
        download.send(tray);
        Ok(download)
    }

    pub const fn peer(&self) -> SocketAddr {
        self.peer
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    /// The client had begun and then fell silent. When it asks anew, it has been restarted.
    pub fn is_forsaken(&self) -> bool {
        self.transfer.is_forsaken()
    }

    pub fn end(&self) -> Option<End> {
        self.transfer.end()
    }

    pub fn bytes(&self) -> u64 {
        self.transfer.bytes()
    }

    pub fn deadline(&self) -> Instant {
        self.transfer.deadline()
    }

    /// Takes one packet from the socket and answers it.
    pub fn hear(&mut self, tray: &mut Tray) -> io::Result<()> {
        let len = match self.line.receive(&mut tray.heard) {
            Ok(len) => len,
            // A cable pulled, a client that has shut its port: the timer decides how long to go on.
            Err(error) if is_passing(&error) => {
                debug!(peer = %self.peer, %error, "tftp packet is lost");
                return Ok(());
            }
            Err(error) => return Err(error),
        };
        if let Ok(packet) = Packet::parse(&tray.heard[..len]) {
            self.transfer.handle(&packet, Instant::now(), &mut tray.burst);
            self.send(tray);
        }
        Ok(())
    }

    /// Tells somebody else who has sent to this port that it is not his.
    pub fn turn_away(&self) {
        let answer = Packet::error(code::UNKNOWN_TRANSFER, "Unknown transfer ID").encode();
        if let Err(error) = self.line.turn_away(&answer) {
            debug!(peer = %self.peer, %error, "tftp stranger is not answered");
        }
    }

    pub fn others(&self) -> BorrowedFd<'_> {
        self.line.others()
    }

    /// Sends again, or gives up, when the deadline has passed.
    pub fn wake(&mut self, now: Instant, tray: &mut Tray) {
        self.transfer.handle_timeout(now, &mut tray.burst);
        self.send(tray);
    }

    fn send(&self, tray: &mut Tray) {
        let burst = &tray.burst;
        if !burst.is_single() && tray.cuts {
            match self.line.send(burst.bytes()) {
                // Seen of kernels and network devices that cannot cut this one.
                Err(error) if is_uncut(&error) => tray.cuts = false,
                Err(error) => return debug!(peer = %self.peer, %error, "tftp window is lost"),
                Ok(_) => return,
            }
        }
        for packet in burst.packets() {
            // A packet that cannot be sent is a lost one: the machine sends it again.
            if let Err(error) = self.line.send(packet) {
                debug!(peer = %self.peer, %error, "tftp packet is lost");
            }
        }
    }
}

impl AsFd for Download {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.line.as_fd()
    }
}

fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

fn is_passing(error: &io::Error) -> bool {
    matches!(
        errno(error),
        Errno::EAGAIN
            | Errno::EINTR
            | Errno::ECONNREFUSED
            | Errno::ENETDOWN
            | Errno::ENETUNREACH
            | Errno::EHOSTDOWN
            | Errno::EHOSTUNREACH
    )
}

fn is_uncut(error: &io::Error) -> bool {
    matches!(errno(error), Errno::EIO | Errno::EINVAL | Errno::EMSGSIZE | Errno::EOPNOTSUPP)
}

/// A client's replies are ACK and ERROR.
const LONGEST_REPLY: usize = 600;
