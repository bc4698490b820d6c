//! Ethernet frames of a client that has no address yet: IPv4 (RFC 791) and UDP (RFC 768) put together and taken apart by hand.
//!
//! A kernel delivers nothing to an interface without an address, but both DHCP clients of a device must hear a unicast
//! OFFER to the address that they do not have. So they read frames, and judge checksums as the boot ROM does.

use std::cell::RefCell;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::ifaddrs::getifaddrs;
use nix::sys::socket::{
    AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recv, sendto, setsockopt, socket,
    sockopt,
};
use nix::sys::time::TimeVal;

use crate::core::device::Mac;

/// A UDP datagram on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    pub source: (Ipv4Addr, u16),
    pub target: (Ipv4Addr, u16),
    pub payload: Vec<u8>,
}

impl Datagram {
    /// The frame that carries it.
    pub fn frame(&self, from: Mac, to: Mac, stack: Stack) -> Vec<u8> {
        let udp_length = length_of(UDP_HEADER + self.payload.len());
        let ip_length = length_of(IP_HEADER + UDP_HEADER + self.payload.len());
        let mut ip = vec![0x45, 0];
        ip.extend(ip_length.to_be_bytes());
        // Identification 0, not fragmented.
        ip.extend([0, 0, 0, 0, stack.ttl(), UDP, 0, 0]);
        ip.extend(self.source.0.octets());
        ip.extend(self.target.0.octets());
        let sum = fold(sum(&ip));
        ip[10..12].copy_from_slice(&(!sum).to_be_bytes());
        let mut udp = Vec::with_capacity(usize::from(udp_length));
        udp.extend(self.source.1.to_be_bytes());
        udp.extend(self.target.1.to_be_bytes());
        udp.extend(udp_length.to_be_bytes());
        udp.extend([0, 0]);
        udp.extend(&self.payload);
        let sum = !fold(pseudo_header(self.source.0, self.target.0, udp_length) + self::sum(&udp));
        // Zero means "no checksum".
        let sum = match stack {
            Stack::Rom => 0,
            Stack::Whole => {
                if sum == 0 {
                    u16::MAX
                } else {
                    sum
                }
            }
        };
        udp[6..8].copy_from_slice(&sum.to_be_bytes());
        let mut frame = Vec::with_capacity(ETHERNET_HEADER + ip.len() + udp.len());
        frame.extend(to.bytes());
        frame.extend(from.bytes());
        frame.extend(IPV4);
        frame.extend(ip);
        frame.extend(udp);
        frame
    }

    /// What a frame carries, if it is whole and has the checksums that a boot ROM insists on.
    pub fn read(frame: &[u8], me: Mac) -> Result<Self, Ignored> {
        let (ethernet, packet) = frame.split_at_checked(ETHERNET_HEADER).ok_or(Ignored::NotUdp)?;
        if ethernet[12..14] != IPV4 {
            return Err(Ignored::NotUdp);
        }
        if ethernet[..6] != me.bytes() && ethernet[..6] != BROADCAST.bytes() {
            return Err(Ignored::NotForMe);
        }
        let header = usize::from(packet.first().ok_or(Ignored::NotUdp)? & 0x0f) * 4;
        let total = usize::from(word(packet, 2).ok_or(Ignored::NotUdp)?);
        let packet = packet.get(..total).ok_or(Ignored::NotUdp)?;
        let (ip, udp) = packet.split_at_checked(header).ok_or(Ignored::NotUdp)?;
        if ip.len() < IP_HEADER || udp.len() < UDP_HEADER || ip[0] >> 4 != 4 || ip[9] != UDP {
            return Err(Ignored::NotUdp);
        }
        // More fragments, or not the first one.
        if word(ip, 6).is_none_or(|word| word & 0x3fff != 0) {
            return Err(Ignored::Fragment);
        }
        if fold(sum(ip)) != u16::MAX {
            return Err(Ignored::IpChecksum);
        }
        let address = |at: usize| Ipv4Addr::new(ip[at], ip[at + 1], ip[at + 2], ip[at + 3]);
        let (source, target) = (address(12), address(16));
        let port = |at: usize| word(udp, at).unwrap_or(0);
        let length = port(4);
        let udp = udp.get(..usize::from(length)).filter(|udp| udp.len() >= UDP_HEADER).ok_or(Ignored::NotUdp)?;
        let pseudo = pseudo_header(source, target, length);
        let given = port(6);
        // On a veth the sender leaves the sum of the pseudo header for a network card that is not there; a real card
        // would have finished it. Anything else must be right, and zero ("none") is not.
        let unfinished = given == fold(pseudo);
        if given == 0 || !(unfinished || fold(pseudo + sum(udp)) == u16::MAX) {
            return Err(Ignored::UdpChecksum);
        }
        Ok(Self { source: (source, port(0)), target: (target, port(2)), payload: udp[UDP_HEADER..].to_vec() })
    }
}

/// Whose network code it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stack {
    /// The boot ROM of a Pi 3: TTL 128, no UDP checksum.
    Rom,
    Whole,
}

impl Stack {
    const fn ttl(self) -> u8 {
        match self {
            Self::Rom => 128,
            Self::Whole => 64,
        }
    }
}

/// The network chip between wire and driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Chip {
    /// What comes is there.
    Plain,
    /// That of a Pi 3 (`LAN95xx`): the last frame stays in it until another one arrives (raspberrypi/firmware#764, #1124).
    HoldsBack(Option<Vec<u8>>),
}

impl Chip {
    /// What the driver gets when a frame arrives.
    fn arrived(&mut self, frame: Vec<u8>) -> Option<Vec<u8>> {
        match self {
            Self::Plain => Some(frame),
            Self::HoldsBack(held) => held.replace(frame),
        }
    }
}

/// A datagram and the address that its frame came from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Heard {
    pub datagram: Datagram,
    pub from: Mac,
}

/// The interface below IP.
#[derive(Debug)]
pub struct Ether {
    socket: OwnedFd,
    here: LinkAddr,
    mac: Mac,
    stack: Stack,
    chip: RefCell<Chip>,
}

impl Ether {
    /// Needs `CAP_NET_RAW`. Hears every kind of frame: each of them pushes another one out of a chip.
    pub fn open(interface: &str, stack: Stack) -> io::Result<Self> {
        let here = getifaddrs()?
            .filter(|found| found.interface_name == interface)
            .find_map(|found| found.address?.as_link_addr().copied())
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no Ethernet interface {interface}")))?;
        let mac = Mac::new(here.addr().ok_or(io::ErrorKind::Unsupported)?);
        let (kind, chip) = match stack {
            Stack::Rom => (SockProtocol::EthAll, Chip::HoldsBack(None)),
            Stack::Whole => (SockProtocol::EthIp, Chip::Plain),
        };
        let socket = socket(AddressFamily::Packet, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)?;
        bind(socket.as_raw_fd(), &here)?;
        Ok(Self { socket, here, mac, stack, chip: RefCell::new(chip) })
    }

    pub const fn mac(&self) -> Mac {
        self.mac
    }

    /// From now on nothing is held back: what is in the chip is lost.
    pub fn let_go(&self) {
        self.chip.replace(Chip::Plain);
    }

    pub fn send(&self, datagram: &Datagram, to: Mac) -> io::Result<()> {
        sendto(self.socket.as_raw_fd(), &datagram.frame(self.mac, to, self.stack), &self.here, MsgFlags::empty())?;
        Ok(())
    }

    /// The next datagram for this device; nothing when the time is over or the frame is not one.
    pub fn receive(&self, wait: Duration) -> io::Result<Option<Heard>> {
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_secs(3600));
        let seconds = i64::try_from(wait.as_secs()).unwrap_or(3600);
        setsockopt(&self.socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, i64::from(wait.subsec_micros())))?;
        let mut frame = [0; 2048];
        let length = match recv(self.socket.as_raw_fd(), &mut frame, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
        // A socket for all kinds hears what this interface sends, too; the chip does not.
        if frame[6..12] == self.mac.bytes() {
            return Ok(None);
        }
        let frame = self.chip.borrow_mut().arrived(frame[..length].to_vec());
        Ok(frame.and_then(|frame| {
            let datagram = Datagram::read(&frame, self.mac).ok()?;
            Some(Heard { datagram, from: Mac::new(*frame[6..].first_chunk()?) })
        }))
    }
}

/// To everyone on the segment.
pub const BROADCAST: Mac = Mac::new([0xff; 6]);

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn length_of(bytes: usize) -> u16 {
    u16::try_from(bytes).expect("a boot client's datagram is far below 64 KiB")
}

fn pseudo_header(source: Ipv4Addr, target: Ipv4Addr, udp_length: u16) -> u32 {
    sum(&source.octets()) + sum(&target.octets()) + u32::from(UDP) + u32::from(udp_length)
}

/// The words added up (RFC 1071); an odd last byte is a high byte.
fn sum(bytes: &[u8]) -> u32 {
    bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum()
}

#[expect(clippy::cast_possible_truncation, reason = "folded until it fits")]
const fn fold(mut sum: u32) -> u16 {
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

const ETHERNET_HEADER: usize = 14;
const IP_HEADER: usize = 20;
const UDP_HEADER: usize = 8;
const IPV4: [u8; 2] = [0x08, 0x00];
const UDP: u8 = 17;

/// Why a frame is not for us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ignored {
    NotForMe,
    NotUdp,
    Fragment,
    IpChecksum,
    UdpChecksum,
}

#[cfg(test)]
mod tests {
    use super::*;

    const ME: Mac = Mac::new([0xe4, 0x5f, 1, 0x11, 0x22, 0x33]);
    const SERVER: Mac = Mac::new([2, 0, 0, 0, 0, 1]);

    fn offer(payload: &[u8]) -> Datagram {
        let address = |last| Ipv4Addr::new(192, 168, 5, last);
        Datagram { source: (address(1), 67), target: (address(9), 68), payload: payload.to_vec() }
    }

    #[test]
    fn a_datagram_survives_its_frame() {
        for payload in [&b""[..], b"odd", b"even", &[0xff; 322]] {
            let sent = offer(payload);
            assert_eq!(Datagram::read(&sent.frame(SERVER, ME, Stack::Whole), ME), Ok(sent.clone()));
            assert_eq!(Datagram::read(&sent.frame(SERVER, BROADCAST, Stack::Whole), ME), Ok(sent));
        }
    }

    #[test]
    fn a_wrong_checksum_is_dropped_and_an_unfinished_one_is_not() {
        let sent = offer(b"payload");
        let frame = sent.frame(SERVER, ME, Stack::Whole);
        let changed = |at: usize, value: [u8; 2]| {
            let mut frame = frame.clone();
            frame[at..at + 2].copy_from_slice(&value);
            Datagram::read(&frame, ME)
        };
        let udp_checksum = 14 + 20 + 6;
        assert_eq!(changed(udp_checksum, [0, 0]), Err(Ignored::UdpChecksum));
        assert_eq!(changed(udp_checksum, [1, 2]), Err(Ignored::UdpChecksum));
        assert_eq!(changed(udp_checksum + 4, [1, 2]), Err(Ignored::UdpChecksum));
        assert_eq!(changed(14 + 10, [1, 2]), Err(Ignored::IpChecksum));
        let left_to_the_card = fold(pseudo_header(sent.source.0, sent.target.0, 15)).to_be_bytes();
        assert_eq!(changed(udp_checksum, left_to_the_card), Ok(sent));
    }

    #[test]
    fn frames_of_others_and_broken_ones_are_ignored() {
        let frame = offer(b"payload").frame(SERVER, ME, Stack::Whole);
        assert_eq!(Datagram::read(&frame, SERVER), Err(Ignored::NotForMe));
        for length in 0..frame.len() {
            assert!(Datagram::read(&frame[..length], ME).is_err(), "{length}");
        }
    }

    #[test]
    fn the_rom_writes_ttl_128_and_no_checksum() {
        let frame = offer(b"payload").frame(ME, SERVER, Stack::Rom);
        assert_eq!((frame[14 + 8], &frame[14 + 4..14 + 6]), (128, &[0, 0][..]));
        assert_eq!(frame[14 + 20 + 6..14 + 20 + 8], [0, 0]);
        assert_eq!(fold(sum(&frame[14..34])), u16::MAX, "the IP header has one");
    }

    #[test]
    fn a_frame_stays_in_the_chip_of_a_pi_3_until_another_one_arrives() {
        let [offer, announcement, more] = [b"offer", b"g-arp", b"other"].map(|frame| frame.to_vec());
        let mut chip = Chip::HoldsBack(None);
        assert_eq!(chip.arrived(offer.clone()), None);
        assert_eq!(chip.arrived(announcement.clone()), Some(offer.clone()), "the broadcast of the station pushes");
        assert_eq!(chip.arrived(more), Some(announcement));
        assert_eq!(Chip::Plain.arrived(offer.clone()), Some(offer));
    }
}
