//! The TFTP server of boot files (RFC 1350 and its options): one port for requests, one port a download. It reads who is
//! who from the ledger and tells it afterwards; it never waits for a commit.
//!
//! It has threads of its own: a download is an ACK in and a block out, very often and very little at a time, and must
//! neither wait for the rest of the station nor hold it up. `counter` hears requests and looks for the file, `reader`
//! reads the ones that nobody has read before, each `worker` carries many downloads, `crew` is all of them.

mod bell;
pub mod burst;
mod counter;
mod crew;
mod desk;
mod download;
mod line;
mod notes;
pub mod packet;
mod reader;
#[cfg(test)]
mod tests;
pub mod transfer;
mod worker;

use std::io;
use std::net::{SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::thread::available_parallelism;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::Socket;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::bootfiles::BootFiles;
use crate::ledger::Ledger;
use crate::tftp::crew::Crew;
pub use crate::tftp::crew::Fault;
use crate::tftp::desk::Desk;
use crate::tftp::line::bind;
use crate::tftp::notes::{Note, WAITING, carry};

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
            warned: Mutex::new(None),
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
        let Self { inbox, files, desk, notes } = self;
        let mut carrier = JoinSet::new();
        carrier.spawn(carry(notes, desk.ledger.clone()));
        let workers = available_parallelism().map_or(1, usize::from).min(MOST_WORKERS);
        let end = match Crew::start(inbox.into(), files, Arc::new(desk), workers) {
            Ok(crew) => crew.serve(stop).await,
            Err(fault) => Err(fault),
        };
        // With the last thread gone the carrier hands in what it has and ends.
        carrier.join_all().await;
        end
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
/// Requests of a whole line of boards that is switched on at once.
const WAITING_BYTES: usize = 4 << 20;
/// More than enough for the fastest link a station has.
const MOST_WORKERS: usize = 4;

/// Why the server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("there is no folder of boot files at {path}")]
    Folder { path: PathBuf },
    #[error("cannot bind tftp socket on {address}")]
    Socket { address: SocketAddrV4, source: io::Error },
}
