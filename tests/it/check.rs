//! `bootline check` as an operator meets it: in a network of the test's own, with real rivals and real holders of ports.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::agent::TestAgent;
use crate::net::Net;

struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A station on the bridge of the network.
fn station(folder: &Path, more: &str) {
    fs::create_dir_all(folder.join("bootfiles")).unwrap();
    let text = format!(
        "network: {{interface: br0, address: 10.77.0.1/24, dhcp: {{range: 10.77.0.10-10.77.0.99}}}}\n\
         bus: {{mqtt: embedded}}\n{more}data: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    fs::write(folder.join("bootline.yml"), text).unwrap();
}

/// A server that has said that it serves.
fn said(command: &mut Command, word: &str) -> Ended {
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let child = Ended(child);
    assert!(lines.any(|line| line.unwrap().contains(word)), "it says {word:?}");
    child
}

/// Exit code, and what was found: `level subject what`.
fn check(mut command: Command, folder: &Path) -> (i32, Vec<String>) {
    let output = command.arg("check").arg("--json").arg("--config").arg(folder.join("bootline.yml")).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"));
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap_or_default().to_owned();
    let found = report["findings"].as_array().unwrap().iter().map(|finding| {
        assert_eq!(finding["level"] == "ok", finding["advice"].is_null(), "{finding}");
        format!("{} {} {}", text(finding, "level"), text(finding, "subject"), text(finding, "what"))
    });
    (output.status.code().unwrap(), found.collect())
}

fn has(found: &[String], level: &str, subject: &str, what: &str) {
    let start = format!("{level} {subject} ");
    assert!(
        found.iter().any(|line| line.starts_with(&start) && line.contains(what)),
        "no {level} of {subject} with {what:?} in {found:#?}"
    );
}

#[test]
fn a_rival_and_a_taken_port_are_named_and_nothing_is_changed() {
    let Some(net) = Net::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "");
    let bootline = || net.command(env!("CARGO_BIN_EXE_bootline"));

    let (code, found) = check(bootline(), folder.path());
    assert_eq!(code, 1, "no boot files are there: {found:#?}");
    has(&found, "ok", "rights", "");
    has(&found, "ok", "address", "will be set");
    has(&found, "ok", "ports", "every port is free");
    has(&found, "fault", "boot files", "no model is prepared");
    assert!(!folder.path().join("data").exists(), "it changes nothing");

    // Another machine at the other end of a cable.
    let mut other = net.command("unshare").args(["--net", "--", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
    let pid = other.id().to_string();
    let _hold = other.stdin.take();
    let _other = Ended(other);
    let cable = format!(
        "until [ \"$(readlink /proc/{pid}/ns/net)\" != \"$(readlink /proc/self/ns/net)\" ]; do :; done; \
         ip link add cable type veth peer name rival && ip link set cable master br0 up && ip link set rival netns {pid}"
    );
    assert!(net.command("sh").args(["-c", &cable]).status().unwrap().success());
    let there = format!(
        "ip link set lo up && ip link set rival up && ip address add 10.77.0.2/24 dev rival && exec dnsmasq -d --port=0 \
         --interface=rival --no-ping --conf-file=/dev/null --dhcp-range=10.77.0.200,10.77.0.250 --dhcp-leasefile={}/leases",
        folder.path().display()
    );
    let mut rival = net.command("nsenter");
    let _rival = said(rival.args(["--net", "--target", &pid, "sh", "-c", &there]), "DHCP, IP range");
    let mut holder = net.command("dnsmasq");
    let holder =
        holder.args(["-d", "--port=0", "--interface=br0", "--conf-file=/dev/null", "--enable-tftp", "--tftp-root=/"]);
    let _holder = said(holder, "TFTP root is /");

    let (code, found) = check(bootline(), folder.path());
    assert_eq!(code, 1);
    has(&found, "fault", "dhcp", "10.77.0.2");
    has(&found, "fault", "ports", "is taken by dnsmasq");
}

#[test]
fn a_firewall_that_drops_what_devices_send_is_named() {
    let Some(net) = Net::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "");
    let rules = "nft add table inet filter && nft add chain inet filter input '{ type filter hook input priority 0; policy drop; }' \
                 && nft add rule inet filter input iifname br0 udp dport '{ 67, 68 }' accept";
    assert!(net.command("sh").args(["-c", rules]).status().unwrap().success(), "nft works in a namespace");
    let (_, found) = check(net.command(env!("CARGO_BIN_EXE_bootline")), folder.path());
    has(&found, "fault", "firewall", "TFTP of devices (udp 69 on br0) is dropped by the chain inet filter input");
    assert!(!found.iter().any(|line| line.contains("udp 67")), "{found:#?}");
}

#[test]
fn a_running_agent_is_known_and_its_database_examined() {
    let agent = TestAgent::start("{mqtt: off}");
    let (code, found) = check(Command::new(env!("CARGO_BIN_EXE_bootline")), agent.folder.path());
    has(&found, "ok", "ports", "bootline runs already");
    has(&found, "ok", "database", "is whole");
    has(&found, "note", "dhcp", "mode is off");
    has(&found, "note", "bus", "neither MQTT nor NATS");
    assert_eq!(code, 1, "without boot files nothing boots: {found:#?}");
    agent.finish();
}

#[test]
fn a_broken_file_and_a_table_for_people() {
    let folder = tempfile::tempdir().unwrap();
    station(folder.path(), "htp: {}\n");
    let run = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
        let output = command.arg("check").arg("--config").arg(folder.path().join("bootline.yml")).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    };
    let (code, _, said) = run();
    assert_eq!(code, 78);
    assert!(said.contains("htp") && said.contains("line"), "{said}");

    station(folder.path(), "");
    let (code, table, _) = run();
    assert_eq!(code, 1);
    for part in ["FAULT    interface      there is no network interface br0", "> set network.interface", "faults,"] {
        assert!(table.contains(part), "no {part:?} in\n{table}");
    }
}
