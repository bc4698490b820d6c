//! The driver of a download: through a kernel's socket, or by frames where there is no kernel yet.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::Duration;

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::core::device::Mac;
use crate::simulator::clock::now;
use crate::simulator::download::{Dialect, Fetched, Lost, Next, Transfer, Upset, Wake, Wish};
use crate::simulator::ether::{Datagram, Ether};
use crate::tftp::packet::Packet;

/// Downloads from one server, each from the next port.
#[derive(Debug)]
pub struct Client<'a> {
    pub dialect: Dialect,
    pub server: Ipv4Addr,
    pub port: u16,
    pub path: Path<'a>,
}

/// How datagrams get out and in.
#[derive(Clone, Copy, Debug)]
pub enum Path<'a> {
    Kernel,
    /// A boot ROM does all of it by itself, and knows the server by the frame of its OFFER.
    Frames {
        ether: &'a Ether,
        address: Ipv4Addr,
        server: Mac,
    },
}

impl<'a> Client<'a> {
    pub fn fetch(&mut self, file: &str, wish: Wish) -> Result<Fetched, Lost> {
        self.begin(file, wish).map_err(|why| Lost { file: file.to_owned(), why })
    }

    fn begin(&mut self, file: &str, wish: Wish) -> Result<Fetched, Upset> {
        let port = self.open().map_err(Upset::Socket)?;
        let mut transfer = Transfer::new(self.dialect, file, wish, now());
        if wish == Wish::Twice {
            // Both requests are under way before one of them is answered.
            let spare = self.open().map_err(Upset::Socket)?;
            let mut probe = Transfer::new(self.dialect, file, Wish::Probe, now());
            ask(&port, &mut transfer, self.server)?;
            ask(&spare, &mut probe, self.server)?;
            drive(&spare, probe, self.server)?;
        }
        drive(&port, transfer, self.server)
    }

    fn open(&mut self) -> io::Result<Port<'a>> {
        let number = self.port;
        self.port = number.checked_add(1).unwrap_or(FIRST_PORT);
        Ok(match self.path {
            Path::Kernel => {
                let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, number))?;
                setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
                Port::Kernel(socket)
            }
            Path::Frames { ether, address, server } => Port::Frames { ether, local: (address, number), server },
        })
    }
}

fn ask(port: &Port<'_>, transfer: &mut Transfer, server: Ipv4Addr) -> Result<(), Upset> {
    match transfer.wake(now()) {
        Wake::Ask(request) => port.send(&request, SocketAddrV4::new(server, SERVER)).map_err(Upset::Socket),
        Wake::Wait(_) | Wake::Over(_) => Ok(()),
    }
}

fn drive(port: &Port<'_>, mut transfer: Transfer, server: Ipv4Addr) -> Result<Fetched, Upset> {
    let mut peer: Option<SocketAddrV4> = None;
    let send = |packet: &Packet, to: SocketAddrV4| port.send(packet, to).map_err(Upset::Socket);
    loop {
        let until = match transfer.wake(now()) {
            Wake::Wait(until) => until,
            Wake::Ask(request) => {
                send(&request, SocketAddrV4::new(server, SERVER))?;
                continue;
            }
            Wake::Over(last) => {
                peer.map(|peer| send(&last, peer)).transpose()?;
                return Err(Upset::Timeout);
            }
        };
        let Some((packet, from, at)) = port.receive(until.saturating_sub(now())).map_err(Upset::Socket)? else {
            continue;
        };
        // The first answer names the server's port of this transfer; others are strangers.
        if *from.ip() != server || *peer.get_or_insert(from) != from {
            continue;
        }
        let packet = Packet::parse(&packet).map_err(|wrong| Upset::Strange(wrong.to_string()))?;
        match transfer.heard(packet, at)? {
            Next::Send(packet) => send(&packet, from)?,
            Next::Done { last, fetched } => {
                last.map(|packet| send(&packet, from)).transpose()?;
                return Ok(fetched);
            }
        }
    }
}

/// One end of a download on the device's side.
enum Port<'a> {
    Kernel(UdpSocket),
    Frames { ether: &'a Ether, local: (Ipv4Addr, u16), server: Mac },
}

impl Port<'_> {
    fn send(&self, packet: &Packet, to: SocketAddrV4) -> io::Result<()> {
        let payload = packet.encode();
        match self {
            Self::Kernel(socket) => socket.send_to(&payload, to).map(drop),
            Self::Frames { ether, local, server } => {
                ether.send(&Datagram { source: *local, target: (*to.ip(), to.port()), payload }, *server)
            }
        }
    }

    /// A packet, its sender, and when the kernel got it: on a busy machine we may look much later.
    fn receive(&self, wait: Duration) -> io::Result<Option<(Vec<u8>, SocketAddrV4, Duration)>> {
        match self {
            Self::Kernel(socket) => receive(socket, wait),
            Self::Frames { ether, local, .. } => {
                let heard = ether.receive(wait)?.filter(|heard| heard.datagram.target == *local);
                Ok(heard.map(|heard| {
                    let (address, port) = heard.datagram.source;
                    (heard.datagram.payload, SocketAddrV4::new(address, port), now())
                }))
            }
        }
    }
}

fn receive(socket: &UdpSocket, wait: Duration) -> io::Result<Option<(Vec<u8>, SocketAddrV4, Duration)>> {
    socket.set_read_timeout(Some(wait.max(Duration::from_millis(1))))?;
    let mut buffer = vec![0; 2048];
    let mut control = cmsg_space!(TimeSpec);
    let mut parts = [IoSliceMut::new(&mut buffer)];
    let got = match recvmsg::<SockaddrIn>(socket.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty()) {
        Ok(got) => got,
        Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
        Err(errno) => return Err(errno.into()),
    };
    let at = got.cmsgs()?.find_map(|message| match message {
        ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
        _ => None,
    });
    let (length, from) = (got.bytes, got.address);
    let from = from.ok_or(io::ErrorKind::InvalidData)?;
    buffer.truncate(length);
    Ok(Some((buffer, from.into(), at.unwrap_or_else(now))))
}

const SERVER: u16 = 69;
/// Where the ports begin again.
const FIRST_PORT: u16 = 49152;
