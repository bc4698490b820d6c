//! What every thread of the server shares: where to send from, whom to tell.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tracing::{debug, warn};

use crate::core::observation::{FileResult, FileServed};
use crate::ledger::Ledger;
use crate::tftp::line::{Line, bind};
use crate::tftp::notes::{self, Note};
use crate::tftp::packet::Packet;

pub struct Desk {
    /// The address to send from; its port is not used.
    pub listen: SocketAddrV4,
    pub interface: Option<String>,
    pub max_block: usize,
    pub ledger: Ledger,
    pub notes: mpsc::Sender<Note>,
    pub warned: Mutex<Option<Instant>>,
}

impl Desk {
    /// Says from a fresh port, as a download would, why there is none.
    pub fn refuse(&self, peer: SocketAddr, error: &Packet) {
        let socket = bind(SocketAddrV4::new(*self.listen.ip(), 0), self.interface.as_deref());
        let sent = socket.and_then(|socket| socket.send_to(&error.encode(), &peer.into()));
        if let Err(error) = sent {
            debug!(%peer, %error, "tftp error is lost");
        }
    }

    pub fn note(&self, peer: SocketAddr, file: &str, bytes: u64, result: FileResult) {
        let IpAddr::V4(address) = peer.ip() else {
            return;
        };
        let file = FileServed { name: file.to_owned(), bytes, result, at: self.ledger.now() };
        notes::leave(&self.notes, Note { address, file });
    }

    /// Leaves a request without an answer: silence makes a bootloader ask again in two seconds; an error would be taken
    /// for a missing file.
    pub fn drop_request(&self, why: &(dyn Error + 'static)) {
        metrics::counter!("bootline_tftp_requests_dropped_total").increment(1);
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_none_or(|at| at.elapsed() >= SILENCE) {
            *warned = Some(Instant::now());
            warn!(error = why, "tftp requests are dropped");
        }
    }

    /// The port of one download.
    pub fn line(&self, peer: SocketAddr) -> io::Result<Line> {
        Line::open(self.listen, self.interface.as_deref(), peer)
    }
}

/// Between two warnings of the same kind.
const SILENCE: Duration = Duration::from_secs(60);
