//! A bootloader writes to the network, over a cable of the test's own, and whoever looks at the device reads it.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::Child;

use serde_json::Value;
use socket2::{Domain, Socket, Type};

use crate::agent::{PATIENCE, run};
use crate::net::Net;

const MAC: &str = "02:00:00:00:00:51";
const STRANGER: &str = "02:00:00:00:00:52";

/// Three ends of a network: the station's, a device's and a stranger's, of which the last two have the same address.
fn wire(net: &Net) {
    let device = |name: &str, mac: &str| {
        format!(
            "ip link add {name} address {mac} type veth peer name {name}-port && ip link set {name}-port master br0 up && \
             ip link set {name} up && ip addr add 169.254.1.1/16 dev {name}"
        )
    };
    let script = format!("{} && {}", device("device", MAC), device("stranger", STRANGER));
    assert!(net.command("sh").args(["-c", &script]).status().unwrap().success());
}

fn config(folder: &Path, netconsole: &str) {
    fs::create_dir_all(folder.join("bootfiles")).unwrap();
    let text = format!(
        "network: {{interface: br0, address: 10.9.0.1/24, dhcp: {{mode: off}}, netconsole: {netconsole}}}\n\
         bus: {{mqtt: off}}\ndata: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    fs::write(folder.join("bootline.yml"), text).unwrap();
}

/// Sends as a bootloader does: broadcast, from an address that it shares with all others.
fn write(net: &Net, from: &str, fragments: &[&str]) {
    let mut inside = net.command(std::env::current_exe().unwrap().to_str().unwrap());
    inside.args(["--exact", "netconsole::a_bootloader_inside", "--ignored"]);
    let said = inside.env("FROM", from).env("FRAGMENTS", fragments.join("|")).output().unwrap();
    assert!(said.status.success(), "{said:?}");
}

#[test]
#[ignore = "a part of the test below, inside its network"]
fn a_bootloader_inside() {
    let socket = Socket::new(Domain::IPV4, Type::DGRAM, None).unwrap();
    socket.bind_device(Some(std::env::var("FROM").unwrap().as_bytes())).unwrap();
    socket.set_broadcast(true).unwrap();
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(169, 254, 1, 1), 6665).into()).unwrap();
    for fragment in std::env::var("FRAGMENTS").unwrap().split('|') {
        socket.send_to(fragment.as_bytes(), &SocketAddrV4::new(Ipv4Addr::BROADCAST, 6666).into()).unwrap();
    }
}

/// Ends with the test, however that ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(net: &Net, url: &str) -> Vec<u8> {
    net.command("curl").args(["-s", "-S", "--max-time", "10", url]).output().unwrap().stdout
}

/// The console lines of a device, as soon as there are so many.
fn console(net: &Net, mac: &str, count: usize) -> Vec<String> {
    let begun = std::time::Instant::now();
    loop {
        let answer = get(net, &format!("http://127.0.0.1:8080/api/v1/devices/{}", mac.replace(':', "")));
        let device: Value = serde_json::from_slice(&answer).unwrap();
        let timeline = device["timeline"].as_array().unwrap_or_else(|| panic!("{device}"));
        let of_console = timeline.iter().filter(|moment| moment["what"] == "console");
        let lines: Vec<String> = of_console.map(|moment| moment["name"].as_str().unwrap().to_owned()).collect();
        if lines.len() >= count {
            return lines;
        }
        assert!(begun.elapsed() < PATIENCE, "{lines:?}");
    }
}

#[test]
fn what_a_bootloader_writes_is_read_in_the_timeline_of_its_device() {
    let Some(net) = Net::make() else { return };
    wire(&net);
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "on");
    let (agent, lines) = run(net.command(env!("CARGO_BIN_EXE_bootline")), folder.path());
    let _agent = Running(agent);
    while !lines.recv_timeout(PATIENCE).expect("the agent gets ready").ends_with(" ready") {}

    // The station knows a device once it has asked for something.
    let asked = get(&net, &format!("http://10.9.0.1/scriptexecute?serial=10000000a1b2c3d4&mac={MAC}"));
    assert!(!asked.is_empty());
    write(&net, "stranger", &["not mine\n"]);
    write(&net, "device", &["Boot mode: NET", "WORK (02)\n\nDHCP src: \x1b[31mnone\n", "waiting for link"]);
    let heard = console(&net, MAC, 3);
    assert_eq!(heard, ["Boot mode: NETWORK (02)", "DHCP src:  [31mnone", "waiting for link"]);
    let stranger = get(&net, &format!("http://127.0.0.1:8080/api/v1/devices/{}", STRANGER.replace(':', "")));
    assert!(String::from_utf8_lossy(&stranger).contains("not_found"), "a stranger leaves nothing");
}
