//! Real clients, a real relay agent, and beside a real server.

use tokio::process::ChildStderr;

use super::wire::{Serving, Wire, busy_ledger, in_network, mac_of, reply, station, until};
use super::*;
use crate::core::device::Mac;
use crate::core::observation::Input;
use crate::dhcp::packet::{Kind, code};

const LAST: Ipv4Addr = Ipv4Addr::new(172, 20, 0, 40);
/// That of the golden CM4.
const PI: Mac = Mac::new([0xe4, 0x5f, 0x01, 0x11, 0x22, 0x33]);

#[test]
fn a_device_has_one_address_in_its_bootloader_and_in_any_linux() {
    if has(&["dhclient", "dhcpcd", "busybox"]) {
        again_in_a_network("dhcp::tests::clients::one_address_in_a_network_of_its_own");
    }
}

#[test]
fn behind_a_relay_agent_a_device_is_served_and_its_socket_is_known() {
    if has(&["dhcrelay", "busybox"]) {
        again_in_a_network("dhcp::tests::clients::relay_in_a_network_of_its_own");
    }
}

#[test]
fn beside_dnsmasq_the_addresses_are_its_and_the_boot_is_ours() {
    if has(&["dnsmasq", "busybox"]) {
        again_in_a_network("dhcp::tests::clients::beside_dnsmasq_in_a_network_of_its_own");
    }
}

/// In CI nothing is skipped: `tests/run` installs what is needed.
fn has(programs: &[&str]) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    let is_there = |program: &&&str| path.split(':').any(|folder| Path::new(folder).join(program).exists());
    let missing: Vec<_> = programs.iter().filter(|program| !is_there(program)).collect();
    assert!(missing.is_empty() || std::env::var_os("CI").is_none(), "{missing:?} is not installed");
    if !missing.is_empty() {
        eprintln!("skipped, because {missing:?} is not installed");
    }
    missing.is_empty()
}

fn errors(child: &mut Child) -> tokio::io::Lines<BufReader<ChildStderr>> {
    BufReader::new(child.stderr.take().unwrap()).lines()
}

fn as_pi() -> Settings {
    Settings { serve: Serve::Pi, pool: CLIENT..=LAST, ..settings() }
}

/// The bootloader's way to its address.
async fn boot(wire: &Wire) -> Ipv4Addr {
    let discover = bytes(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    wire.ask(&discover, PI, Some(())).await;
    let offer = reply(wire, Kind::Offer).await;
    wire.ask(&request(offer.yiaddr, SERVER), PI, Some(())).await;
    let ack = reply(wire, Kind::Ack).await;
    assert_eq!((ack.yiaddr, ack.option(code::RELAY_AGENT)), (offer.yiaddr, None));
    ack.yiaddr
}

fn request(address: Ipv4Addr, from: Ipv4Addr) -> Vec<u8> {
    let mut request = golden(include_str!("../../../tests/vectors/dhcp/pi4-request.hex"));
    for (code, value) in &mut request.options {
        match *code {
            code::REQUESTED_ADDRESS => *value = address.octets().to_vec(),
            code::SERVER_ID => *value = from.octets().to_vec(),
            _ => {}
        }
    }
    request.encode()
}

/// The address that BusyBox gets; it sends a client id of type and MAC.
async fn udhcpc(at: &str, folder: &Path) -> String {
    let script = folder.join("bound");
    std::fs::write(&script, "#!/bin/sh\necho $1 $ip\n").unwrap();
    run(&format!("chmod +x {}", script.display())).await;
    let mut client = spawn(&format!("{at} busybox udhcpc -i device -f -q -t 5 -T 1 -s {}", script.display()));
    let mut lines = BufReader::new(client.stdout.take().unwrap()).lines();
    let bound = until(&mut lines, "bound ").await;
    client.wait().await.unwrap();
    bound
}

async fn dress(at: &str) {
    for change in ["down", "address e4:5f:01:11:22:33", "up"] {
        run(&format!("{at} ip link set device {change}")).await;
    }
}

#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn one_address_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, at) = cable().await;
    dress(&at).await;
    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    let ledger = busy_ledger(folder.path(), LAST).await;
    let serving = Serving::start(as_pi(), &ledger);
    let address = boot(&Wire::open(board.id().unwrap(), station())).await;

    assert_eq!(udhcpc(&at, folder.path()).await, format!("bound {address}"));

    // dhclient sends no client id unless it is told to.
    let at_home = |name: &str| folder.path().join(name).display().to_string();
    let files = format!("-lf {} -pf {} -cf /dev/null", at_home("dhclient.leases"), at_home("dhclient.pid"));
    let mut client = spawn(&format!("{at} dhclient -1 -d -v -sf /bin/true {files} device"));
    until(&mut errors(&mut client), &format!("bound to {address} ")).await;
    client.kill().await.unwrap();

    // dhcpcd sends one made of a random number. Its own folders must not be those of this machine.
    let script = "mount -t tmpfs none /var/lib/dhcpcd; mount -t tmpfs none /run; \
                  exec dhcpcd -4 -1 -B -A -D -f /dev/null --noipv4ll --script /bin/true device";
    let home = folder.path().join("dhcpcd");
    std::fs::write(&home, script).unwrap();
    let mut client = spawn(&format!("{at} unshare -m sh {}", home.display()));
    until(&mut errors(&mut client), &format!("leased {address} ")).await;
    client.wait().await.unwrap();

    serving.end().await;
    interface.close().await;
    board.kill().await.unwrap();
}

/// The device's cable ends at a relay agent, which adds the name of its interface as option 82.
#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn relay_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    run("ip link add station type veth peer name uplink").await;
    run("ip link add device type veth peer name downlink").await;
    let (mut board, mut relay) = (other_network().await, other_network().await);
    let [at, between] = [&board, &relay].map(|other| format!("nsenter -t {} -n", other.id().unwrap()));
    run(&format!("ip link set device netns {}", board.id().unwrap())).await;
    dress(&at).await;
    for (name, address) in [("uplink", "172.20.0.2/16"), ("downlink", "172.20.0.3/32")] {
        run(&format!("ip link set {name} netns {}", relay.id().unwrap())).await;
        run(&format!("{between} ip addr add {address} dev {name}")).await;
        run(&format!("{between} ip link set {name} up")).await;
    }
    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    let ledger = busy_ledger(folder.path(), LAST).await;
    let serving = Serving::start(as_pi(), &ledger);
    // -D: a reply without the option that was added is dropped.
    let mut agent = spawn(&format!("{between} dhcrelay -4 -d -a -D -iu uplink -id downlink {SERVER}"));
    until(&mut errors(&mut agent), "Sending on   Socket/fallback").await;

    let down = in_network(relay.id().unwrap(), || mac_of("downlink"));
    let wire = Wire::open(board.id().unwrap(), down);
    let address = boot(&wire).await;
    wire.ask(&request(Ipv4Addr::new(172, 20, 9, 9), SERVER), PI, Some(())).await;
    let nak = reply(&wire, Kind::Nak).await;
    assert_eq!(nak.yiaddr, Ipv4Addr::UNSPECIFIED);
    assert_eq!(udhcpc(&at, folder.path()).await, format!("bound {address}"));

    let mut news = ledger.follow(0);
    let mut seen = String::new();
    while !seen.contains("device.discovered") {
        seen = news.next().await.unwrap().iter().map(|event| String::from_utf8_lossy(&event.body)).collect();
    }
    assert!(seen.contains(r#""circuit":"downlink""#), "{seen}");
    serving.end().await;
    interface.close().await;
    for child in [&mut agent, &mut relay, &mut board] {
        child.kill().await.unwrap();
    }
}

/// A switch of three sockets: the station, the device, and another machine with dnsmasq.
#[tokio::test]
#[ignore = "needs a network namespace of its own"]
async fn beside_dnsmasq_in_a_network_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    let (mut board, mut other) = (other_network().await, other_network().await);
    let [at, there] = [&board, &other].map(|other| format!("nsenter -t {} -n", other.id().unwrap()));
    run("ip link add station type bridge forward_delay 0").await;
    for (port, name, network) in [("one", "device", &board), ("two", "lan", &other)] {
        run(&format!("ip link add {port} type veth peer name {name}")).await;
        run(&format!("ip link set {name} netns {}", network.id().unwrap())).await;
        run(&format!("ip link set {port} master station up")).await;
    }
    dress(&at).await;
    run(&format!("{there} ip addr add 172.20.0.9/16 dev lan")).await;
    run(&format!("{there} ip link set lan up")).await;
    let files = ["leases", "pid"].map(|name| folder.path().join(name).display().to_string());
    let files = format!("--dhcp-leasefile={} --pid-file={}", files[0], files[1]);
    let range = "--dhcp-range=172.20.0.100,172.20.0.110,120 --no-ping";
    let only = "--port=0 --interface=lan --bind-interfaces -u root -g root -C /dev/null";
    let mut dnsmasq = spawn(&format!("{there} dnsmasq -d {only} {range} {files}"));
    let mut said = errors(&mut dnsmasq);
    until(&mut said, "sockets bound exclusively to interface lan").await;
    // It stops when nobody reads what it says.
    let reader = tokio::spawn(async move { while let Ok(Some(_)) = said.next_line().await {} });

    let interface = Interface::open("station").unwrap();
    interface.claim(SERVER, 16).await.unwrap();
    let ledger = busy_ledger(folder.path(), LAST).await;
    let serving = Serving::start(Settings { role: Role::Proxy, ..as_pi() }, &ledger);
    let lan = in_network(other.id().unwrap(), || mac_of("lan"));
    let (ours, theirs) = (Wire::open(board.id().unwrap(), station()), Wire::open(board.id().unwrap(), lan));

    let discover = bytes(include_str!("../../../tests/vectors/dhcp/pi4-discover.hex"));
    let proxied = golden(include_str!("../../../tests/vectors/dhcp/pi4-proxy-offer.hex"));
    ours.ask(&discover, PI, Some(())).await;
    assert_eq!(reply(&ours, Kind::Offer).await, proxied);
    let offer = theirs.reply().await;
    theirs.ask(&request(offer.yiaddr, Ipv4Addr::new(172, 20, 0, 9)), PI, Some(())).await;
    assert_eq!(theirs.reply().await.yiaddr, offer.yiaddr);
    let noted = tokio::time::timeout(Duration::from_secs(10), async {
        while ledger.tenant(offer.yiaddr).is_none() {
            ledger.submit(Input::Tick).await.unwrap();
        }
    });
    noted.await.expect("the address that the other server gave is noted");
    assert_eq!(ledger.tenant(offer.yiaddr).map(|tenant| tenant.mac), Some(PI));

    // Linux has its address from there, and from here not a word.
    assert!(udhcpc(&at, folder.path()).await.starts_with("bound 172.20.0.1"));
    ours.ask(&discover, PI, Some(())).await;
    assert_eq!(reply(&ours, Kind::Offer).await, proxied);
    serving.end().await;
    interface.close().await;
    reader.abort();
    for child in [&mut dnsmasq, &mut other, &mut board] {
        child.kill().await.unwrap();
    }
}
