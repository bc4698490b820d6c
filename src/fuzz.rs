//! Doors for foreign bytes, one a parser: each takes anything and asserts what must hold whatever it was given.
//!
//! `tests/fuzz` feeds them what it invents, `tests/it/fuzz.rs` replays what was kept of that on every run.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::bootfiles::{BootFiles, NotServed};
use crate::core::command::{Command, Envelope, MAX_REQUEST, Salutation, Transport};
use crate::core::device::Mac;
use crate::core::time::Timestamp;
use crate::core::view::{DhcpVerdict, Lease};
use crate::dhcp::answer::{self, Station, To};
use crate::dhcp::ask::{self, Role, Serve};
use crate::dhcp::boot::{self, Client};
use crate::dhcp::packet::{Message, Op};
use crate::dhcp::{arp, circuit, pi};
use crate::netconsole::frame;
use crate::netconsole::lines::{LONGEST, Lines};
use crate::tftp::burst::Burst;
use crate::tftp::packet::{Packet, Request, option};
use crate::tftp::transfer::Transfer;

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 16);

/// A DHCP message: read, understood, answered; and what goes out reads back as it was meant.
pub fn dhcp(bytes: &[u8]) {
    let _ = arp::claim(bytes);
    let Ok(message) = Message::parse(bytes) else { return };
    assert_eq!(Message::parse(&message.encode()).as_ref(), Ok(&message), "a message changes on its way");
    if pi::identify(&message).is_some() {
        assert!(pi::is_bootloader(&message), "what shows itself as a Pi is a bootloader");
    }
    for role in [Role::Server, Role::Proxy] {
        for serve in [Serve::Pi, Serve::PiPxe, Serve::All] {
            let heard = ask::observation(&message, SERVER, serve, role);
            assert!(heard.is_none() || message.chaddr.is_unicast(), "{heard:?}");
        }
    }
    let _ = ask::chosen(&message);
    let boot = boot_files();
    let lease = Lease { address: CLIENT, time: Duration::from_secs(3600) };
    for verdict in [
        DhcpVerdict::Silent,
        DhcpVerdict::Lease(lease),
        DhcpVerdict::Nak,
        DhcpVerdict::OptionsOnly,
        DhcpVerdict::Proxy,
        DhcpVerdict::BootServer,
    ] {
        let Some((reply, to)) =
            answer::answer(&message, verdict, Station { server: SERVER, prefix_len: 16, boot: &boot })
        else {
            continue;
        };
        assert_eq!((reply.op, reply.xid, reply.chaddr), (Op::Reply, message.xid, message.chaddr));
        assert_eq!(matches!(to, To::Relay(_)), !message.giaddr.is_unspecified(), "{to:?}");
        assert_eq!(Message::parse(&reply.encode()).as_ref(), Ok(&reply), "a reply changes on its way");
    }
}

/// Something to load for every kind of client: a name, and a URL for those that want one.
fn boot_files() -> boot::BootFiles {
    use Client::{Bios, EfiArm32, EfiArm64, EfiIa32, EfiX64, HttpArm32, HttpArm64, HttpIa32, HttpX64, Ipxe, UBoot};
    let clients = [Bios, EfiArm32, EfiArm64, EfiIa32, EfiX64, HttpArm32, HttpArm64, HttpIa32, HttpX64, Ipxe, UBoot];
    let file = |client: Client| if client.is_http() { "http://172.20.0.1/boot/a.efi" } else { "a.efi" };
    clients.into_iter().map(|client| (client, file(client).to_owned())).collect()
}

/// Option 82, as whatever a switch puts into it.
pub fn option82(bytes: &[u8]) {
    if let Some(place) = circuit::place(bytes) {
        let is_word = !place.is_empty() && place.len() <= 128 && place.bytes().all(|byte| byte.is_ascii_graphic());
        assert!(is_word, "{place:?}");
    }
}

/// A TFTP packet, and a download whose client sends such packets whenever it likes.
pub fn tftp(bytes: &[u8]) {
    if let Ok(packet) = Packet::parse(bytes) {
        assert_eq!(Packet::parse(&packet.encode()).as_ref(), Ok(&packet), "a packet changes on its way");
    }
    if let Some((&[a, b, c, d], script)) = bytes.split_first_chunk::<4>() {
        Download::begin(a, u16::from_be_bytes([b, c]), d).follow(script);
    }
}

fn packets(burst: &Burst) -> Vec<Packet> {
    burst.packets().map(|bytes| Packet::parse(bytes).expect("what is sent can be read")).collect()
}

/// A download under watch: which bytes the client gets, and how often.
struct Download {
    transfer: Transfer,
    burst: Burst,
    file: Bytes,
    now: Instant,
    block_size: usize,
    window: u64,
    /// Blocks that were sent, counted without wrapping.
    sent: u64,
    bytes: u64,
}

impl Download {
    fn begin(options: u8, size: u16, block: u8) -> Self {
        static WHOLE: OnceLock<Bytes> = OnceLock::new();
        // Long enough for the block counter to wrap, and of words that differ, so that no two blocks are alike.
        let whole = WHOLE.get_or_init(|| (0..LARGEST / 4).flat_map(u32::to_be_bytes).collect::<Vec<u8>>().into());
        let file = whole.slice(..(usize::from(size) * 16).min(whole.len()));
        let asked = [
            ("tsize", "0".to_owned()),
            ("blksize", (usize::from(block) * 6).to_string()),
            ("windowsize", (block % 40).to_string()),
            ("timeout", (block % 12).to_string()),
            ("blksize", "8".to_owned()),
            ("multicast", String::new()),
        ];
        let options = asked.into_iter().enumerate().filter(|(n, _)| options & (1 << n) != 0);
        let options: Vec<_> = options.map(|(_, (name, value))| (name.to_owned(), value)).collect();
        let request = Request { file: "kernel8.img".to_owned(), mode: "octet".to_owned(), options };
        let now = Instant::now();
        let mut transfer = Transfer::begin(&request, file.clone(), 1468, now);
        let mut burst = Burst::default();
        transfer.first(&mut burst);
        let first = packets(&burst);
        let mut download = Self { transfer, burst, file, now, block_size: 512, window: 1, sent: 0, bytes: 0 };
        if let Some(Packet::Oack { options }) = first.first() {
            let number = |name| option(options, name).and_then(|value| value.parse().ok());
            download.block_size = number("blksize").unwrap_or(512);
            download.window = option(options, "windowsize").and_then(|value| value.parse().ok()).unwrap_or(1);
            assert!(
                options.iter().all(|(name, _)| option(&request.options, name).is_some()),
                "never asked: {options:?}"
            );
        }
        download.check(&first, true);
        download
    }

    /// Each step is a moment and a packet: mostly an ACK near the last block, sometimes anything at all.
    fn follow(&mut self, mut script: &[u8]) {
        while let Some((&[kind, a, b], rest)) = script.split_first_chunk::<3>() {
            script = rest;
            self.now += Duration::from_millis(u64::from(kind >> 4) * 100);
            let due = self.now >= self.transfer.deadline();
            self.transfer.handle_timeout(self.now, &mut self.burst);
            let late = packets(&self.burst);
            assert!(due || late.is_empty(), "sent again before its time");
            self.check(&late, true);
            let number = u16::from_be_bytes([a, b]);
            let [.., high, low] = self.sent.to_be_bytes();
            let newest = u16::from_be_bytes([high, low]);
            let packet = match kind & 0xf {
                0..=9 => Packet::Ack { block: newest.wrapping_sub(u16::from(kind & 1) * number % 40) },
                10 | 11 => Packet::Ack { block: number },
                12 => Packet::Ack { block: 0 },
                13 => Packet::Data { block: number, data: Bytes::new() },
                14 => Packet::Oack { options: Vec::new() },
                _ => Packet::error(number, "Early terminate"),
            };
            let ended = self.transfer.end();
            self.transfer.handle(&packet, self.now, &mut self.burst);
            let answer = packets(&self.burst);
            assert!(ended.is_none() || answer.is_empty(), "sent after its end");
            self.check(&answer, false);
        }
    }

    fn check(&mut self, packets: &[Packet], timed_out: bool) {
        assert!(u64::try_from(packets.len()).is_ok_and(|count| count <= self.window), "more than a window");
        for packet in packets {
            match packet {
                Packet::Data { block, data } => self.check_block(*block, data, timed_out),
                Packet::Oack { .. } => assert!(timed_out && self.sent == 0, "a second OACK without a timeout"),
                other => panic!("a download sends no {other:?}"),
            }
        }
        let size = u64::try_from(self.file.len()).unwrap_or(u64::MAX);
        let bytes = self.transfer.bytes();
        assert!((self.bytes..=size).contains(&bytes), "{bytes} bytes after {}", self.bytes);
        self.bytes = bytes;
        let ahead = self.transfer.deadline().saturating_duration_since(self.now);
        assert!(ahead <= Duration::from_secs(10), "silent for {ahead:?}");
    }

    /// The number that the 16 bits mean is the one next to what was sent.
    fn check_block(&mut self, block: u16, data: &Bytes, timed_out: bool) {
        let near = |number: &u64| number.to_be_bytes()[6..] == block.to_be_bytes();
        let earliest = (self.sent + 1).saturating_sub(self.window).max(1);
        let number = (earliest..=self.sent + 1).find(near);
        let number = number.unwrap_or_else(|| panic!("block {block} after {}", self.sent));
        assert!(number > self.sent || timed_out || self.window > 1, "block {number} twice without a timeout");
        self.sent = self.sent.max(number);
        let from = usize::try_from(number - 1).unwrap_or(usize::MAX) * self.block_size;
        let to = (from + self.block_size).min(self.file.len());
        assert_eq!(Some(&data[..]), self.file.get(from..to), "block {number}");
    }
}

/// Lays out a folder of boot files with links that lead out of it, and around it what must never be served.
pub fn prepare_folder(root: &Path) -> std::io::Result<()> {
    use std::fs::{create_dir_all, write};
    use std::os::unix::fs::symlink;

    let inside = root.join("inside");
    for folder in ["overlays", "deep/er", "c0ffee12"] {
        create_dir_all(inside.join(folder))?;
    }
    create_dir_all(root.join("outside"))?;
    write(root.join("outside/secret"), "outside")?;
    write(root.join("secret"), "outside")?;
    for file in ["start4.elf", "config.txt", "overlays/x.dtbo", "flat.dtbo", "deep/er/file", "c0ffee12/own"] {
        write(inside.join(file), format!("inside {file}"))?;
    }
    for file in ["pieeprom.upd", "recovery.bin", "deep/recover4.elf"] {
        write(inside.join(file), "never")?;
    }
    let secret = root.join("secret");
    for (name, to) in [
        ("link", Path::new("start4.elf")),
        ("deep/back", Path::new("../start4.elf")),
        ("out", Path::new("../secret")),
        ("up", Path::new("..")),
        ("deep/up", Path::new("../..")),
        ("absolute", &secret),
        ("root", Path::new("/")),
        ("elsewhere", Path::new("../outside")),
        ("loop", Path::new("loop")),
        ("proc", Path::new("/proc/self/root")),
    ] {
        symlink(to, inside.join(name))?;
    }
    Ok(())
}

/// Names that a client asks for, one a line, in the folder of `prepare_folder`.
pub fn path(root: &Path, bytes: &[u8]) {
    let files = BootFiles::new(root.join("inside"), SocketAddrV4::new(SERVER, 80));
    for asked in String::from_utf8_lossy(bytes).lines() {
        let read = match files.find(asked, None) {
            Ok(file) => file.read().unwrap_or_else(|fault| panic!("{asked:?}: {fault}")),
            Err(NotServed::Missing | NotServed::Denied) => continue,
            Err(fault) => panic!("{asked:?}: {fault:?}"),
        };
        let is_built_in = asked.trim_end_matches(['/', '.']).ends_with("cmdline.txt");
        assert!(read.starts_with(b"inside") || is_built_in, "{asked:?} gets {read:?}");
    }
}

/// Frames, and the same bytes as fragments of three boards: the first byte of each says whose and how long.
pub fn netconsole(bytes: &[u8]) {
    if let Some(text) = frame::text(bytes) {
        assert!(text.len() + 28 <= bytes.len(), "{} bytes of {}", text.len(), bytes.len());
    }
    let (mut lines, mut now, mut rest) = (Lines::default(), Timestamp::from_millis(0), bytes);
    let mut told = Vec::new();
    while let Some((&first, after)) = rest.split_first() {
        let (fragment, after) = after.split_at(usize::from(first >> 2).min(after.len()));
        rest = after;
        now = now.plus(Duration::from_millis(u64::from(first)));
        match first & 3 {
            3 => told.extend(lines.collect(now)),
            board => drop(lines.hear(Mac::new([2, 0, 0, 0, 0, board]), fragment, now)),
        }
    }
    told.extend(lines.close());
    for line in told.iter().flat_map(|(_, lines)| lines) {
        assert!(!line.text.is_empty() && line.text.chars().count() <= LONGEST, "{line:?}");
        assert!(!line.text.contains(char::is_control) && line.at <= now, "{line:?}");
    }
    let letters: usize = told.iter().flat_map(|(_, lines)| lines).map(|line| line.text.chars().count()).sum();
    assert!(letters <= bytes.len(), "text out of nothing");
}

/// The body of a command, as it comes by any of the three doors.
pub fn command(bytes: &[u8]) {
    let _ = Salutation::glean(bytes);
    for name in [None, Some("project.create"), Some("project.update"), Some("device.authorize"), Some("image.delete")] {
        let envelope = Envelope {
            name,
            id: None,
            minted_id: "command-0001".parse().expect("a valid id"),
            transport: Transport::Mqtt,
            now: Timestamp::from_millis(1_763_791_202_113),
        };
        match Command::parse(bytes, &envelope) {
            Ok(command) => {
                assert!(bytes.len() <= MAX_REQUEST && name.is_none_or(|name| name == command.name));
                let again = Command::parse(command.content.as_bytes(), &envelope);
                let again = again.unwrap_or_else(|refusal| panic!("{}: {refusal}", command.content));
                assert_eq!((&again.content, &again.order), (&command.content, &command.order));
            }
            Err(refusal) => assert!(refusal.status >= 400 && !refusal.code.is_empty() && !refusal.detail.is_empty()),
        }
    }
}

/// Bytes of the file that is downloaded: more than 65,536 blocks of 8.
const LARGEST: u32 = 16 * 65_535;
