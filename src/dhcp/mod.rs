//! The DHCP server of the provisioning network (RFC 2131): socket, loop, replies. What it hears becomes observations,
//! what it says follows from the ledger's verdict; it decides nothing.

pub mod answer;
pub mod ask;
mod frame;
pub mod interface;
pub mod packet;
pub mod pi;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::observation::Input;
use crate::core::view::Answer;
use crate::dhcp::answer::{Station, To};
use crate::dhcp::ask::Serve;
use crate::dhcp::interface::{Interface, InterfaceError};
use crate::dhcp::packet::Message;
use crate::ledger::{Ledger, SubmitError};

/// Where and whom to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub interface: String,
    /// The station's address on the interface.
    pub server: Ipv4Addr,
    pub prefix_len: u8,
    pub serve: Serve,
    /// 67; tests take another.
    pub port: u16,
    /// 68; tests take another.
    pub client_port: u16,
}

/// The server with its sockets bound.
pub struct Dhcp {
    inbox: UdpSocket,
    desk: Desk,
}

impl Dhcp {
    /// Must be called inside the runtime, with the station's address on the interface.
    pub fn bind(settings: Settings, ledger: Ledger) -> Result<Self, BindError> {
        let interface = Interface::open(&settings.interface)?;
        let name = || settings.interface.clone();
        let inbox =
            inbox(&settings).map_err(|source| BindError::Socket { interface: name(), port: settings.port, source })?;
        let outbox = outbox(&settings).map_err(|source| BindError::Raw { interface: name(), source })?;
        Ok(Self { inbox, desk: Desk { settings, ledger, outbox, interface } })
    }

    /// Serves until `stop`; then ends what is under way.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let Self { inbox, desk } = self;
        let desk = Arc::new(desk);
        let mut answers = JoinSet::new();
        let mut buffer = vec![0; MAXIMUM];
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Some(done) = answers.join_next() => log_panic(done),
                // Above the bound the kernel's buffer holds the rest: a client that is too late asks again.
                heard = inbox.recv_from(&mut buffer), if answers.len() < IN_FLIGHT => match heard {
                    Ok((len, peer)) => match Message::parse(&buffer[..len]) {
                        Ok(message) => drop(answers.spawn(Arc::clone(&desk).serve(message))),
                        Err(why) => debug!(%peer, %why, "not a dhcp message"),
                    },
                    // A cable pulled or a switch restarted; the socket lives on.
                    Err(error) if error.kind() == io::ErrorKind::NetworkDown => warn!(%error, "provisioning network is down"),
                    Err(source) => break Err(Fault::Receive { interface: desk.settings.interface.clone(), source }),
                },
            }
        };
        while let Some(done) = answers.join_next().await {
            log_panic(done);
        }
        if let Some(desk) = Arc::into_inner(desk) {
            desk.interface.close().await;
        }
        end
    }
}

/// What every request needs to be answered.
struct Desk {
    settings: Settings,
    ledger: Ledger,
    outbox: Socket,
    interface: Interface,
}

impl Desk {
    /// Tells first and answers after. Requests wait side by side, so that one commit takes many.
    async fn serve(self: Arc<Self>, message: Message) {
        let mac = message.chaddr;
        let Some(observation) = ask::observation(&message, self.settings.server, self.settings.serve) else {
            debug!(%mac, kind = ?message.kind(), "dhcp message is not for this station");
            return;
        };
        let answer = match self.ledger.submit(Input::Observed(observation)).await {
            Ok(receipt) => receipt.answer,
            Err(SubmitError::Refused(why)) => return debug!(%mac, %why, "dhcp message refused"),
            Err(SubmitError::Closed) => return,
            Err(error @ SubmitError::Unavailable(_)) => {
                return warn!(%mac, %error, "dhcp client gets no answer");
            }
        };
        let Answer::Dhcp(verdict) = answer else {
            return;
        };
        let station = Station { server: self.settings.server, prefix_len: self.settings.prefix_len };
        let Some((reply, to)) = answer::answer(&message, verdict, station) else {
            debug!(%mac, kind = ?message.kind(), ?verdict, "dhcp client gets no answer");
            return;
        };
        debug!(%mac, kind = ?reply.kind(), address = %reply.yiaddr, ?to, "dhcp reply");
        if let Err(error) = self.send(&reply, to).await {
            warn!(%mac, error = &error as &dyn std::error::Error, "dhcp reply is lost");
        }
    }

    async fn send(&self, reply: &Message, to: To) -> Result<(), SendError> {
        let to = match to {
            To::Broadcast => SocketAddrV4::new(Ipv4Addr::BROADCAST, self.settings.client_port),
            To::Unicast { mac, address } => {
                self.interface.introduce(address, mac).await?;
                SocketAddrV4::new(address, self.settings.client_port)
            }
            To::Relay(relay) => SocketAddrV4::new(relay, self.settings.port),
        };
        let from = SocketAddrV4::new(self.settings.server, self.settings.port);
        let packet = frame::packet(from, to, &reply.encode()).ok_or(SendError::TooLong)?;
        // Does not block: when the link's queue is full the reply is dropped, and the client asks again.
        self.outbox.send_to(&packet, &to.into()).map_err(|source| SendError::Socket { to, source })?;
        Ok(())
    }
}

/// Hears broadcasts and unicast on the one interface. Without `SO_REUSEADDR`: another server on the port is an error
/// that is better seen at the start.
fn inbox(settings: &Settings) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, settings.port).into())?;
    UdpSocket::from_std(socket.into())
}

fn outbox(settings: &Settings) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(nix::libc::IPPROTO_RAW)))?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    socket.set_broadcast(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn log_panic(done: Result<(), JoinError>) {
    if let Err(error) = done {
        warn!(%error, "a dhcp answer has ended early");
    }
}

/// The largest message that we read: what fits one Ethernet packet.
const MAXIMUM: usize = 1500;
/// Requests that wait for their commit at a time.
const IN_FLIGHT: usize = 256;

/// Why the server cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    #[error("cannot bind dhcp socket on {interface} port {port}")]
    Socket { interface: String, port: u16, source: io::Error },
    #[error("cannot open a raw socket on {interface}: needs root or CAP_NET_RAW")]
    Raw { interface: String, source: io::Error },
    #[error(transparent)]
    Interface(#[from] InterfaceError),
}

/// Why the server has ended.
#[derive(Debug, thiserror::Error)]
pub enum Fault {
    #[error("cannot receive dhcp on {interface}")]
    Receive { interface: String, source: io::Error },
}

#[derive(Debug, thiserror::Error)]
enum SendError {
    #[error("the reply is too long for one packet")]
    TooLong,
    #[error("cannot send to {to}")]
    Socket { to: SocketAddrV4, source: io::Error },
    #[error(transparent)]
    Interface(#[from] InterfaceError),
}
