//! Golden packets, and the server with real clients in a network of its own.

mod clients;
mod wire;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::core::address::Pool;
use crate::core::floor::Deadlines;
use crate::dhcp::ask::{Role, Serve};
use crate::dhcp::boot::BootFiles;
use crate::dhcp::interface::{Claim, Interface, InterfaceError};
use crate::dhcp::packet::Message;
use crate::dhcp::{BindError, Dhcp, Settings};
use crate::ledger::{Clock, Ledger};

/// The bytes of a `.hex` file: hex digits, blanks, and lines that begin with `#`.
pub fn bytes(text: &str) -> Vec<u8> {
    let digits: String = text.lines().filter(|line| !line.starts_with('#')).collect();
    let digits: Vec<char> = digits.chars().filter(|digit| !digit.is_whitespace()).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&String::from_iter(pair), 16).unwrap()).collect()
}

pub fn golden(text: &str) -> Message {
    Message::parse(&bytes(text)).unwrap()
}

const SERVER: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 16);
const SECOND: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 17);

#[test]
fn a_real_client_gets_an_address_renews_it_and_gives_it_back() {
    again_in_a_network("dhcp::tests::lease_in_a_network_of_its_own");
}

#[test]
fn a_rival_server_is_told_and_an_address_that_somebody_has_is_not_given() {
    again_in_a_network("dhcp::tests::rival_in_a_network_of_its_own");
}

/// Runs a test again as root of a user and network namespace that end with it.
fn again_in_a_network(inner: &str) {
    let ran = std::process::Command::new("unshare")
        .args(["-Urn", "--kill-child", "--fork"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", inner, "--ignored", "--nocapture"])
        .output();
    let ran = ran.expect("unshare (util-linux) is not installed");
    let said = String::from_utf8_lossy(&ran.stdout) + String::from_utf8_lossy(&ran.stderr);
    if !said.contains("running 1 test") && std::env::var_os("CI").is_none() {
        eprintln!("skipped, because user namespaces are not allowed here: {said}");
        return;
    }
    assert!(ran.status.success(), "{said}");
}

#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn lease_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, at) = cable().await;
    let interface = Interface::open("station").unwrap();
    let claim = claim_and_claim_again(&interface).await;
    let ledger = ledger(folder.path(), CLIENT);
    let dhcp = Dhcp::bind(settings(), ledger.clone()).unwrap();
    let again = Dhcp::bind(settings(), ledger.clone()).map(drop).unwrap_err();
    assert_eq!(again.to_string(), "cannot bind dhcp socket on station port 67");
    let stop = CancellationToken::new();
    let server = tokio::spawn(dhcp.run(stop.clone()));

    lease_renew_release(&at, folder.path(), &ledger).await;

    stop.cancel();
    server.await.unwrap().unwrap();
    interface.give_back(claim).await.unwrap();
    assert!(interface.claim(SERVER, 16).await.unwrap().added);
    interface.close().await;
    board.kill().await.unwrap();
}

/// At the other end of the cable somebody has an address of the pool, and BusyBox serves another one.
#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn rival_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, at) = cable().await;
    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    run(&format!("{at} ip addr add 172.20.0.16/16 dev device")).await;
    let conf = folder.path().join("udhcpd.conf");
    let leases = folder.path().join("leases").display().to_string();
    let pool = "start 172.20.0.99\nend 172.20.0.99\ninterface device\n";
    std::fs::write(&conf, format!("{pool}lease_file {leases}\npidfile {leases}.pid\n")).unwrap();
    std::fs::write(&leases, "").unwrap();
    let mut rival = spawn(&format!("{at} busybox udhcpd -f {}", conf.display()));
    let mut said = BufReader::new(rival.stderr.take().unwrap()).lines();
    assert!(said.next_line().await.unwrap().unwrap().contains("started"));

    let ledger = ledger(folder.path(), SECOND);
    let dhcp = Dhcp::bind(settings(), ledger.clone()).unwrap();
    let stop = CancellationToken::new();
    let server = tokio::spawn(dhcp.run(stop.clone()));
    let mut news = ledger.follow(0);
    let alarm = news.next().await.unwrap().remove(0);
    assert_eq!(alarm.name, "station.alarm.raised");
    let body = String::from_utf8_lossy(&alarm.body).into_owned();
    assert!(body.contains("dhcp.rival_server") && body.contains("station: 172.20.0.16;"), "{body}");
    rival.kill().await.unwrap();

    // The lookout took seconds, the round through a pool of two only milliseconds.
    let script = folder.path().join("script");
    std::fs::write(&script, "#!/bin/sh\necho $1 $ip\n").unwrap();
    run(&format!("chmod +x {}", script.display())).await;
    let mut client = spawn(&format!("{at} busybox udhcpc -i device -f -q -t 5 -T 1 -s {}", script.display()));
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut given = String::new();
    while let Some(line) = lines.next_line().await.unwrap().filter(|_| given.is_empty()) {
        given = line.strip_prefix("bound ").unwrap_or_default().to_owned();
    }
    assert_eq!(given, "172.20.0.17");
    client.wait().await.unwrap();
    stop.cancel();
    server.await.unwrap().unwrap();
    interface.close().await;
    board.kill().await.unwrap();
}

/// The address is set, found the second time, and refused elsewhere.
async fn claim_and_claim_again(interface: &Interface) -> Claim {
    let claim = interface.claim(SERVER, 16).await.unwrap();
    assert!(claim.added && !interface.claim(SERVER, 16).await.unwrap().added);
    assert_eq!(interface.mtu().await.unwrap(), 1500);
    let loopback = Interface::open("lo").unwrap();
    let elsewhere = loopback.claim(SERVER, 16).await.unwrap_err().to_string();
    assert_eq!(elsewhere, "the address 172.20.0.1 wanted on lo is already on station");
    loopback.close().await;
    claim
}

/// The life of a lease as BusyBox leads it: bound, renewed by unicast, given back.
async fn lease_renew_release(at: &str, folder: &Path, ledger: &Ledger) {
    let script = folder.join("script");
    let log = folder.join("log").display().to_string();
    std::fs::write(&script, SCRIPT.replace("LOG", &log)).unwrap();
    run(&format!("chmod +x {}", script.display())).await;
    let command = format!("{at} busybox udhcpc -i device -f -R -t 5 -T 1 -s {}", script.display());
    let mut client = spawn(&command);
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let mut says = async |expected: &str| {
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some(expected));
    };
    says("bound 172.20.0.16 255.255.0.0 172.20.0.1 60").await;
    assert!(ledger.tenant(CLIENT).is_some());
    run(&format!("{at} busybox ping -c 1 -W 1 172.20.0.1")).await;
    run(&format!("kill -USR1 {}", client.id().unwrap())).await;
    says("renew 172.20.0.16 255.255.0.0 172.20.0.1 60").await;
    run(&format!("kill -USR2 {}", client.id().unwrap())).await;
    says("deconfig").await;
    client.kill().await.unwrap();
}

#[tokio::test]
async fn an_interface_that_is_not_there_is_told_with_those_that_are() {
    let missing = Interface::open("eth99").map(drop).unwrap_err();
    assert!(matches!(missing, InterfaceError::Missing { .. }));
    let text = BindError::from(missing).to_string();
    assert!(text.starts_with("there is no network interface eth99; this machine has lo"), "{text}");
}

/// Says what it was told and sets the address, as the script of the provisioning Linux does.
const SCRIPT: &str = "#!/bin/sh
case $1 in
bound) ip addr add $ip/$mask dev $interface; echo $1 $ip $subnet $router $lease ;;
renew) echo $1 $ip $subnet $router $lease ;;
deconfig) test ! -e LOG || echo $1; touch LOG ;;
esac
";

fn settings() -> Settings {
    Settings {
        interface: "station".to_owned(),
        server: SERVER,
        prefix_len: 16,
        pool: CLIENT..=SECOND,
        reserved: BTreeMap::new(),
        serve: Serve::All,
        role: Role::Server,
        boot: BootFiles::none(),
        port: 67,
        client_port: 68,
        boot_port: 4011,
    }
}

fn ledger(folder: &Path, last: Ipv4Addr) -> Ledger {
    let lease = Duration::from_secs(60);
    let settings = crate::core::floor::Settings {
        station: "st-01".to_owned(),
        version: "0".to_owned(),
        pool: Pool { server: SERVER, first: CLIENT, last, lease, reservations: BTreeMap::new() },
        max_attempts: 3,
        deadlines: Deadlines::default(),
        line: crate::core::slot::Line::default(),
    };
    Ledger::open(&folder.join("bootline.db"), "", settings, Clock::default()).unwrap().0
}

/// A cable from the interface `station` to `device` in another network, and how to run something there.
async fn cable() -> (Child, String) {
    run("ip link add station type veth peer name device").await;
    let board = other_network().await;
    let at = format!("nsenter -t {} -n", board.id().unwrap());
    run(&format!("ip link set device netns {}", board.id().unwrap())).await;
    run(&format!("{at} ip link set device up")).await;
    (board, at)
}

/// A process whose network is another one, for the device's end of the cable.
async fn other_network() -> Child {
    let mut child = Command::new("unshare")
        .args(["-n", "sh", "-c", "echo ready; exec cat"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
    child
}

fn spawn(command: &str) -> Child {
    let words: Vec<&str> = command.split(' ').collect();
    Command::new(words[0])
        .args(&words[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

async fn run(command: &str) {
    let child = spawn(command);
    let ran = child.wait_with_output().await.unwrap();
    assert!(ran.status.success(), "{command}: {ran:?}");
}
