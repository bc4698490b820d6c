//! The thread that hears requests: it looks for the file and hands the download to a worker.

use std::collections::HashMap;
use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bootfiles::{BootFile, BootFiles, NotServed};
use crate::core::observation::FileResult;
use crate::tftp::bell::Bell;
use crate::tftp::desk::Desk;
use crate::tftp::download::Order;
use crate::tftp::packet::{Packet, Request, code};
use crate::tftp::reader::Unread;

/// Client and name. Another port is another download: `bootcode.bin` runs two of the same file side by side.
pub type Key = (SocketAddr, String);

/// Where a worker takes its orders. The channel has no bound of its own: the counter hands out no more than
/// `MOST_DOWNLOADS`.
#[derive(Clone)]
pub struct Seat {
    pub orders: Sender<Order>,
    pub bell: Bell,
}

impl Seat {
    pub fn take(&self, order: Order) {
        // A worker that is gone has been halted, and so will we be.
        if self.orders.send(order).is_ok() {
            self.bell.ring();
        }
    }
}

/// Takes requests and hands out downloads.
pub struct Counter {
    pub inbox: UdpSocket,
    pub bell: Bell,
    pub halt: CancellationToken,
    pub files: Arc<BootFiles>,
    pub desk: Arc<Desk>,
    pub seats: Vec<Seat>,
    pub unread: Sender<Unread>,
    pub ended: Receiver<Key>,
    pub active: Active,
}

impl Counter {
    pub fn run(mut self) -> io::Result<()> {
        let mut buffer = [0; LONGEST_REQUEST];
        while !self.halt.is_cancelled() {
            let fds = [self.inbox.as_fd(), self.bell.as_fd()];
            match poll(&mut fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)), PollTimeout::NONE) {
                Ok(_) => {}
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            }
            match self.inbox.recv_from(&mut buffer) {
                Ok((len, peer)) => self.heard(&buffer[..len], peer),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // A cable pulled or a switch restarted; the socket lives on.
                Err(error) if error.kind() == io::ErrorKind::NetworkDown => {
                    warn!(%error, "provisioning network is down");
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn heard(&mut self, bytes: &[u8], peer: SocketAddr) {
        let refuse = |code, why| self.desk.refuse(peer, &Packet::error(code, why));
        match Packet::parse(bytes) {
            Ok(Packet::Rrq(request)) if request.mode == "octet" => self.asked(request, peer),
            Ok(Packet::Rrq(_)) => refuse(code::ILLEGAL_OPERATION, "Only octet mode is served"),
            Ok(Packet::Wrq(_)) => refuse(code::ILLEGAL_OPERATION, "Nothing is taken"),
            Err(why) if bytes.starts_with(&[0, 1]) => {
                debug!(%peer, %why, "malformed tftp request");
                refuse(code::ACCESS_VIOLATION, "Access violation");
            }
            // An answer to these could start a quarrel of two servers.
            Ok(Packet::Data { .. } | Packet::Ack { .. } | Packet::Error { .. } | Packet::Oack { .. }) | Err(_) => {}
        }
    }

    fn asked(&mut self, request: Request, peer: SocketAddr) {
        while let Ok(key) = self.ended.try_recv() {
            self.active.remove(&key);
        }
        if self.active.orders() >= MOST_DOWNLOADS {
            return self.desk.drop_request(&TooMany);
        }
        let tenant = match peer.ip() {
            IpAddr::V4(address) => self.desk.ledger.tenant(address),
            IpAddr::V6(_) => None,
        };
        match self.files.find(&request.file, tenant.as_ref()) {
            Ok(file) => self.hand_out(request, peer, file),
            Err(NotServed::Unreadable { source, .. }) if is_exhausted(&source) => self.desk.drop_request(&source),
            Err(why) => self.missed(&request, peer, &why),
        }
    }

    fn hand_out(&mut self, request: Request, peer: SocketAddr, file: Arc<BootFile>) {
        let seat = self.active.add((peer, request.file.clone()));
        let Some(seat) = self.seats.get(seat) else {
            return;
        };
        match file.bytes() {
            Some(file) => seat.take(Order { peer, request, file }),
            None => drop(self.unread.send(Unread { peer, request, file, seat: seat.clone() })),
        }
    }

    fn missed(&self, request: &Request, peer: SocketAddr, why: &NotServed) {
        let device = match peer.ip() {
            IpAddr::V4(address) => self.desk.ledger.tenant(address).map(|tenant| tenant.mac.to_string()),
            IpAddr::V6(_) => None,
        };
        let (number, text) = match why {
            NotServed::Denied => (code::ACCESS_VIOLATION, "Access violation"),
            // What a bootloader does on other numbers is not known; on this one it goes on.
            NotServed::Missing | NotServed::TooLarge { .. } | NotServed::Unreadable { .. } => {
                (code::FILE_NOT_FOUND, "File not found")
            }
        };
        self.desk.refuse(peer, &Packet::error(number, text));
        self.desk.note(peer, &request.file, 0, FileResult::Missing);
        match why {
            NotServed::Missing => {
                debug!(%peer, mac = device, file = request.file, "no such boot file")
            }
            _ => {
                warn!(%peer, mac = device, file = request.file, error = why as &dyn Error, "boot file is not served")
            }
        }
    }
}

/// Which worker has what. The same client with the same name goes to the same worker, which knows whether that is a
/// request sent again or a board that was restarted.
pub struct Active {
    /// Worker, and how many orders of this key it has not told the end of.
    keys: HashMap<Key, (usize, usize)>,
    loads: Vec<usize>,
}

impl Active {
    pub fn new(workers: usize) -> Self {
        Self { keys: HashMap::new(), loads: vec![0; workers] }
    }

    pub fn orders(&self) -> usize {
        self.loads.iter().sum()
    }

    /// Counts an order, and says whose it is: of who has this key already, or of who has the least.
    pub fn add(&mut self, key: Key) -> usize {
        let least = self.loads.iter().enumerate().min_by_key(|(_, load)| **load).map_or(0, |(worker, _)| worker);
        let (worker, orders) = self.keys.entry(key).or_insert((least, 0));
        *orders += 1;
        if let Some(load) = self.loads.get_mut(*worker) {
            *load += 1;
        }
        *worker
    }

    pub fn remove(&mut self, key: &Key) {
        let Some((worker, orders)) = self.keys.get_mut(key) else {
            return;
        };
        *orders -= 1;
        if let Some(load) = self.loads.get_mut(*worker) {
            *load -= 1;
        }
        if *orders == 0 {
            self.keys.remove(key);
        }
    }
}

/// No descriptor, port or memory is left: it passes.
fn is_exhausted(error: &io::Error) -> bool {
    let errno = Errno::from_raw(error.raw_os_error().unwrap_or(0));
    matches!(errno, Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM | Errno::ENOBUFS)
}

/// More downloads at once than there may be.
#[derive(Debug, thiserror::Error)]
#[error("there are {MOST_DOWNLOADS} downloads already")]
struct TooMany;

/// RFC 2347: a request is 512 bytes at most.
const LONGEST_REQUEST: usize = 600;
/// Each is a socket, so the limit of open files must be above it; the program raises its own at the start.
const MOST_DOWNLOADS: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    fn key(port: u16) -> Key {
        (SocketAddr::from(([172, 20, 0, 2], port)), "start4.elf".to_owned())
    }

    #[test]
    fn the_same_request_goes_to_the_same_worker_until_nothing_is_left_of_it() {
        let mut active = Active::new(2);
        assert_eq!((active.add(key(1)), active.add(key(2)), active.add(key(2))), (0, 1, 1));
        // Now the first has less to do.
        assert_eq!(active.add(key(3)), 0);
        active.remove(&key(2));
        assert_eq!(active.add(key(2)), 1);
        for port in [1, 2, 2, 3] {
            active.remove(&key(port));
        }
        assert_eq!((active.orders(), active.keys.len()), (0, 0));
        active.remove(&key(2));
        assert_eq!((active.orders(), active.add(key(2))), (0, 0));
    }
}
