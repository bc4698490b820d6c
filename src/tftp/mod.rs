//! The TFTP server of boot files (RFC 1350 and its options): one port for requests, one task and port a download. It
//! reads who is who from the ledger and tells it afterwards; it never waits for a commit.
//!
//! All of it runs on one thread of its own: a download is an ACK in and a block out, very often and very little at a
//! time, and must neither wait for the rest of the station nor hold it up.

mod download;
mod notes;
pub mod packet;
#[cfg(test)]
mod tests;
pub mod transfer;

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;
use tokio::net::UdpSocket;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::bootfiles::{BootFiles, NotServed};
use crate::core::observation::FileResult;
use crate::ledger::Ledger;
use crate::tftp::download::{Desk, bind};
use crate::tftp::notes::{Note, WAITING, carry};
use crate::tftp::packet::{Packet, Request, code};

/// Where to serve what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub listen: SocketAddrV4,
    /// Serve this interface alone.
    pub interface: Option<String>,
    /// The folder of boot files.
    pub bootfiles: PathBuf,
    /// Where the device finds its script: `{server}` in `config.txt` and `cmdline.txt`.
    pub devices_http: SocketAddrV4,
    /// Of the interface: packets are never fragmented.
    pub mtu: u16,
}

/// The server with its socket bound.
pub struct Tftp {
    inbox: Socket,
    files: Arc<BootFiles>,
    desk: Desk,
    notes: mpsc::Receiver<Note>,
}

impl Tftp {
    pub fn bind(settings: Settings, ledger: Ledger) -> Result<Self, BindError> {
        if !settings.bootfiles.is_dir() {
            return Err(BindError::Folder { path: settings.bootfiles });
        }
        let address = settings.listen;
        let inbox =
            bind(address, settings.interface.as_deref()).map_err(|source| BindError::Socket { address, source })?;
        widen(&inbox);
        let (sender, notes) = mpsc::channel(WAITING);
        let desk = Desk {
            listen: settings.listen,
            interface: settings.interface,
            max_block: usize::from(settings.mtu.saturating_sub(HEADERS)),
            ledger,
            notes: sender,
        };
        let files = Arc::new(BootFiles::new(settings.bootfiles, settings.devices_http));
        Ok(Self { inbox, files, desk, notes })
    }

    /// What it serves, for another protocol to serve too.
    pub fn files(&self) -> Arc<BootFiles> {
        Arc::clone(&self.files)
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.inbox.local_addr()?.as_socket().ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Serves until `stop`; then lets downloads end, for a few seconds.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let thread = || {
            let runtime =
                Builder::new_current_thread().enable_all().build().map_err(|source| Fault::Start { source })?;
            runtime.block_on(self.serve(stop))
        };
        spawn_blocking(thread).await.unwrap_or_else(|error| Err(Fault::Start { source: error.into() }))
    }

    async fn serve(self, stop: CancellationToken) -> Result<(), Fault> {
        let Self { inbox, files, desk, notes } = self;
        let inbox = UdpSocket::from_std(inbox.into()).map_err(|source| Fault::Start { source })?;
        let mut carrier = JoinSet::new();
        carrier.spawn(carry(notes, desk.ledger.clone()));
        let mut counter = Counter { files, desk: Arc::new(desk), downloads: JoinSet::new(), active: HashSet::new() };
        let mut buffer = [0; LONGEST_REQUEST];
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Some(done) = counter.downloads.join_next() => counter.ended(done),
                heard = inbox.recv_from(&mut buffer) => match heard {
                    Ok((len, peer)) => counter.heard(&buffer[..len], peer),
                    // A cable pulled or a switch restarted; the socket lives on.
                    Err(error) if error.kind() == io::ErrorKind::NetworkDown => warn!(%error, "provisioning network is down"),
                    Err(source) => break Err(Fault::Receive { source }),
                },
            }
        };
        let last = timeout(GRACE, async { while counter.downloads.join_next().await.is_some() {} });
        if last.await.is_err() {
            counter.downloads.shutdown().await;
        }
        // With the last sender gone the carrier hands in what it has and ends.
        drop(counter);
        carrier.join_all().await;
        end
    }
}

/// Takes requests and starts downloads.
struct Counter {
    files: Arc<BootFiles>,
    desk: Arc<Desk>,
    downloads: JoinSet<Key>,
    active: HashSet<Key>,
}

/// Client and name. Another port is another download: `bootcode.bin` runs two of the same file side by side.
type Key = (SocketAddr, String);

impl Counter {
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
        let key = (peer, request.file.clone());
        // A client that has heard nothing yet asks again from the same port. The download that runs sends again by
        // itself, and a second one would confuse the client.
        if self.active.contains(&key) {
            return;
        }
        // Silence makes a bootloader ask again in two seconds; an error would be taken for a missing file.
        if self.active.len() >= MOST_DOWNLOADS {
            metrics::counter!("bootline_tftp_requests_dropped_total").increment(1);
            return;
        }
        let tenant = match peer.ip() {
            IpAddr::V4(address) => self.desk.ledger.tenant(address),
            IpAddr::V6(_) => None,
        };
        match self.files.find(&request.file, tenant.as_ref()) {
            Ok(file) => {
                self.active.insert(key.clone());
                let desk = Arc::clone(&self.desk);
                self.downloads.spawn(async move {
                    desk.send(&request, file, peer).await;
                    key
                });
            }
            Err(why) => self.missed(&request, peer, &why),
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
        self.desk.note(peer, request, 0, FileResult::Missing);
        match why {
            NotServed::Missing => {
                debug!(%peer, mac = device, file = request.file, "no such boot file")
            }
            _ => {
                warn!(%peer, mac = device, file = request.file, error = why as &dyn std::error::Error, "boot file is not served")
            }
        }
    }

    fn ended(&mut self, done: Result<Key, JoinError>) {
        match done {
            Ok(key) => drop(self.active.remove(&key)),
            Err(error) => warn!(%error, "a download has ended early"),
        }
    }
}

/// What the system gives a socket by default is small for a line of boards that is powered on at once. Beyond the
/// system's limit only a privileged program gets more; what is had, is had.
fn widen(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &WAITING_BYTES).is_err() {
        let _ = socket.set_recv_buffer_size(WAITING_BYTES);
    }
}

/// IP, UDP and TFTP headers: what of a packet is not DATA.
const HEADERS: u16 = 32;
/// RFC 2347: a request is 512 bytes at most.
const LONGEST_REQUEST: usize = 600;
/// Each is a socket, so the limit of open files must be above it; the program raises its own at the start.
const MOST_DOWNLOADS: usize = 4096;
/// Requests of a whole line of boards that is switched on at once.
const WAITING_BYTES: usize = 4 << 20;
const GRACE: Duration = Duration::from_secs(3);

/// Why the server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("there is no folder of boot files at {path}")]
    Folder { path: PathBuf },
    #[error("cannot bind tftp socket on {address}")]
    Socket { address: SocketAddrV4, source: io::Error },
}

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot start the tftp server's thread")]
    Start { source: io::Error },
    #[error("cannot receive tftp requests")]
    Receive { source: io::Error },
}
