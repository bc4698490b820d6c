//! One TFTP download as the bootloader of a Pi 4 does it (RFC 1350, 2347 to 2349): one block at a time, and easily upset.
//!
//! Boards were seen to hang on a block that came twice (raspberrypi/firmware#1631) and on a second OACK (#1041), so here
//! both are faults of the server, unless at least a second lay between: then its timer may have fired for a good reason.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, recvmsg, setsockopt, sockopt};
use nix::sys::time::TimeSpec;

use crate::tftp::packet::{Packet, Request, code, option};

/// How much of a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Only whether it is there: hang up at the first answer.
    Probe,
    Whole,
}

/// How a download ended when nothing was wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fetched {
    Missing,
    /// There, and not read.
    Seen,
    /// Read to its end; `head` is its beginning.
    Whole {
        bytes: u64,
        head: Vec<u8>,
    },
}

/// What to do after a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    Send(Packet),
    Done { last: Option<Packet>, fetched: Fetched },
}

/// One download, without socket and clock. Times are of the packet's arrival.
#[derive(Clone, Debug)]
pub struct Transfer {
    file: String,
    wish: Wish,
    size: Option<u64>,
    /// The block that comes next; 0 before the OACK.
    expected: u16,
    last_arrival: Duration,
    bytes: u64,
    head: Vec<u8>,
}

impl Transfer {
    pub fn new(file: &str, wish: Wish) -> Self {
        Self {
            file: file.to_owned(),
            wish,
            size: None,
            expected: 0,
            last_arrival: Duration::ZERO,
            bytes: 0,
            head: Vec::new(),
        }
    }

    pub fn request(&self) -> Packet {
        let option = |name: &str, value: usize| (name.to_owned(), value.to_string());
        Packet::Rrq(Request {
            file: self.file.clone(),
            mode: "octet".to_owned(),
            options: vec![option("tsize", 0), option("blksize", BLOCK)],
        })
    }

    /// Nothing came yet: the request may be sent again.
    pub const fn is_unanswered(&self) -> bool {
        self.size.is_none()
    }

    pub fn heard(&mut self, packet: Packet, at: Duration) -> Result<Next, Upset> {
        match packet {
            Packet::Error { code: code::FILE_NOT_FOUND, .. } => {
                Ok(Next::Done { last: None, fetched: Fetched::Missing })
            }
            Packet::Error { code, message } => Err(Upset::Error { code, message }),
            Packet::Oack { options } if self.size.is_none() => self.oack(&options, at),
            Packet::Oack { .. } => self.repeated(at, Upset::SecondOack),
            Packet::Data { .. } if self.size.is_none() => Err(Upset::NoOack),
            Packet::Data { block, data } if block == self.expected => self.data(block, &data, at),
            Packet::Data { block, .. } if block == self.expected.wrapping_sub(1) => {
                self.repeated(at, Upset::Duplicate { block })
            }
            Packet::Data { block, .. } => Err(Upset::Gap { block, expected: self.expected }),
            other => Err(Upset::Strange(format!("{other:?}"))),
        }
    }

    fn oack(&mut self, options: &[(String, String)], at: Duration) -> Result<Next, Upset> {
        let bad = || Upset::BadOack(format!("{options:?}"));
        if options.len() != 2 || option(options, "blksize") != Some(&BLOCK.to_string()) {
            return Err(bad());
        }
        let size = option(options, "tsize").and_then(|size| size.parse().ok()).ok_or_else(bad)?;
        if self.wish == Wish::Probe {
            let last = Some(Packet::error(code::UNDEFINED, "Early terminate"));
            return Ok(Next::Done { last, fetched: Fetched::Seen });
        }
        (self.size, self.expected, self.last_arrival) = (Some(size), 1, at);
        Ok(Next::Send(Packet::Ack { block: 0 }))
    }

    fn data(&mut self, block: u16, data: &[u8], at: Duration) -> Result<Next, Upset> {
        self.last_arrival = at;
        self.expected = block.wrapping_add(1);
        self.bytes += u64::try_from(data.len()).unwrap_or(0);
        let wanted = HEAD.saturating_sub(self.head.len()).min(data.len());
        self.head.extend(&data[..wanted]);
        let ack = Packet::Ack { block };
        if data.len() == BLOCK {
            return Ok(Next::Send(ack));
        }
        match self.size {
            Some(size) if size == self.bytes => {
                let fetched = Fetched::Whole { bytes: self.bytes, head: std::mem::take(&mut self.head) };
                Ok(Next::Done { last: Some(ack), fetched })
            }
            size => Err(Upset::Length { told: size.unwrap_or(0), got: self.bytes }),
        }
    }

    /// A packet that we have had: our acknowledgement may be lost, if the server waited for it.
    fn repeated(&mut self, at: Duration, upset: Upset) -> Result<Next, Upset> {
        if at.saturating_sub(self.last_arrival) < PATIENT_SERVER {
            return Err(upset);
        }
        self.last_arrival = at;
        Ok(Next::Send(Packet::Ack { block: self.expected.wrapping_sub(1) }))
    }
}

/// When a request or a file is given up.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    pub resend: Duration,
    pub file: Duration,
}

impl Default for Patience {
    /// As the bootloader ships.
    fn default() -> Self {
        Self { resend: Duration::from_secs(2), file: Duration::from_secs(30) }
    }
}

/// Downloads one file from a port of its own.
pub fn fetch(server: Ipv4Addr, file: &str, wish: Wish, patience: Patience) -> Result<Fetched, Lost> {
    let lost = |why| Lost { file: file.to_owned(), why };
    run(server, Transfer::new(file, wish), patience).map_err(lost)
}

fn run(server: Ipv4Addr, mut transfer: Transfer, patience: Patience) -> Result<Fetched, Upset> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(Upset::Socket)?;
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).map_err(|errno| Upset::Socket(errno.into()))?;
    let request = transfer.request().encode();
    let begin = Instant::now();
    let mut next_request = begin;
    let mut peer: Option<SocketAddrV4> = None;
    loop {
        let now = Instant::now();
        let left = patience.file.saturating_sub(now - begin);
        if left.is_zero() {
            return Err(Upset::Timeout);
        }
        if transfer.is_unanswered() && now >= next_request {
            socket.send_to(&request, (server, PORT)).map_err(Upset::Socket)?;
            next_request = now + patience.resend;
        }
        let wait = if transfer.is_unanswered() { left.min(next_request - now) } else { left };
        let Some((packet, from, at)) = receive(&socket, wait).map_err(Upset::Socket)? else {
            continue;
        };
        // The first answer names the server's port of this transfer; others are strangers.
        if *from.ip() != server || *peer.get_or_insert(from) != from {
            continue;
        }
        let packet = Packet::parse(&packet).map_err(|wrong| Upset::Strange(wrong.to_string()))?;
        let send = |packet: &Packet| socket.send_to(&packet.encode(), from).map_err(Upset::Socket);
        match transfer.heard(packet, at)? {
            Next::Send(packet) => {
                send(&packet)?;
            }
            Next::Done { last, fetched } => {
                if let Some(packet) = last {
                    send(&packet)?;
                }
                return Ok(fetched);
            }
        }
    }
}

/// A packet, its sender, and when the kernel got it: on a busy machine we may look much later.
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
    Ok(Some((buffer, from.into(), at.unwrap_or_default())))
}

/// What the bootloader asks for since 2022-10-03.
const BLOCK: usize = 1468;
const PORT: u16 = 69;
/// How much of a file is kept.
const HEAD: usize = 4096;
/// A server may send again after a second; a little less for the clocks.
const PATIENT_SERVER: Duration = Duration::from_millis(900);

/// A file that was not had.
#[derive(Debug, thiserror::Error)]
#[error("cannot download {file}")]
pub struct Lost {
    pub file: String,
    #[source]
    pub why: Upset,
}

/// What the bootloader does not bear.
#[derive(Debug, thiserror::Error)]
pub enum Upset {
    #[error("the options are not acknowledged")]
    NoOack,
    #[error("a bad OACK: {0}")]
    BadOack(String),
    #[error("a second OACK")]
    SecondOack,
    #[error("block {block} came twice")]
    Duplicate { block: u16 },
    #[error("block {block} came instead of {expected}")]
    Gap { block: u16, expected: u16 },
    #[error("{got} bytes came, {told} were told")]
    Length { told: u64, got: u64 },
    #[error("the server says {code}: {message}")]
    Error { code: u16, message: String },
    #[error("a strange packet: {0}")]
    Strange(String),
    #[error("no end in time")]
    Timeout,
    #[error("cannot use the socket")]
    Socket(#[source] io::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn oack(size: usize) -> Packet {
        Packet::Oack {
            options: vec![("tsize".to_owned(), size.to_string()), ("blksize".to_owned(), BLOCK.to_string())],
        }
    }

    fn data(block: u16, length: usize) -> Packet {
        Packet::Data { block, data: vec![7; length].into() }
    }

    fn started(size: usize) -> Transfer {
        let mut transfer = Transfer::new("config.txt", Wish::Whole);
        let next = transfer.heard(oack(size), Duration::ZERO).unwrap();
        assert_eq!(next, Next::Send(Packet::Ack { block: 0 }));
        transfer
    }

    const AT_ONCE: Duration = Duration::from_millis(3);
    const LATER: Duration = Duration::from_millis(1200);

    #[test]
    fn the_request_is_the_golden_one() {
        let request = Transfer::new("c0ffee12/config.txt", Wish::Whole).request().encode();
        assert_eq!(request, b"\0\x01c0ffee12/config.txt\0octet\0tsize\x000\0blksize\x001468\0");
    }

    #[test]
    fn a_file_is_read_block_by_block_to_its_end() {
        let mut transfer = started(BLOCK + 10);
        assert_eq!(transfer.heard(data(1, BLOCK), AT_ONCE).unwrap(), Next::Send(Packet::Ack { block: 1 }));
        let Next::Done { last, fetched: Fetched::Whole { bytes, head } } =
            transfer.heard(data(2, 10), AT_ONCE).unwrap()
        else {
            panic!("not done")
        };
        assert_eq!((last, bytes, head.len()), (Some(Packet::Ack { block: 2 }), 1478, 1478));
    }

    #[test]
    fn a_probe_hangs_up_at_the_first_answer() {
        let mut probe = Transfer::new("12345678/start4.elf", Wish::Probe);
        let last = Some(Packet::error(0, "Early terminate"));
        assert_eq!(probe.heard(oack(2_000_000), AT_ONCE).unwrap(), Next::Done { last, fetched: Fetched::Seen });
    }

    #[test]
    fn a_missing_file_is_no_fault() {
        let mut transfer = Transfer::new("recovery.elf", Wish::Whole);
        let next = transfer.heard(Packet::error(1, "File not found"), AT_ONCE).unwrap();
        assert_eq!(next, Next::Done { last: None, fetched: Fetched::Missing });
    }

    #[test]
    fn what_comes_twice_upsets_it_unless_a_second_lay_between() {
        assert!(matches!(started(9000).heard(oack(9000), AT_ONCE), Err(Upset::SecondOack)));
        assert_eq!(started(9000).heard(oack(9000), LATER).unwrap(), Next::Send(Packet::Ack { block: 0 }));
        let mut transfer = started(9000);
        transfer.heard(data(1, BLOCK), AT_ONCE).unwrap();
        assert_eq!(transfer.heard(data(1, BLOCK), LATER).unwrap(), Next::Send(Packet::Ack { block: 1 }));
        let twice = transfer.heard(data(1, BLOCK), LATER + AT_ONCE);
        assert!(matches!(twice, Err(Upset::Duplicate { block: 1 })));
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_told_apart() {
        let first = |packet| Transfer::new("a", Wish::Whole).heard(packet, AT_ONCE).unwrap_err().to_string();
        assert_eq!(first(data(1, BLOCK)), "the options are not acknowledged");
        let short = Packet::Oack { options: vec![("tsize".to_owned(), "9".to_owned())] };
        assert!(first(short).starts_with("a bad OACK"));
        assert_eq!(first(Packet::error(0, "busy")), "the server says 0: busy");
        let gap = started(9000).heard(data(2, BLOCK), AT_ONCE);
        assert!(matches!(gap, Err(Upset::Gap { block: 2, expected: 1 })));
        let length = started(9000).heard(data(1, 3), AT_ONCE);
        assert!(matches!(length, Err(Upset::Length { told: 9000, got: 3 })));
    }

    #[test]
    fn the_block_number_rolls_over_to_zero() {
        let mut transfer = started(70_000 * BLOCK);
        for block in (1..=u16::MAX).chain(0..3) {
            assert_eq!(transfer.heard(data(block, BLOCK), AT_ONCE).unwrap(), Next::Send(Packet::Ack { block }));
        }
    }
}
