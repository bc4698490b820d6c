//! The server heard on the wire, frame by frame, as boot ROMs hear it.

use std::fs::File;
use std::os::fd::AsRawFd as _;

use nix::ifaddrs::getifaddrs;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::bind;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use uuid::Uuid;

use super::*;
use crate::core::command::{Envelope, Transport};
use crate::core::device::Mac;
use crate::core::image::{Compression, Digest, Image};
use crate::core::observation::{Input, Observation};
use crate::core::time::Timestamp;
use crate::dhcp::boot::Client;
use crate::dhcp::packet::{Kind, Op, code};
use crate::dhcp::{Fault, arp};
use crate::simulator::ether::{BROADCAST, Datagram, Stack};

#[test]
fn the_rom_of_a_pi_3_boots_with_an_offer_alone() {
    again_in_a_network("dhcp::tests::wire::pi3_in_a_network_of_its_own");
}

#[test]
fn uefi_is_told_its_file_at_both_ports() {
    again_in_a_network("dhcp::tests::wire::uefi_in_a_network_of_its_own");
}

/// The device's end of the cable below IP: it hears everything, whomever it is for.
pub struct Wire {
    socket: UdpSocket,
    /// Only frames from there: the station, or who relays for it.
    station: Mac,
}

/// What is heard there of the station.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// To whom, and what.
    Reply(Mac, Message),
    /// Who says that which address is theirs.
    Arp(Mac, Ipv4Addr, Mac),
}

impl Wire {
    pub fn open(pid: u32, station: Mac) -> Self {
        let opened = in_network(pid, || {
            let all = i32::from(0x0003_u16.to_be());
            let socket = Socket::new(Domain::PACKET, Type::RAW, Some(Protocol::from(all))).unwrap();
            let mut links = getifaddrs().unwrap().filter(|found| found.interface_name == "device");
            let here = links.find_map(|found| found.address?.as_link_addr().copied()).unwrap();
            bind(socket.as_raw_fd(), &here).unwrap();
            socket.set_nonblocking(true).unwrap();
            std::net::UdpSocket::from(socket)
        });
        Self { socket: UdpSocket::from_std(opened).unwrap(), station }
    }

    /// A broadcast of a client without an address. `checksum: None` is what the ROM of Pi 3 sends.
    pub async fn ask(&self, message: &[u8], from: Mac, checksum: Option<()>) {
        let any = Ipv4Addr::UNSPECIFIED;
        let datagram = Datagram { source: (any, 68), target: (Ipv4Addr::BROADCAST, 67), payload: message.to_vec() };
        let mut frame = datagram.frame(from, BROADCAST, Stack::Whole);
        if checksum.is_none() {
            frame[40..42].fill(0);
        }
        self.socket.send(&frame).await.unwrap();
    }

    /// Says to everyone that an address is somebody's.
    async fn claim(&self, address: Ipv4Addr, by: Mac) {
        let frame = [&BROADCAST.bytes()[..], &by.bytes(), &[8, 6], &arp::announcement(by, address)].concat();
        self.socket.send(&frame).await.unwrap();
    }

    /// The next that the station says to a client, or of itself.
    pub async fn next(&self) -> Heard {
        let mut frame = [0; 2048];
        loop {
            let heard = timeout(Duration::from_secs(10), self.socket.recv(&mut frame));
            let length = heard.await.expect("the station is silent").unwrap();
            let frame = &frame[..length];
            let mac = |at: usize| Mac::new(*frame[at..].first_chunk().unwrap());
            if mac(6) != self.station {
                continue;
            }
            if frame[12..14] == [8, 6] {
                // A probe claims nothing.
                if let Some((address, by)) = arp::claim(&frame[14..]) {
                    return Heard::Arp(mac(0), address, by);
                }
            } else if let Ok(datagram) = Datagram::read(frame, mac(0))
                && datagram.source.1 == 67
            {
                return Heard::Reply(mac(0), Message::parse(&datagram.payload).unwrap());
            }
        }
    }
}

impl Wire {
    /// The next message from there to a client.
    pub async fn reply(&self) -> Message {
        loop {
            if let Heard::Reply(_, message) = self.next().await {
                return message;
            }
        }
    }
}

/// Does something in the network of another process.
pub fn in_network<T: Send + 'static>(pid: u32, deed: impl FnOnce() -> T + Send + 'static) -> T {
    let there = move || {
        setns(File::open(format!("/proc/{pid}/ns/net")).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
        deed()
    };
    std::thread::spawn(there).join().unwrap()
}

/// A ledger with an image and a project: there is something to do for every device.
pub async fn busy_ledger(folder: &Path, last: Ipv4Addr) -> Ledger {
    let ledger = ledger(folder, last);
    let image = Image {
        id: Digest::new([1; 32]),
        name: "a.img".to_owned(),
        size_bytes: 100,
        compression: Compression::Xz,
        raw_sha256: Digest::new([2; 32]),
        raw_size_bytes: 4096,
        survey: crate::core::image::Survey::default(),
        added_at: Timestamp::default(),
    };
    ledger.submit(Input::Observed(Observation::ImageIngested(image))).await.unwrap();
    let minted_id = Uuid::new_v4().to_string().parse().unwrap();
    let now = ledger.now();
    let envelope = Envelope { name: Some("project.create"), id: None, minted_id, transport: Transport::Rest, now };
    let body = br#"{"params":{"name":"Gateway","image":"a.img","active":true}}"#;
    let reply = ledger.command(body, &envelope).await;
    assert!(reply.error.is_none(), "{reply:?}");
    ledger
}

/// The server at work, and how to end it.
pub struct Serving {
    task: JoinHandle<Result<(), Fault>>,
    stop: CancellationToken,
}

impl Serving {
    pub fn start(settings: Settings, ledger: &Ledger) -> Self {
        let stop = CancellationToken::new();
        let dhcp = Dhcp::bind(settings, ledger.clone()).unwrap();
        Self { task: tokio::spawn(dhcp.run(stop.clone())), stop }
    }

    pub async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// The station's own Ethernet address.
pub fn station() -> Mac {
    mac_of("station")
}

pub fn mac_of(interface: &str) -> Mac {
    let mut links = getifaddrs().unwrap().filter(|found| found.interface_name == interface);
    Mac::new(links.find_map(|found| found.address?.as_link_addr()?.addr()).unwrap())
}

#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn pi3_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, _) = cable().await;
    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    let ledger = busy_ledger(folder.path(), CLIENT).await;
    let mut monitor = spawn("ip monitor neigh dev station");
    let mut changes = BufReader::new(monitor.stdout.take().unwrap()).lines();
    let serving = Serving::start(Settings { serve: Serve::Pi, ..settings() }, &ledger);
    let wire = Wire::open(board.id().unwrap(), station());

    let discover = bytes(include_str!("../../../tests/vectors/dhcp/pi3-rom-discover.hex"));
    let rom = Message::parse(&discover).unwrap().chaddr;
    for _ in 0..2 {
        wire.ask(&discover, rom, None).await;
        let Heard::Reply(to, mut offer) = wire.next().await else { panic!("no offer") };
        // The station of this test leases for a minute.
        for (code, hour) in [(51, 3600_u32), (58, 1800), (59, 3150)] {
            let time = offer.options.iter_mut().find(|(known, _)| *known == code).unwrap();
            assert_eq!(time.1, (hour / 60).to_be_bytes());
            time.1 = hour.to_be_bytes().to_vec();
        }
        assert_eq!((to, offer.xid), (rom, 0x26f3_0339));
        assert_eq!(offer.encode(), bytes(include_str!("../../../tests/vectors/dhcp/pi3-rom-offer.hex")));
        // Its network chip gives a frame out when the next one comes.
        assert_eq!(wire.next().await, Heard::Arp(BROADCAST, SERVER, station()));
        let tenant = ledger.tenant(CLIENT).expect("an offer binds, for there will be no request");
        assert_eq!(tenant.mac, rom);
    }
    until(&mut changes, "172.20.0.16 lladdr b8:27:eb:11:22:33 PERMANENT").await;

    // Somebody takes the address in the middle of the boot.
    wire.claim(CLIENT, Mac::new([2, 0, 0, 0, 0, 9])).await;
    let mut news = ledger.follow(0);
    let mut told = String::new();
    while !told.contains("dhcp.address_conflict") {
        told = news.next().await.unwrap().iter().map(|event| String::from_utf8_lossy(&event.body)).collect();
    }
    assert!(told.contains("020000000009 answers for 172.20.0.16, which is leased to b827eb112233"), "{told}");
    assert_eq!(ledger.tenant(CLIENT).map(|tenant| tenant.mac), Some(rom));
    serving.end().await;
    until(&mut changes, "172.20.0.16 lladdr b8:27:eb:11:22:33 STALE").await;
    monitor.kill().await.unwrap();
    interface.close().await;
    board.kill().await.unwrap();
}

#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn uefi_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, at) = cable().await;
    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    let ledger = busy_ledger(folder.path(), CLIENT).await;
    let boot: BootFiles = [(Client::EfiArm64, "bootaa64.efi".to_owned())].into_iter().collect();
    for role in [Role::Server, Role::Proxy] {
        let serving = Serving::start(Settings { boot: boot.clone(), role, ..settings() }, &ledger);
        let wire = Wire::open(board.id().unwrap(), station());
        let discover = bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-discover.hex"));
        let client = Message::parse(&discover).unwrap().chaddr;
        wire.ask(&discover, client, Some(())).await;
        let Heard::Reply(to, offer) = wire.next().await else { panic!("no offer") };
        assert_eq!((to, offer.file.as_slice(), offer.flags), (BROADCAST, &b"bootaa64.efi"[..], 0x8000));
        assert_eq!(offer.yiaddr, if role == Role::Server { CLIENT } else { Ipv4Addr::UNSPECIFIED });

        if role == Role::Server {
            run(&format!("{at} ip addr add {CLIENT}/16 dev device")).await;
        }
        let there = in_network(board.id().unwrap(), || std::net::UdpSocket::bind((CLIENT, 68)).unwrap());
        there.set_nonblocking(true).unwrap();
        let there = UdpSocket::from_std(there).unwrap();
        let pi = golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex"));
        let uefi = golden(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-request.hex"));
        let known = Message { ciaddr: CLIENT, ..uefi };
        // A Pi gets nothing here, so the first answer is for the other.
        for message in [Message { ciaddr: CLIENT, ..pi }, known] {
            there.send_to(&message.encode(), (SERVER, 4011)).await.unwrap();
        }
        let mut answer = [0; 1500];
        let heard = timeout(Duration::from_secs(10), there.recv_from(&mut answer)).await;
        let (length, from) = heard.expect("no answer at port 4011").unwrap();
        assert_eq!(from, (SERVER, 4011).into());
        assert_eq!(answer[..length], bytes(include_str!("../../../tests/vectors/dhcp/uefi-pxe-arm64-boot-ack.hex")));
        serving.end().await;
    }
    interface.close().await;
    board.kill().await.unwrap();
}

/// Reads on until a line says what is waited for.
pub async fn until<R: tokio::io::AsyncBufRead + Unpin>(lines: &mut tokio::io::Lines<R>, expected: &str) -> String {
    let mut said = Vec::new();
    let found = timeout(Duration::from_secs(20), async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains(expected) {
                return Some(line);
            }
            said.push(line);
        }
        None
    });
    found.await.ok().flatten().unwrap_or_else(|| panic!("{expected:?} was not said, but {said:?}"))
}

/// The next reply of the station to a client.
pub async fn reply(wire: &Wire, kind: Kind) -> Message {
    let message = wire.reply().await;
    assert_eq!((message.op, message.kind()), (Op::Reply, Some(kind)), "{message:?}");
    assert_eq!(message.address(code::SERVER_ID), Some(SERVER));
    message
}
