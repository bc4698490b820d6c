//! One TFTP download as the firmware of a Pi does it (RFC 1350, 2347 to 2349): one block at a time, and easily upset.
//!
//! Boards were seen to hang on a block that came twice (raspberrypi/firmware#1631) and on a second OACK (#1041), so here
//! both are faults of the server, unless at least a second lay between: then its timer may have fired for a good reason.

use std::io;
use std::time::Duration;

use crate::tftp::packet::{Packet, Request, code, option};

/// What a program's TFTP client asks for and can bear.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Dialect {
    /// It asks for the size of the file.
    pub tsize: bool,
    /// It asks for this `blksize`.
    pub blksize: Option<usize>,
    /// Its block number goes on at 0 after 65535.
    pub rolls_over: bool,
    /// It acknowledges again what comes again after a second.
    pub repeats: bool,
    /// Between two sendings of a request.
    pub resend: Duration,
    /// `TFTP_FILE_TIMEOUT`: from the request to the last block.
    pub file: Duration,
}

impl Dialect {
    /// The boot ROM of a Pi 3: no options, and whatever comes again upsets it.
    pub const ROM: Self = Self { tsize: false, blksize: None, rolls_over: false, repeats: false, ..Self::BOOTLOADER };
    /// `bootcode.bin` and `start.elf` of a Pi 3.
    pub const BOOTCODE: Self = Self { blksize: None, rolls_over: false, ..Self::BOOTLOADER };
    /// The bootloader of a Pi 4 or 5 since 2025-09-23.
    pub const BOOTLOADER: Self = Self {
        tsize: true,
        blksize: Some(1468),
        rolls_over: true,
        repeats: true,
        resend: Duration::from_secs(2),
        file: Duration::from_secs(30),
    };
    /// The same before 2022-10-03.
    pub const OLD_BOOTLOADER: Self = Self { blksize: Some(1024), rolls_over: false, ..Self::BOOTLOADER };

    fn options(self) -> Vec<(String, String)> {
        let tsize = self.tsize.then(|| ("tsize".to_owned(), "0".to_owned()));
        let blksize = self.blksize.map(|bytes| ("blksize".to_owned(), bytes.to_string()));
        tsize.into_iter().chain(blksize).collect()
    }

    /// Without options there is no OACK: the first block is the first answer.
    fn has_options(self) -> bool {
        self.tsize || self.blksize.is_some()
    }

    fn block(self) -> usize {
        self.blksize.unwrap_or(512)
    }

    /// More than it can count; nothing if it counts on.
    fn largest(self) -> u64 {
        match self.rolls_over {
            true => u64::MAX,
            false => u64::try_from(self.block()).unwrap_or(u64::MAX).saturating_mul(u64::from(u16::MAX)),
        }
    }
}

/// How much of a file is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Only whether it is there: hang up at the first answer.
    Probe,
    Whole,
    /// Whole, after asking from two ports at once and hanging up on one of them (raspberrypi/firmware#1700).
    Twice,
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

/// What to do while nothing comes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wake {
    /// Send the request, from the port of the first time.
    Ask(Packet),
    /// Until then.
    Wait(Duration),
    /// The file took too long; the server is told.
    Over(Packet),
}

/// One download, without socket and clock. All times are of one clock, those of packets when they arrived.
#[derive(Clone, Debug)]
pub struct Transfer {
    dialect: Dialect,
    file: String,
    wish: Wish,
    begun: Duration,
    ask_at: Duration,
    answered: bool,
    size: Option<u64>,
    /// The block that comes next; 0 before the OACK.
    expected: u16,
    last_arrival: Duration,
    bytes: u64,
    head: Vec<u8>,
}

impl Transfer {
    pub fn new(dialect: Dialect, file: &str, wish: Wish, begun: Duration) -> Self {
        Self {
            dialect,
            file: file.to_owned(),
            wish,
            begun,
            ask_at: begun,
            answered: false,
            size: None,
            expected: u16::from(!dialect.has_options()),
            last_arrival: begun,
            bytes: 0,
            head: Vec::new(),
        }
    }

    /// Must be asked before the first packet, and whenever its time to wait is over.
    pub fn wake(&mut self, now: Duration) -> Wake {
        let end = self.begun + self.dialect.file;
        if now >= end {
            return Wake::Over(early_terminate());
        }
        if self.answered {
            return Wake::Wait(end);
        }
        if now >= self.ask_at {
            self.ask_at = now + self.dialect.resend;
            return Wake::Ask(self.request());
        }
        Wake::Wait(end.min(self.ask_at))
    }

    fn request(&self) -> Packet {
        let options = self.dialect.options();
        Packet::Rrq(Request { file: self.file.clone(), mode: "octet".to_owned(), options })
    }

    pub fn heard(&mut self, packet: Packet, at: Duration) -> Result<Next, Upset> {
        let opening = self.dialect.has_options() && !self.answered;
        match packet {
            Packet::Error { code: code::FILE_NOT_FOUND, .. } => {
                Ok(Next::Done { last: None, fetched: Fetched::Missing })
            }
            Packet::Error { code, message } => Err(Upset::Error { code, message }),
            Packet::Oack { options } if opening => self.oack(&options, at),
            Packet::Oack { options } if !self.dialect.has_options() => Err(Upset::BadOack(format!("{options:?}"))),
            Packet::Oack { .. } => self.repeated(at, Upset::SecondOack),
            Packet::Data { .. } if opening => Err(Upset::NoOack),
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
        let blksize = self.dialect.blksize.map(|bytes| bytes.to_string());
        let asked = usize::from(self.dialect.tsize) + usize::from(blksize.is_some());
        if options.len() != asked || option(options, "blksize") != blksize.as_deref() {
            return Err(bad());
        }
        let size = option(options, "tsize").and_then(|size| size.parse().ok()).ok_or_else(bad)?;
        if self.wish == Wish::Probe {
            return Ok(Next::Done { last: Some(early_terminate()), fetched: Fetched::Seen });
        }
        if size >= self.dialect.largest() {
            return Err(Upset::TooLarge { size, most: self.dialect.largest() - 1 });
        }
        (self.size, self.answered, self.expected, self.last_arrival) = (Some(size), true, 1, at);
        Ok(Next::Send(Packet::Ack { block: 0 }))
    }

    fn data(&mut self, block: u16, data: &[u8], at: Duration) -> Result<Next, Upset> {
        if self.wish == Wish::Probe {
            return Ok(Next::Done { last: Some(early_terminate()), fetched: Fetched::Seen });
        }
        self.answered = true;
        self.last_arrival = at;
        self.expected = block.wrapping_add(1);
        self.bytes += u64::try_from(data.len()).unwrap_or(0);
        if self.bytes >= self.dialect.largest() {
            return Err(Upset::TooLarge { size: self.bytes, most: self.dialect.largest() - 1 });
        }
        let wanted = HEAD.saturating_sub(self.head.len()).min(data.len());
        self.head.extend(&data[..wanted]);
        let ack = Packet::Ack { block };
        if data.len() == self.dialect.block() {
            return Ok(Next::Send(ack));
        }
        match self.size {
            Some(told) if told != self.bytes => Err(Upset::Length { told, got: self.bytes }),
            None if data.len() > self.dialect.block() => Err(Upset::Length { told: 512, got: self.bytes }),
            _ => {
                let fetched = Fetched::Whole { bytes: self.bytes, head: std::mem::take(&mut self.head) };
                Ok(Next::Done { last: Some(ack), fetched })
            }
        }
    }

    /// A packet that we have had: our acknowledgement may be lost, if the server waited for it.
    fn repeated(&mut self, at: Duration, upset: Upset) -> Result<Next, Upset> {
        if !self.dialect.repeats || at.saturating_sub(self.last_arrival) < PATIENT_SERVER {
            return Err(upset);
        }
        self.last_arrival = at;
        Ok(Next::Send(Packet::Ack { block: self.expected.wrapping_sub(1) }))
    }
}

fn early_terminate() -> Packet {
    Packet::error(code::UNDEFINED, "Early terminate")
}

/// How much of a file is kept: more than a `config.txt` may have.
const HEAD: usize = 16 * 1024;
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

/// What the firmware does not bear.
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
    #[error("{size} bytes are more than the {most} that its block number counts to")]
    TooLarge { size: u64, most: u64 },
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

    const BLOCK: usize = 1468;

    fn oack(size: usize) -> Packet {
        Packet::Oack {
            options: vec![("tsize".to_owned(), size.to_string()), ("blksize".to_owned(), BLOCK.to_string())],
        }
    }

    fn sized(size: u64) -> Packet {
        Packet::Oack { options: vec![("tsize".to_owned(), size.to_string())] }
    }

    fn data(block: u16, length: usize) -> Packet {
        Packet::Data { block, data: vec![7; length].into() }
    }

    fn ack(block: u16) -> Next {
        Next::Send(Packet::Ack { block })
    }

    fn transfer(dialect: Dialect) -> Transfer {
        Transfer::new(dialect, "config.txt", Wish::Whole, Duration::ZERO)
    }

    fn started(size: usize) -> Transfer {
        let mut transfer = transfer(Dialect::BOOTLOADER);
        assert_eq!(transfer.heard(oack(size), Duration::ZERO).unwrap(), ack(0));
        transfer
    }

    const AT_ONCE: Duration = Duration::from_millis(3);
    const LATER: Duration = Duration::from_millis(1200);

    #[test]
    fn the_requests_are_the_golden_ones() {
        let bytes = |dialect, file| Transfer::new(dialect, file, Wish::Whole, Duration::ZERO).request().encode();
        for (dialect, file, golden) in [
            (Dialect::ROM, "bootcode.bin", &b"\0\x01bootcode.bin\0octet\0"[..]),
            (Dialect::BOOTCODE, "start.elf", b"\0\x01start.elf\0octet\0tsize\x000\0"),
            (
                Dialect::BOOTLOADER,
                "c0ffee12/config.txt",
                b"\0\x01c0ffee12/config.txt\0octet\0tsize\x000\0blksize\x001468\0",
            ),
            (Dialect::OLD_BOOTLOADER, "a", b"\0\x01a\0octet\0tsize\x000\0blksize\x001024\0"),
        ] {
            assert_eq!(bytes(dialect, file), golden, "{dialect:?}");
        }
    }

    #[test]
    fn a_file_is_read_block_by_block_to_its_end() {
        let mut transfer = started(BLOCK + 10);
        assert_eq!(transfer.heard(data(1, BLOCK), AT_ONCE).unwrap(), ack(1));
        let Next::Done { last, fetched: Fetched::Whole { bytes, head } } =
            transfer.heard(data(2, 10), AT_ONCE).unwrap()
        else {
            panic!("not done")
        };
        assert_eq!((last, bytes, head.len()), (Some(Packet::Ack { block: 2 }), 1478, 1478));
    }

    #[test]
    fn the_rom_reads_blocks_of_512_bytes_without_an_oack() {
        let mut rom = transfer(Dialect::ROM);
        assert_eq!(rom.heard(data(1, 512), AT_ONCE).unwrap(), ack(1));
        let done = rom.heard(data(2, 0), AT_ONCE).unwrap();
        assert!(matches!(done, Next::Done { fetched: Fetched::Whole { bytes: 512, .. }, .. }));
        let answered = transfer(Dialect::ROM).heard(sized(10), AT_ONCE);
        assert!(matches!(answered, Err(Upset::BadOack(_))), "it did not ask for options");
    }

    #[test]
    fn a_probe_hangs_up_at_the_first_answer() {
        let mut probe = Transfer::new(Dialect::BOOTLOADER, "12345678/start4.elf", Wish::Probe, Duration::ZERO);
        let last = Some(Packet::error(0, "Early terminate"));
        let done = Next::Done { last, fetched: Fetched::Seen };
        assert_eq!(probe.heard(oack(2_000_000), AT_ONCE).unwrap(), done);
        let mut rom = Transfer::new(Dialect::ROM, "bootsig.bin", Wish::Probe, Duration::ZERO);
        assert_eq!(rom.heard(data(1, 512), AT_ONCE).unwrap(), done);
    }

    #[test]
    fn a_missing_file_is_no_fault() {
        let next = transfer(Dialect::BOOTLOADER).heard(Packet::error(1, "File not found"), AT_ONCE).unwrap();
        assert_eq!(next, Next::Done { last: None, fetched: Fetched::Missing });
    }

    #[test]
    fn the_request_is_sent_every_two_seconds_until_something_comes() {
        let mut transfer = transfer(Dialect::BOOTLOADER);
        let seconds = Duration::from_secs;
        let request = transfer.request();
        assert_eq!(transfer.wake(seconds(0)), Wake::Ask(request.clone()));
        assert_eq!(transfer.wake(seconds(0)), Wake::Wait(seconds(2)));
        assert_eq!(transfer.wake(seconds(2)), Wake::Ask(request));
        transfer.heard(oack(9000), seconds(3)).unwrap();
        assert_eq!(transfer.wake(seconds(4)), Wake::Wait(seconds(30)));
    }

    #[test]
    fn a_file_that_takes_31_seconds_is_given_up() {
        let mut transfer = started(9000);
        let second = Duration::from_secs(1);
        assert_eq!(transfer.wake(29 * second), Wake::Wait(30 * second));
        assert_eq!(transfer.wake(31 * second), Wake::Over(Packet::error(0, "Early terminate")));
    }

    #[test]
    fn what_comes_twice_upsets_it_unless_a_second_lay_between() {
        assert!(matches!(started(9000).heard(oack(9000), AT_ONCE), Err(Upset::SecondOack)));
        assert_eq!(started(9000).heard(oack(9000), LATER).unwrap(), ack(0));
        let mut transfer = started(9000);
        transfer.heard(data(1, BLOCK), AT_ONCE).unwrap();
        assert_eq!(transfer.heard(data(1, BLOCK), LATER).unwrap(), ack(1));
        let twice = transfer.heard(data(1, BLOCK), LATER + AT_ONCE);
        assert!(matches!(twice, Err(Upset::Duplicate { block: 1 })));
    }

    #[test]
    fn nothing_may_come_twice_to_the_rom() {
        let mut rom = transfer(Dialect::ROM);
        rom.heard(data(1, 512), AT_ONCE).unwrap();
        assert!(matches!(rom.heard(data(1, 512), LATER), Err(Upset::Duplicate { block: 1 })));
    }

    #[test]
    fn a_server_that_breaks_the_rules_is_told_apart() {
        let first = |packet| transfer(Dialect::BOOTLOADER).heard(packet, AT_ONCE).unwrap_err().to_string();
        assert_eq!(first(data(1, BLOCK)), "the options are not acknowledged");
        assert!(first(sized(9)).starts_with("a bad OACK"), "blksize is not acknowledged");
        assert_eq!(first(Packet::error(0, "busy")), "the server says 0: busy");
        let gap = started(9000).heard(data(2, BLOCK), AT_ONCE);
        assert!(matches!(gap, Err(Upset::Gap { block: 2, expected: 1 })));
        let length = started(9000).heard(data(1, 3), AT_ONCE);
        assert!(matches!(length, Err(Upset::Length { told: 9000, got: 3 })));
    }

    #[test]
    fn an_oack_says_exactly_what_was_asked_for() {
        let options = |pairs: &[(&str, &str)]| Packet::Oack {
            options: pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        };
        let more = options(&[("tsize", "9000"), ("blksize", "1468"), ("windowsize", "4")]);
        let smaller = options(&[("tsize", "9000"), ("blksize", "1408")]);
        let unknown_size = options(&[("tsize", "many"), ("blksize", "1468")]);
        for wrong in [more, smaller, unknown_size] {
            let heard = transfer(Dialect::BOOTLOADER).heard(wrong.clone(), AT_ONCE);
            assert!(matches!(heard, Err(Upset::BadOack(_))), "{wrong:?}");
        }
        let unasked = transfer(Dialect::BOOTCODE).heard(oack(9000), AT_ONCE);
        assert!(matches!(unasked, Err(Upset::BadOack(_))));
        assert_eq!(transfer(Dialect::BOOTCODE).heard(sized(9000), AT_ONCE).unwrap(), ack(0));
        // A block that does not have the agreed size, too.
        let mut honoured = started(9000);
        assert!(matches!(honoured.heard(data(1, 512), AT_ONCE), Err(Upset::Length { .. })));
    }

    #[test]
    fn the_block_number_rolls_over_to_zero() {
        let mut transfer = started(70_000 * BLOCK);
        for block in (1..=u16::MAX).chain(0..3) {
            assert_eq!(transfer.heard(data(block, BLOCK), AT_ONCE).unwrap(), ack(block));
        }
    }

    #[test]
    fn old_firmware_takes_no_file_that_it_cannot_count() {
        let asked = |size: u64| {
            let oack = Packet::Oack {
                options: vec![("tsize".to_owned(), size.to_string()), ("blksize".to_owned(), "1024".to_owned())],
            };
            transfer(Dialect::OLD_BOOTLOADER).heard(oack, AT_ONCE)
        };
        assert_eq!(asked(65_535 * 1024 - 1).unwrap(), ack(0));
        assert!(matches!(asked(65_535 * 1024), Err(Upset::TooLarge { most: 67_107_839, .. })));
        // Without tsize it finds out when it is too late.
        let mut rom = transfer(Dialect::ROM);
        for block in 1..u16::MAX {
            rom.heard(data(block, 512), AT_ONCE).unwrap();
        }
        assert!(matches!(rom.heard(data(u16::MAX, 512), AT_ONCE), Err(Upset::TooLarge { .. })));
    }
}
