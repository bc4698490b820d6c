//! The DHCP server of the provisioning network (RFC 2131): socket, loop, replies. What it hears becomes observations,
//! what it says follows from the ledger's verdict; it decides nothing.

pub mod answer;
pub mod arp;
pub mod ask;
pub mod boot;
pub mod circuit;
mod conflict;
pub mod ether;
mod frame;
pub mod interface;
mod neighbours;
pub mod packet;
pub mod pi;
pub mod rival;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::device::{Family, Mac};
use crate::core::observation::{Input, Observation};
use crate::core::view::{Answer, DhcpVerdict};
use crate::dhcp::answer::{Station, To};
use crate::dhcp::ask::{Role, Serve};
use crate::dhcp::boot::BootFiles;
use crate::dhcp::conflict::Watch;
use crate::dhcp::ether::{Carries, Ether};
use crate::dhcp::interface::{Interface, InterfaceError};
use crate::dhcp::neighbours::Neighbour;
use crate::dhcp::packet::Message;
use crate::dhcp::rival::Lookout;
use crate::ledger::{Ledger, Receipt, SubmitError};

/// Where and whom to serve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub interface: String,
    /// The station's address on the interface.
    pub server: Ipv4Addr,
    pub prefix_len: u8,
    /// What is handed out, and looked at ahead.
    pub pool: RangeInclusive<Ipv4Addr>,
    /// Handed out to one device each, in the pool or beside it.
    pub reserved: BTreeMap<Ipv4Addr, Mac>,
    pub serve: Serve,
    pub role: Role,
    /// What clients load that are no Raspberry Pi.
    pub boot: BootFiles,
    /// 67; tests take another.
    pub port: u16,
    /// 68; tests take another.
    pub client_port: u16,
    /// 4011, where clients ask that have an address already; tests take another.
    pub boot_port: u16,
}

/// The server with its sockets bound.
pub struct Dhcp {
    inbox: UdpSocket,
    /// Where boot servers are asked; nothing if only devices are served that never ask there.
    counter: Option<UdpSocket>,
    interface: Interface,
    neighbours: mpsc::Receiver<Neighbour>,
    chosen: mpsc::Receiver<Ipv4Addr>,
    desk: Desk,
}

impl Dhcp {
    /// Must be called inside the runtime, with the station's address on the interface.
    pub fn bind(settings: Settings, ledger: Ledger) -> Result<Self, BindError> {
        let interface = Interface::open(&settings.interface)?;
        let name = || settings.interface.clone();
        let inbox =
            inbox(&settings).map_err(|source| BindError::Socket { interface: name(), port: settings.port, source })?;
        let counter = counter(&settings).map_err(|source| BindError::Socket {
            interface: name(),
            port: settings.boot_port,
            source,
        })?;
        let raw = |source| BindError::Raw { interface: name(), source };
        let (outbox, ether) = (outbox(&settings).map_err(raw)?, Ether::open(&settings.interface).map_err(raw)?);
        let ether = Arc::new(ether);
        let (introduce, neighbours) = mpsc::channel(neighbours::WAITING);
        let (choice, chosen) = mpsc::channel(rival::WAITING);
        let desk = Desk { settings, ledger, outbox, ether, introduce, choice };
        Ok(Self { inbox, counter, interface, neighbours, chosen, desk })
    }

    /// Serves until `stop`; then ends what is under way.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let Self { inbox, counter, interface, neighbours, chosen, desk } = self;
        let mut beside = JoinSet::new();
        let over = CancellationToken::new();
        beside.spawn(neighbours::run(interface, neighbours, over.clone()));
        // Beside another server neither its addresses nor itself are our concern.
        if desk.settings.role == Role::Server {
            beside.spawn(desk.watch().run(over.clone()));
            beside.spawn(desk.lookout(chosen).run(over.clone()));
        }
        let desk = Arc::new(desk);
        let end = tokio::try_join!(
            Arc::clone(&desk).listen(Door::Dhcp, Some(inbox), stop.clone()),
            desk.listen(Door::BootServer, counter, stop)
        );
        over.cancel();
        while let Some(done) = beside.join_next().await {
            log_panic(done);
        }
        end.map(drop)
    }
}

/// Which socket a message came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Dhcp,
    BootServer,
}

/// What every request needs to be answered.
struct Desk {
    settings: Settings,
    ledger: Ledger,
    /// To relay agents, by the kernel's routes.
    outbox: Socket,
    ether: Arc<Ether>,
    introduce: mpsc::Sender<Neighbour>,
    choice: mpsc::Sender<Ipv4Addr>,
}

impl Desk {
    fn watch(&self) -> Watch {
        Watch {
            ether: Arc::clone(&self.ether),
            ledger: self.ledger.clone(),
            server: self.settings.server,
            pool: self.settings.pool.clone(),
            reserved: self.settings.reserved.clone(),
        }
    }

    fn lookout(&self, chosen: mpsc::Receiver<Ipv4Addr>) -> Lookout {
        Lookout {
            ether: Arc::clone(&self.ether),
            ledger: self.ledger.clone(),
            interface: self.settings.interface.clone(),
            server: self.settings.server,
            port: self.settings.port,
            client_port: self.settings.client_port,
            chosen,
        }
    }

    async fn listen(
        self: Arc<Self>,
        door: Door,
        socket: Option<UdpSocket>,
        stop: CancellationToken,
    ) -> Result<(), Fault> {
        let Some(inbox) = socket.map(Arc::new) else {
            return Ok(());
        };
        let mut answers = JoinSet::new();
        let mut buffer = vec![0; MAXIMUM];
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                Some(done) = answers.join_next() => log_panic(done),
                // Above the bound the kernel's buffer holds the rest: a client that is too late asks again.
                heard = inbox.recv_from(&mut buffer), if answers.len() < IN_FLIGHT => match heard {
                    Ok((len, peer)) => match Message::parse(&buffer[..len]) {
                        Ok(message) if door == Door::Dhcp => drop(answers.spawn(Arc::clone(&self).serve(message))),
                        Ok(message) => drop(answers.spawn(Arc::clone(&self).direct(message, Arc::clone(&inbox), peer))),
                        Err(why) => debug!(%peer, %why, "not a dhcp message"),
                    },
                    // A cable pulled or a switch restarted; the socket lives on.
                    Err(error) if error.kind() == io::ErrorKind::NetworkDown => warn!(%error, "provisioning network is down"),
                    Err(source) => break Err(Fault::Receive { interface: self.settings.interface.clone(), source }),
                },
            }
        };
        while let Some(done) = answers.join_next().await {
            log_panic(done);
        }
        end
    }

    fn observation(&self, message: &Message) -> Option<Observation> {
        let Settings { server, serve, role, .. } = self.settings;
        ask::observation(message, server, serve, role)
    }

    /// Tells first and answers after. Requests wait side by side, so that one commit takes many.
    async fn serve(self: Arc<Self>, message: Message) {
        let mac = message.chaddr;
        if mac == rival::stranger(self.ether.mac()) {
            return;
        }
        if let Some(other) = ask::chosen(&message).filter(|chosen| *chosen != self.settings.server) {
            // When the lookout has enough of them already, it knows.
            let _ = self.choice.try_send(other);
        }
        let Some(observation) = self.observation(&message) else {
            debug!(%mac, kind = ?message.kind(), "dhcp message is not for this station");
            return;
        };
        let Some(verdict) = self.verdict(mac, observation).await else {
            return;
        };
        let Some((reply, to)) = answer::answer(&message, verdict, self.station()) else {
            debug!(%mac, kind = ?message.kind(), ?verdict, "dhcp client gets no answer");
            return;
        };
        debug!(%mac, kind = ?reply.kind(), address = %reply.yiaddr, ?to, "dhcp reply");
        if let Err(error) = self.send(&reply, to) {
            warn!(%mac, error = &error as &dyn std::error::Error, "dhcp reply is lost");
        }
        if message.giaddr.is_unspecified() {
            self.befriend(&message, verdict).await;
        }
    }

    /// Whoever asks here has an address: the kernel finds the way.
    async fn direct(self: Arc<Self>, message: Message, inbox: Arc<UdpSocket>, peer: SocketAddr) {
        let mac = message.chaddr;
        let Some(observation) = ask::at_boot_server(&message, self.settings.server, self.settings.serve) else {
            return debug!(%mac, kind = ?message.kind(), "message to the boot server is not for this station");
        };
        let Some(verdict) = self.verdict(mac, observation).await else {
            return;
        };
        let Some((reply, _)) = answer::answer(&message, verdict, self.station()) else {
            return debug!(%mac, kind = ?message.kind(), ?verdict, "client of the boot server gets no answer");
        };
        debug!(%mac, %peer, "boot server reply");
        if let Err(error) = inbox.send_to(&reply.encode(), peer).await {
            warn!(%mac, %peer, %error, "boot server reply is lost");
        }
    }

    /// Nothing if it could not be recorded: what was not written down is not answered.
    async fn verdict(&self, mac: Mac, observation: Observation) -> Option<DhcpVerdict> {
        match self.ledger.submit(Input::Observed(observation)).await {
            Ok(Receipt { answer: Answer::Dhcp(verdict), .. }) => return Some(verdict),
            Ok(_) | Err(SubmitError::Closed) => {}
            Err(SubmitError::Refused(why)) => debug!(%mac, %why, "dhcp message refused"),
            Err(error @ SubmitError::Unavailable(_)) => warn!(%mac, %error, "dhcp client gets no answer"),
        }
        None
    }

    const fn station(&self) -> Station<'_> {
        Station { server: self.settings.server, prefix_len: self.settings.prefix_len, boot: &self.settings.boot }
    }

    fn send(&self, reply: &Message, to: To) -> Result<(), SendError> {
        let (mac, to) = match to {
            To::Broadcast => {
                (Some(ether::BROADCAST), SocketAddrV4::new(Ipv4Addr::BROADCAST, self.settings.client_port))
            }
            To::Unicast { mac, address } => (Some(mac), SocketAddrV4::new(address, self.settings.client_port)),
            To::Relay(relay) => (None, SocketAddrV4::new(relay, self.settings.port)),
        };
        let from = SocketAddrV4::new(self.settings.server, self.settings.port);
        let packet = frame::packet(from, to, &reply.encode()).ok_or(SendError::TooLong)?;
        let sent = match mac {
            Some(mac) => self.ether.send(mac, Carries::Ipv4, &packet),
            None => self.outbox.send_to(&packet, &to.into()).map(drop),
        };
        sent.map_err(|source| SendError::Socket { to, source })
    }

    /// A bootloader begins its download at once: the kernel is told whose address it is.
    async fn befriend(&self, message: &Message, verdict: DhcpVerdict) {
        let is_pi3 = pi::identify(message).is_some_and(|known| known.family == Family::Pi3);
        if let DhcpVerdict::Lease(lease) = verdict
            && pi::is_bootloader(message)
        {
            let pinned = is_pi3.then_some(lease.time);
            let neighbour = Neighbour { address: lease.address, mac: message.chaddr, pinned };
            if self.introduce.try_send(neighbour).is_err() {
                debug!(mac = %message.chaddr, "the kernel asks for this neighbour by itself");
            }
        }
        if is_pi3 {
            // The network chip of Pi 3 holds the last frame back until another one arrives.
            tokio::time::sleep(NUDGE).await;
            let announcement = arp::announcement(self.ether.mac(), self.settings.server);
            if let Err(error) = self.ether.send(ether::BROADCAST, Carries::Arp, &announcement) {
                debug!(%error, "a Pi 3 gets no second frame");
            }
        }
    }
}

/// Hears broadcasts and unicast on the one interface. Without `SO_REUSEADDR`: another server on the port is an error
/// that is better seen at the start.
fn inbox(settings: &Settings) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    // The usual buffer holds 160 messages of a veth and fewer of a network card; many devices are powered on at once.
    // Without the right to force it the kernel gives what net.core.rmem_max allows.
    if setsockopt(&socket, sockopt::RcvBufForce, &BACKLOG).is_err() {
        socket.set_recv_buffer_size(BACKLOG)?;
    }
    socket.bind(&SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, settings.port).into())?;
    UdpSocket::from_std(socket.into())
}

/// On the station's address alone: clients ask the server that they know.
fn counter(settings: &Settings) -> io::Result<Option<UdpSocket>> {
    if settings.role == Role::Server && settings.serve == Serve::Pi {
        return Ok(None);
    }
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    socket.bind_device(Some(settings.interface.as_bytes()))?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddrV4::new(settings.server, settings.boot_port).into())?;
    UdpSocket::from_std(socket.into()).map(Some)
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
const IN_FLIGHT: usize = 1024;
/// Bytes of requests that the kernel keeps for us.
const BACKLOG: usize = 8 << 20;
/// Between a reply to a Pi 3 and the frame that pushes it out of its network chip.
const NUDGE: Duration = Duration::from_millis(20);

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
}
