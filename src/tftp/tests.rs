//! The server on a loopback port: a client by hand, and the real ones.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::UdpSocket;
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::core::address::Pool;
use crate::core::floor::Deadlines;
use crate::ledger::{Clock, Ledger};
use crate::tftp::bell::Bell;
use crate::tftp::counter::Seat;
use crate::tftp::desk::Desk;
use crate::tftp::download::Order;
use crate::tftp::packet::{Packet, Request};
use crate::tftp::worker::Worker;
use crate::tftp::{BindError, Fault, Settings, Tftp};

/// The bytes of a `.hex` file: hex digits, blanks, and lines that begin with `#`.
pub fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let digits: Vec<char> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

/// A running server with a folder of two files.
struct World {
    folder: tempfile::TempDir,
    server: SocketAddr,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Fault>>,
}

fn ledger(folder: &Path) -> Ledger {
    let server = Ipv4Addr::LOCALHOST;
    let pool =
        Pool { server, first: server, last: server, lease: Duration::from_secs(60), reservations: BTreeMap::new() };
    let settings = crate::core::floor::Settings {
        station: "st-01".to_owned(),
        version: "0".to_owned(),
        pool,
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    };
    Ledger::open(&folder.join("bootline.db"), "", settings, Clock::default()).unwrap().0
}

fn settings(bootfiles: PathBuf) -> Settings {
    Settings {
        listen: "127.0.0.1:0".parse().unwrap(),
        interface: None,
        bootfiles,
        devices_http: "172.20.0.1:80".parse().unwrap(),
        mtu: 1500,
    }
}

impl World {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("boot");
        std::fs::create_dir(&files).unwrap();
        std::fs::write(files.join("start4.elf"), image(1_000_000)).unwrap();
        std::fs::write(files.join("even.img"), image(4 * 512)).unwrap();
        let tftp = Tftp::bind(settings(files), ledger(folder.path())).unwrap();
        let server = tftp.address().unwrap();
        let stop = CancellationToken::new();
        let task = tokio::spawn(tftp.run(stop.clone()));
        Self { folder, server, stop, task }
    }

    async fn ask(&self, name: &str, options: &[(&str, &str)]) -> UdpSocket {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        socket.send_to(&request(name, options), self.server).await.unwrap();
        socket
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

fn request(name: &str, options: &[(&str, &str)]) -> Vec<u8> {
    let options = options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Packet::Rrq(Request { file: name.to_owned(), mode: "octet".to_owned(), options }).encode()
}

fn image(size: usize) -> Vec<u8> {
    (0..size).map(|index| u8::try_from(index % 251).unwrap()).collect()
}

async fn receive(socket: &UdpSocket) -> (Packet, SocketAddr) {
    let mut buffer = [0; 2000];
    let (len, peer) = socket.recv_from(&mut buffer).await.unwrap();
    (Packet::parse(&buffer[..len]).unwrap(), peer)
}

#[tokio::test]
async fn each_download_has_a_port_of_its_own_and_a_stranger_is_told_so() {
    let world = World::start();
    let client = world.ask("c0ffee12/even.img", &[("tsize", "0"), ("blksize", "1024")]).await;
    let (first, port) = receive(&client).await;
    let options = [("tsize", "2048"), ("blksize", "1024")].map(|(name, value)| (name.to_owned(), value.to_owned()));
    assert_eq!(first, Packet::Oack { options: options.to_vec() });
    assert_ne!(port, world.server);

    let stranger = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    stranger.send_to(&Packet::Ack { block: 0 }.encode(), port).await.unwrap();
    assert!(matches!(receive(&stranger).await.0, Packet::Error { code: 5, .. }));

    let mut got = Vec::new();
    for block in 0..=3 {
        client.send_to(&Packet::Ack { block }.encode(), port).await.unwrap();
        if block < 3 {
            let (packet, from) = receive(&client).await;
            let Packet::Data { block: number, data } = packet else { panic!("{packet:?}") };
            assert_eq!((number, from), (block + 1, port));
            got.extend(data);
        }
    }
    assert_eq!(got, image(2048));
    world.end().await;
}

#[tokio::test]
async fn a_request_sent_again_opens_no_second_stream() {
    let world = World::start();
    let client = world.ask("start4.elf", &[("tsize", "0")]).await;
    let (_, port) = receive(&client).await;
    let again = request("start4.elf", &[("tsize", "0")]);
    client.send_to(&again, world.server).await.unwrap();
    // Requests are taken in order: when this one is answered, the one before was dropped.
    client.send_to(&request("none", &[]), world.server).await.unwrap();
    assert_eq!(receive(&client).await.0, Packet::error(1, "File not found"));
    client.send_to(&Packet::error(0, "Early terminate").encode(), port).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_client_that_asks_again_hears_the_same_answer_once_a_second_is_over() {
    let world = World::start();
    let asked = Instant::now();
    let client = world.ask("start4.elf", &[("tsize", "0")]).await;
    let first = receive(&client).await;
    let again = request("start4.elf", &[("tsize", "0")]);
    for _ in 0..5 {
        client.send_to(&again, world.server).await.unwrap();
    }
    assert_eq!(receive(&client).await, first);
    assert!(asked.elapsed() >= Duration::from_secs(1));
    client.send_to(&Packet::Ack { block: 0 }.encode(), first.1).await.unwrap();
    assert!(matches!(receive(&client).await, (Packet::Data { block: 1, .. }, port) if port == first.1));
    client.send_to(&Packet::error(0, "Early terminate").encode(), first.1).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_board_restarted_within_a_file_gets_it_anew_when_the_old_download_is_silent() {
    let world = World::start();
    let client = world.ask("start4.elf", &[("tsize", "0")]).await;
    let (oack, old) = receive(&client).await;
    client.send_to(&Packet::Ack { block: 0 }.encode(), old).await.unwrap();
    let data = receive(&client).await;
    // It lost its power here; a second later the block comes again, and nobody is there to take it.
    assert_eq!(receive(&client).await, data);
    let again = request("start4.elf", &[("tsize", "0")]);
    client.send_to(&again, world.server).await.unwrap();
    let (packet, new) = receive(&client).await;
    assert_eq!(packet, oack);
    assert_ne!(new, old);
    client.send_to(&Packet::error(0, "Early terminate").encode(), new).await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_client_that_has_shut_its_port_does_not_disturb_the_next_one() {
    let world = World::start();
    // Its packets come back as ICMP errors.
    let gone = world.ask("start4.elf", &[]).await;
    let (_, port) = receive(&gone).await;
    gone.send_to(&Packet::Ack { block: 1 }.encode(), port).await.unwrap();
    drop(gone);
    let client = world.ask("even.img", &[("blksize", "1468")]).await;
    assert_eq!(fetch(client, 1, 1468).await, image(4 * 512));
    world.end().await;
}

#[tokio::test]
async fn two_ports_of_a_client_get_the_same_file_side_by_side() {
    let world = World::start();
    let (one, other) = (world.ask("even.img", &[]).await, world.ask("even.img", &[]).await);
    let (first, second) = (receive(&one).await, receive(&other).await);
    assert_eq!(first.0, second.0);
    assert_ne!(first.1, second.1);
    for (client, port) in [(&one, first.1), (&other, second.1)] {
        client.send_to(&Packet::error(0, "Early terminate").encode(), port).await.unwrap();
    }
    world.end().await;
}

#[tokio::test]
async fn five_hundred_clients_at_once_get_every_byte() {
    let world = World::start();
    let mut clients = JoinSet::new();
    for number in 0..500_usize {
        let options = [("tsize", "0"), ("blksize", "1468"), ("windowsize", "4")];
        let client = world.ask("c0ffee12/even.img", &options[..number % 4]).await;
        let size = if number % 4 > 1 { 1468 } else { 512 };
        clients.spawn(fetch(client, number % 4, size));
    }
    let mut whole = 0;
    while let Some(got) = clients.join_next().await {
        assert_eq!(got.unwrap(), image(4 * 512));
        whole += 1;
    }
    assert_eq!(whole, 500);
    world.end().await;
}

/// Reads a file to its end; only what was asked for was agreed to.
async fn fetch(client: UdpSocket, options: usize, size: usize) -> Vec<u8> {
    let mut got = Vec::new();
    loop {
        let (packet, port) = receive(&client).await;
        let (block, done) = match packet {
            Packet::Oack { options: agreed } => {
                assert_eq!(agreed.len(), options);
                (0, false)
            }
            Packet::Data { block, data } => {
                // On a machine that is slow beyond a second it may come again.
                if usize::from(block) == got.len() / size + 1 {
                    got.extend(&data);
                }
                (block, data.len() < size)
            }
            other => panic!("{other:?}"),
        };
        client.send_to(&Packet::Ack { block }.encode(), port).await.unwrap();
        if done {
            return got;
        }
    }
}

#[tokio::test]
async fn what_cannot_be_served_is_refused_at_once() {
    let world = World::start();
    for (name, code) in [("none", 1), ("pieeprom.upd", 1), ("../bootline.db", 2), ("a\\b", 2)] {
        let client = world.ask(name, &[]).await;
        let (answer, _) = receive(&client).await;
        assert!(matches!(answer, Packet::Error { code: told, .. } if told == code), "{name}: {answer:?}");
    }
    let client = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (bytes, code) in [(&b"\0\x02a\0octet\0"[..], 4), (b"\0\x01a\0netascii\0", 4), (b"\0\x01a\0octet", 2)] {
        client.send_to(bytes, world.server).await.unwrap();
        let (answer, _) = receive(&client).await;
        assert!(matches!(answer, Packet::Error { code: told, .. } if told == code), "{answer:?}");
    }
    world.end().await;
}

#[test]
fn a_request_for_which_there_is_no_socket_is_dropped_and_no_file_counts_as_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let (notes, mut noted) = mpsc::channel(1);
    let desk = Arc::new(Desk {
        listen: "127.0.0.1:0".parse().unwrap(),
        interface: Some("no-such-port".to_owned()),
        max_block: 1468,
        ledger: ledger(folder.path()),
        notes,
        warned: Mutex::new(None),
    });
    let (orders, taken) = channel();
    let (ended, told) = channel();
    let (bell, halt) = (Bell::new().unwrap(), CancellationToken::new());
    let worker = Worker::new(taken, ended, bell.clone(), Arc::clone(&desk), halt.clone()).unwrap();
    let thread = std::thread::spawn(|| worker.run());

    let peer: SocketAddr = "127.0.0.1:9".parse().unwrap();
    let request = Request { file: "even.img".to_owned(), mode: "octet".to_owned(), options: Vec::new() };
    let seat = Seat { orders, bell: bell.clone() };
    seat.take(Order { peer, request, file: Bytes::new() });
    assert_eq!(told.recv().unwrap(), (peer, "even.img".to_owned()));
    assert!(desk.warned.lock().unwrap().is_some());
    assert!(noted.try_recv().is_err());
    halt.cancel();
    bell.ring();
    thread.join().unwrap().unwrap();
}

#[tokio::test]
async fn a_folder_that_is_not_there_or_a_taken_port_is_told_at_the_start() {
    let world = World::start();
    let ledger = ledger(world.folder.path().join("boot").as_path());
    let none = Tftp::bind(settings(PathBuf::from("/does/not/exist")), ledger.clone()).map(drop);
    assert!(matches!(none, Err(BindError::Folder { .. })));
    let SocketAddr::V4(taken) = world.server else { panic!() };
    let taken = Settings { listen: taken, ..settings(world.folder.path().to_owned()) };
    let error = Tftp::bind(taken, ledger).map(drop).unwrap_err();
    assert_eq!(error.to_string(), format!("cannot bind tftp socket on {}", world.server));
    world.end().await;
}

#[tokio::test]
async fn the_clients_of_the_field_get_the_same_bytes() {
    let world = World::start();
    let out = world.folder.path().join("out");
    for (file, size) in [("start4.elf", 1_000_000), ("even.img", 4 * 512)] {
        for line in CLIENTS {
            let line = line
                .replace("PORT", &world.server.port().to_string())
                .replace("FILE", file)
                .replace("OUT", &out.display().to_string());
            let words: Vec<String> = line.split(' ').map(|word| word.replace('\t', " ")).collect();
            if !is_there(&words[0]) {
                continue;
            }
            let _ = std::fs::remove_file(&out);
            let ran = Command::new(&words[0]).args(&words[1..]).stdin(Stdio::null()).output();
            let ran = ran.await.unwrap();
            assert!(ran.status.success(), "{line}: {ran:?}");
            assert_eq!(std::fs::read(&out).unwrap(), image(size), "{line}");
        }
    }
    world.end().await;
}

const CLIENTS: [&str; 7] = [
    "curl -s tftp://127.0.0.1:PORT/FILE -o OUT",
    "curl -s --tftp-blksize 1468 tftp://127.0.0.1:PORT/FILE -o OUT",
    "curl -s --tftp-no-options tftp://127.0.0.1:PORT/FILE -o OUT",
    "tftp -m binary 127.0.0.1 PORT -c get FILE OUT",
    "atftp -g -r FILE -l OUT 127.0.0.1 PORT",
    "atftp --option windowsize\t8 --option blksize\t1468 -g -r FILE -l OUT 127.0.0.1 PORT",
    "busybox tftp -b 1468 -g -r FILE -l OUT 127.0.0.1 PORT",
];

/// Where tests must not be skipped (`CI=true`), a missing program is a failure.
fn is_there(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    assert!(found || std::env::var_os("CI").is_none(), "{program} is not installed");
    found
}
