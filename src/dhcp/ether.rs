//! The provisioning interface below IP. A reply to a client that has no address yet goes to its MAC: no ARP, no entry
//! in the kernel's neighbour table, which holds a thousand and is full when a thousand devices boot.

use std::io;
use std::os::fd::AsRawFd;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{LinkAddr, MsgFlags, bind, sendto};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;

use crate::core::device::Mac;

/// A raw socket on one interface. It sends anything and hears ARP.
pub struct Ether {
    /// A packet socket is read like one for datagrams.
    socket: UdpSocket,
    here: LinkAddr,
    mac: Mac,
}

/// What an Ethernet frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    Ipv4 = 0x0800,
    Arp = 0x0806,
}

impl Ether {
    /// Needs `CAP_NET_RAW`. Must be called inside the runtime.
    pub fn open(interface: &str) -> io::Result<Self> {
        let here = getifaddrs()?
            .filter(|found| found.interface_name == interface)
            .find_map(|found| found.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{interface} has no Ethernet address")))?;
        let mac = Mac::new(here.addr().ok_or(io::ErrorKind::Unsupported)?);
        let arp = i32::from((Carries::Arp as u16).to_be());
        let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(arp)))?;
        socket.set_nonblocking(true)?;
        // The protocol stays that of the socket, for the address names none.
        bind(socket.as_raw_fd(), &here)?;
        Ok(Self { socket: UdpSocket::from_std(socket.into())?, here, mac })
    }

    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// Does not wait: when the link's queue is full the frame is lost, and whoever misses it asks again.
    pub fn send(&self, to: Mac, carries: Carries, packet: &[u8]) -> io::Result<()> {
        let mut frame = Vec::with_capacity(HEADER + packet.len());
        frame.extend(to.bytes());
        frame.extend(self.mac.bytes());
        frame.extend((carries as u16).to_be_bytes());
        frame.extend(packet);
        sendto(self.socket.as_raw_fd(), &frame, &self.here, MsgFlags::empty())?;
        Ok(())
    }

    /// The next ARP packet, without its frame.
    pub async fn arp(&self) -> io::Result<Vec<u8>> {
        let mut frame = [0; HEADER + 64];
        let length = self.socket.recv(&mut frame).await?;
        Ok(frame.get(HEADER..length).unwrap_or_default().to_vec())
    }
}

pub const BROADCAST: Mac = Mac::new([0xff; 6]);
/// Two addresses and a type.
const HEADER: usize = 14;
