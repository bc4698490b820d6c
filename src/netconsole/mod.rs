//! What bootloaders write to the network (`NETCONSOLE` in the configuration of the EEPROM), as lines of their timeline.
//!
//! A bootloader writes before it has an address, from 169.254.x.x, the same for every board: it is known by its MAC, so
//! the packets are taken below IP. Nothing is answered.

pub mod frame;
pub mod lines;

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use futures_util::future::join_all;
use nix::ifaddrs::getifaddrs;
use nix::libc;
use nix::sys::socket::{LinkAddr, bind, recvfrom};
use socket2::{Domain, Protocol, SockFilter, Socket, Type};
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::core::device::Mac;
use crate::core::observation::{ConsoleLine, Input, Observation};
use crate::ledger::Ledger;
use crate::netconsole::lines::Lines;

/// Where to listen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub interface: String,
}

/// The listener with its socket bound.
pub struct Netconsole {
    /// A packet socket is read like one for datagrams.
    socket: UdpSocket,
    here: LinkAddr,
    interface: String,
    ledger: Ledger,
}

impl Netconsole {
    /// Needs `CAP_NET_RAW`. Must be called inside the runtime.
    pub fn bind(settings: Settings, ledger: Ledger) -> Result<Self, BindError> {
        let interface = settings.interface;
        match open(&interface) {
            Ok((socket, here)) => Ok(Self { socket, here, interface, ledger }),
            Err(source) => Err(BindError { interface, source }),
        }
    }

    /// Listens until `stop`; then tells what it has.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Fault> {
        let mut lines = Lines::default();
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; LARGEST];
        let end = loop {
            tokio::select! {
                () = stop.cancelled() => break Ok(()),
                _ = second.tick() => tell(lines.collect(self.ledger.now()), &self.ledger).await,
                heard = self.hear(&mut buffer) => match heard {
                    Ok(heard) => self.take(heard, &buffer, &mut lines),
                    Err(error) if error.kind() == io::ErrorKind::NetworkDown => warn!(%error, "provisioning network is down"),
                    Err(source) => break Err(Fault { interface: self.interface.clone(), source }),
                },
            }
        };
        tell(lines.close(), &self.ledger).await;
        end
    }

    async fn hear(&self, buffer: &mut [u8]) -> io::Result<(usize, Option<LinkAddr>)> {
        let receive = || recvfrom::<LinkAddr>(self.socket.as_raw_fd(), buffer).map_err(io::Error::from);
        self.socket.async_io(Interest::READABLE, receive).await
    }

    fn take(&self, (length, sender): (usize, Option<LinkAddr>), buffer: &[u8], lines: &mut Lines) {
        // Until it was bound the socket heard every interface.
        let sender = sender.filter(|sender| sender.ifindex() == self.here.ifindex());
        let mac = sender.and_then(|sender| sender.addr()).map(Mac::new).filter(|mac| mac.is_unicast());
        let (Some(mac), Some(text)) = (mac, buffer.get(..length).and_then(frame::text)) else {
            return;
        };
        let dropped = lines.hear(mac, text, self.ledger.now());
        if dropped > 0 {
            let dropped = u64::try_from(dropped).unwrap_or(u64::MAX);
            metrics::counter!("bootline_netconsole_lines_dropped_total").increment(dropped);
        }
    }
}

/// All at once, so that one commit takes them.
async fn tell(told: Vec<(Mac, Vec<ConsoleLine>)>, ledger: &Ledger) {
    let inputs = told.into_iter().map(|(mac, lines)| async move {
        if let Err(why) = ledger.submit(Input::Observed(Observation::ConsoleText { mac, lines })).await {
            debug!(%mac, %why, "a bootloader's text goes unrecorded");
        }
    });
    join_all(inputs).await;
}

fn open(interface: &str) -> io::Result<(UdpSocket, LinkAddr)> {
    let here = getifaddrs()?
        .filter(|found| found.interface_name == interface)
        .find_map(|found| found.address?.as_link_addr().copied())
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("{interface} has no Ethernet address")))?;
    let ipv4 = i32::from(IPV4.to_be());
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, Some(Protocol::from(ipv4)))?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&filter())?;
    // The protocol stays that of the socket, for the address names none.
    bind(socket.as_raw_fd(), &here)?;
    Ok((UdpSocket::from_std(socket.into())?, here))
}

/// The kernel passes on whole UDP datagrams to the port, and none of the images that go by.
fn filter() -> [SockFilter; 9] {
    let code = |parts: [u32; 3]| u16::try_from(parts[0] | parts[1] | parts[2]).unwrap_or_default();
    let load = |size, mode, at| SockFilter::new(code([libc::BPF_LD, size, mode]), 0, 0, at);
    // How many instructions are skipped if it is so, and if it is not.
    let jump = |test, value, yes, no| SockFilter::new(code([libc::BPF_JMP, test, libc::BPF_K]), yes, no, value);
    let end = |bytes| SockFilter::new(code([libc::BPF_RET, libc::BPF_K, 0]), 0, 0, bytes);
    [
        load(libc::BPF_B, libc::BPF_ABS, 9),
        jump(libc::BPF_JEQ, 17, 0, 5),
        load(libc::BPF_H, libc::BPF_ABS, 6),
        jump(libc::BPF_JSET, 0x3fff, 3, 0),
        // X becomes the length of the IP header.
        SockFilter::new(code([libc::BPF_LDX, libc::BPF_B, libc::BPF_MSH]), 0, 0, 0),
        load(libc::BPF_H, libc::BPF_IND, 2),
        jump(libc::BPF_JEQ, u32::from(frame::PORT), 1, 0),
        end(0),
        end(u32::MAX),
    ]
}

const IPV4: u16 = 0x0800;
/// The largest packet that is read whole; bootloaders write a line at a time.
const LARGEST: usize = 2048;

/// Why the listener cannot begin.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen for netconsole on {interface}: needs root or CAP_NET_RAW")]
pub struct BindError {
    interface: String,
    source: io::Error,
}

/// Why the listener has ended.
#[derive(Debug, thiserror::Error)]
#[error("cannot receive netconsole on {interface}")]
pub struct Fault {
    interface: String,
    source: io::Error,
}
