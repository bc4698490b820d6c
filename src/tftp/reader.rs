//! The thread that reads files nobody has read before, so that a slow disk holds up neither the requests that are heard
//! nor the downloads that run.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender};

use tracing::warn;

use crate::bootfiles::BootFile;
use crate::core::observation::FileResult;
use crate::tftp::counter::{Key, Seat};
use crate::tftp::desk::Desk;
use crate::tftp::download::Order;
use crate::tftp::packet::Request;

/// An order whose file must be read first.
pub struct Unread {
    pub peer: SocketAddr,
    pub request: Request,
    pub file: Arc<BootFile>,
    /// Who is to carry it.
    pub seat: Seat,
}

/// Reads until nobody asks any more.
pub fn read(unread: &Receiver<Unread>, ended: &Sender<Key>, desk: &Desk) {
    for Unread { peer, request, file, seat } in unread {
        match file.read() {
            Ok(file) => seat.take(Order { peer, request, file }),
            Err(error) => {
                // The client asks again: silence is better than an error that it takes for "does not exist".
                warn!(%peer, file = request.file, %error, "boot file cannot be sent");
                desk.note(peer, &request.file, 0, FileResult::Aborted);
                let _ = ended.send((peer, request.file));
            }
        }
    }
}
