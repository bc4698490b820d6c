//! One download: a socket of its own (RFC 1350 calls its port the transfer identifier), and the machine's driver.

use std::io;
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::pin::pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::sleep_until;
use tracing::{debug, warn};

use crate::bootfiles::BootFile;
use crate::core::observation::{FileResult, FileServed};
use crate::ledger::Ledger;
use crate::tftp::notes::{self, Note};
use crate::tftp::packet::{Packet, Request, code};
use crate::tftp::transfer::{End, Transfer};

/// What every download needs of its server.
pub struct Desk {
    /// The address to send from; its port is not used.
    pub listen: SocketAddrV4,
    pub interface: Option<String>,
    pub max_block: usize,
    pub ledger: Ledger,
    pub notes: mpsc::Sender<Note>,
}

impl Desk {
    /// Sends the file, and notes how it went.
    pub async fn send(&self, request: &Request, file: Arc<BootFile>, peer: SocketAddr) {
        let (result, bytes) = match self.run(request, file, peer).await {
            Ok((End::Sent, bytes)) => (FileResult::Sent, bytes),
            Ok((End::Probed, bytes)) => (FileResult::Probed, bytes),
            Ok((End::Aborted, bytes)) => {
                warn!(%peer, file = request.file, bytes, "boot file was cut off");
                (FileResult::Aborted, bytes)
            }
            Err(error) => {
                // The client asks again: silence is better than an error that it takes for "does not exist".
                warn!(%peer, file = request.file, %error, "boot file cannot be sent");
                (FileResult::Aborted, 0)
            }
        };
        debug!(%peer, file = request.file, bytes, result = result.as_str(), "boot file");
        self.note(peer, request, bytes, result);
    }

    /// Says from a fresh port, as a download would, why there is none.
    pub fn refuse(&self, peer: SocketAddr, error: &Packet) {
        let sent = self.socket().and_then(|socket| socket.send_to(&error.encode(), &peer.into()));
        if let Err(error) = sent {
            debug!(%peer, %error, "tftp error is lost");
        }
    }

    pub fn note(&self, peer: SocketAddr, request: &Request, bytes: u64, result: FileResult) {
        let IpAddr::V4(address) = peer.ip() else {
            return;
        };
        let file = FileServed { name: request.file.clone(), bytes, result, at: self.ledger.now() };
        notes::leave(&self.notes, Note { address, file });
    }

    async fn run(&self, request: &Request, file: Arc<BootFile>, peer: SocketAddr) -> io::Result<(End, u64)> {
        let file = read(file).await?;
        let socket = UdpSocket::from_std(self.socket()?.into())?;
        let (mut transfer, first) = Transfer::begin(request, file, self.max_block, Instant::now());
        let mut packet = Vec::new();
        send(&socket, &first, peer, &mut packet).await;
        let mut buffer = [0; LONGEST_REPLY];
        // One timer for the whole download: each packet moves the deadline, and only a timer that has run out asks where
        // it is now.
        let mut timer = pin!(sleep_until(transfer.deadline().into()));
        loop {
            if let Some(end) = transfer.end() {
                return Ok((end, transfer.bytes()));
            }
            let next = tokio::select! {
                biased;
                heard = socket.recv_from(&mut buffer) => match heard? {
                    (_, stranger) if stranger != peer => {
                        let error = Packet::error(code::UNKNOWN_TRANSFER, "Unknown transfer ID");
                        send(&socket, &[error], stranger, &mut packet).await;
                        continue;
                    }
                    (len, _) => match Packet::parse(&buffer[..len]) {
                        Ok(packet) => transfer.handle(&packet, Instant::now()),
                        Err(_) => continue,
                    },
                },
                () = &mut timer => {
                    let next = transfer.handle_timeout(Instant::now());
                    timer.as_mut().reset(transfer.deadline().into());
                    next
                }
            };
            // Only nearer: after long pauses an ACK has made them short again.
            if timer.deadline() > transfer.deadline().into() {
                timer.as_mut().reset(transfer.deadline().into());
            }
            send(&socket, &next, peer, &mut packet).await;
        }
    }

    fn socket(&self) -> io::Result<Socket> {
        bind(SocketAddrV4::new(*self.listen.ip(), 0), self.interface.as_deref())
    }
}

/// A UDP socket that hears and speaks on the one interface.
pub fn bind(address: SocketAddrV4, interface: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

async fn read(file: Arc<BootFile>) -> io::Result<Bytes> {
    match file.bytes() {
        Some(bytes) => Ok(bytes),
        None => tokio::task::spawn_blocking(move || file.read()).await.map_err(io::Error::other)?,
    }
}

/// A packet that cannot be sent is a lost one: the machine sends it again.
async fn send(socket: &UdpSocket, packets: &[Packet], peer: SocketAddr, buffer: &mut Vec<u8>) {
    for packet in packets {
        packet.encode_into(buffer);
        if let Err(error) = socket.send_to(buffer, peer).await {
            debug!(%peer, %error, "tftp packet is lost");
        }
    }
}

/// A client's replies are ACK and ERROR.
const LONGEST_REPLY: usize = 600;
