//! The port of one download, which is its transfer identifier (RFC 1350 section 4), as two sockets.
//!
//! The kernel gives what the client sends to the one that is connected, and so looks at its routes once and not with
//! every packet: measured, that saves up to a tenth of the CPU. What anybody else sends comes to the other one, so that
//! a stranger still gets the ERROR that the RFC asks for.

use std::io;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::os::fd::{AsFd, BorrowedFd};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, Protocol, Socket, Type};

#[derive(Debug)]
pub struct Line {
    client: UdpSocket,
    others: UdpSocket,
}

impl Line {
    /// On a port that nobody has.
    pub fn open(from: SocketAddrV4, interface: Option<&str>, peer: SocketAddr) -> io::Result<Self> {
        let client = bind(SocketAddrV4::new(*from.ip(), 0), interface)?;
        let port = client.local_addr()?;
        // Shared by these two, and with nobody else later on.
        client.set_reuse_address(true)?;
        let others = open(interface)?;
        others.set_reuse_address(true)?;
        others.bind(&port)?;
        client.set_reuse_address(false)?;
        others.set_reuse_address(false)?;
        client.connect(&peer.into())?;
        Ok(Self { client: client.into(), others: others.into() })
    }

    /// Lets the kernel cut what is longer than `segment` into packets. False when it cannot.
    pub fn cut(&self, segment: i32) -> bool {
        setsockopt(&self.client, sockopt::UdpGsoSegment, &segment).is_ok()
    }

    pub fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        self.client.send(bytes)
    }

    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.client.recv(buffer)
    }

    /// Answers somebody who has nothing to do with this download.
    pub fn turn_away(&self, answer: &[u8]) -> io::Result<()> {
        let (_, stranger) = self.others.recv_from(&mut [0])?;
        self.others.send_to(answer, stranger).map(drop)
    }

    pub fn others(&self) -> BorrowedFd<'_> {
        self.others.as_fd()
    }
}

impl AsFd for Line {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.client.as_fd()
    }
}

/// A UDP socket that hears and speaks on the one interface.
pub fn bind(address: SocketAddrV4, interface: Option<&str>) -> io::Result<Socket> {
    let socket = open(interface)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

fn open(interface: Option<&str>) -> io::Result<Socket> {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, Some(Protocol::UDP))?;
    if let Some(interface) = interface {
        socket.bind_device(Some(interface.as_bytes()))?;
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
}
