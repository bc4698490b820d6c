//! A line of simulated devices that boot for real (DHCP, TFTP, HTTP, the served script in a shell), while the agent is
//! killed at random moments and its broker is stopped and started.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;

use serde_json::Value;

use crate::agent::{PATIENCE, lines_of, run, sequence};
use crate::broker::{Mosquitto, Subscriber};
use crate::net::Net;
use crate::restart::{Dice, check, hear};

const DEVICES: usize = 20;
const KILLS: usize = 5;
const FIRST: &str = "02:00:00:10:00:00";

/// `mqtt` is a word or a YAML map.
fn config(folder: &Path, mqtt: &str) {
    let bootfiles = folder.join("bootfiles");
    fs::create_dir(&bootfiles).unwrap();
    for name in ["start4.elf", "fixup4.dat", "kernel.img", "scriptexecute.img", "bcm2711-rpi-cm4.dtb"] {
        fs::write(bootfiles.join(name), vec![1; 50_000]).unwrap();
    }
    let text = format!(
        "station: {{id: st-test}}\nnetwork: {{interface: br0, address: 192.168.5.1/16}}\n\
         sessions: {{silence: 5s, max_attempts: 50}}\nbus: {{mqtt: {mqtt}}}\n\
         data: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    fs::write(folder.join("bootline.yml"), text).unwrap();
}

struct Line {
    net: Net,
    folder: tempfile::TempDir,
    agent: Option<Child>,
}

impl Line {
    fn start(&mut self) {
        let (child, lines) = run(self.net.command(env!("CARGO_BIN_EXE_bootline")), self.folder.path());
        self.agent = Some(child);
        while !lines.recv_timeout(PATIENCE).expect("the agent gets ready").ends_with(" ready") {}
    }

    fn kill(&mut self) {
        let mut agent = self.agent.take().expect("it runs");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn curl(&self, arguments: &[&str], path: &str) -> Value {
        let output = self
            .net
            .command("curl")
            .args(["-s", "-S"])
            .args(arguments)
            .arg(format!("http://127.0.0.1:8080{path}"))
            .output()
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{path}: {error}: {output:?}"))
    }

    /// Takes in a small image and a project that gives it to every device.
    fn project(&self) {
        let image = self.folder.path().join("a.img");
        fs::write(&image, vec![9; 1 << 20]).unwrap();
        self.curl(&["--data-binary", &format!("@{}", image.display())], "/api/v1/images?name=a.img");
        self.curl(&["-d", r#"{"name":"Fleet","image":"a.img","again":"allow","active":true}"#], "/api/v1/projects");
    }

    /// Powers devices on; the last line is the result.
    fn power(&self, devices: usize) -> (Child, Receiver<String>) {
        let count = devices.to_string();
        let mut simulate: Command = self.net.command(env!("CARGO_BIN_EXE_bootline"));
        simulate.args([
            "simulate",
            "--devices",
            &count,
            "--interface",
            "br0",
            "--first",
            FIRST,
            "--medium-size",
            "1MiB",
            "--timeout",
            "90",
            "--json",
        ]);
        let mut child = simulate.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = lines_of(child.stdout.take().unwrap());
        (child, lines)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(agent) = &mut self.agent {
            let _ = agent.kill();
            let _ = agent.wait();
        }
    }
}

/// Cuts the power of the agent, and of the broker now and then, while the devices boot.
fn disturb(line: &mut Line, broker: &mut Mosquitto, subscriber: &Subscriber, heard: &mut Vec<Value>) {
    let mut dice = Dice::new();
    for round in 0..KILLS {
        hear(subscriber, heard, 1 + dice.throw(25));
        if round % 2 == 0 {
            broker.stop();
        }
        line.kill();
        if round % 2 == 0 {
            broker.resume();
        }
        line.start();
    }
}

#[test]
fn a_fleet_that_boots_through_power_cuts_leaves_a_whole_history() {
    let Some(net) = Net::make() else { return };
    let mut broker = Mosquitto::start_by(net.door());
    let subscriber = broker.subscribe("bootline/v1/st-test/evt/#");
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), &format!("{{url: 'mqtt://127.0.0.1:{}'}}", broker.port));
    let mut line = Line { net, folder, agent: None };
    line.start();
    line.project();

    let mut heard = Vec::new();
    let (mut disturbed, _) = line.power(DEVICES);
    disturb(&mut line, &mut broker, &subscriber, &mut heard);
    // Some of them may have failed: then they say so, and the next power-on mends it.
    disturbed.wait().unwrap();
    let (mut calm, lines) = line.power(DEVICES);
    let result: Value = serde_json::from_str(&lines.iter().last().unwrap()).unwrap();
    assert!(calm.wait().unwrap().success(), "{result}");

    let journal = line.curl(&[], "/api/v1/events?limit=1000")["events"].as_array().unwrap().clone();
    assert!(journal.len() < 1000, "one page holds it all");
    let newest = sequence(journal.last().unwrap());
    while heard.iter().map(sequence).max() != Some(newest) {
        heard.push(subscriber.next());
    }
    check(&journal, &heard, DEVICES);
    for session in line.curl(&[], "/api/v1/sessions?limit=1000")["sessions"].as_array().unwrap() {
        assert!(!session["outcome"].is_null(), "a session without an outcome: {session}");
    }
}

/// `what name result` of each row of a timeline.
fn rows(page: &Value) -> Vec<String> {
    let timeline = page["timeline"].as_array().unwrap_or_else(|| panic!("{page}"));
    let word = |moment: &Value, field: &str| moment[field].as_str().unwrap().to_owned();
    timeline.iter().map(|row| format!("{} {} {}", word(row, "what"), word(row, "name"), word(row, "result"))).collect()
}

#[test]
fn a_session_shows_how_its_device_came_up() {
    let Some(net) = Net::make() else { return };
    let folder = tempfile::tempdir().unwrap();
    config(folder.path(), "off");
    let mut line = Line { net, folder, agent: None };
    line.start();
    line.project();
    let (mut device, _) = line.power(1);
    assert!(device.wait().unwrap().success());

    let path = format!("/api/v1/devices/{}", FIRST.replace(':', ""));
    let begun = std::time::Instant::now();
    // The boot files of the last second come a second later.
    let known = loop {
        let known = line.curl(&[], &path);
        if rows(&known).iter().any(|row| row.ends_with("scriptexecute.img sent")) {
            break known;
        }
        assert!(begun.elapsed() < PATIENCE, "{known}");
    };
    let boot = &known["device"]["boot"];
    assert!(boot["files"].as_u64() >= Some(3) && boot["missing"].as_u64() >= Some(1), "{boot}");
    assert!(boot["bytes"].as_u64() >= Some(150_000), "{boot}");

    let id = known["sessions"][0]["session"].as_str().unwrap();
    let session = line.curl(&[], &format!("/api/v1/sessions/{id}"));
    let shown = rows(&session);
    assert_eq!(shown[0], "boot dhcp ");
    let position = |row: &str| {
        shown.iter().position(|shown| shown.starts_with(row)).unwrap_or_else(|| panic!("no {row}: {shown:?}"))
    };
    let order = [
        "boot dhcp",
        "dhcp discover offer 192.168.",
        "dhcp request ack 192.168.",
        "file ",
        "script scriptexecute started",
    ];
    assert!(order.windows(2).all(|pair| position(pair[0]) < position(pair[1])), "{shown:?}");
    assert!(shown.iter().any(|row| row.starts_with("file ") && row.ends_with(" missing")), "{shown:?}");
    let kernel = session["timeline"]
        .as_array()
        .unwrap()
        .iter()
        .find(|row| row["name"].as_str().unwrap().ends_with("start4.elf") && row["result"] == "sent");
    assert_eq!(kernel.unwrap()["bytes"], 50_000);
    assert!(session["timeline"].as_array().unwrap().iter().all(|row| row["at"].is_string()));

    let events = line.curl(&[], "/api/v1/events?limit=1000");
    let of = |kind: &str| {
        let found = events["events"].as_array().unwrap().iter().find(|event| event["type"] == kind);
        found.unwrap_or_else(|| panic!("no {kind}"))["data"].clone()
    };
    let (discovered, started) = (of("io.bootline.device.discovered.v1"), of("io.bootline.device.started.v1"));
    assert_eq!(
        (discovered["model"].as_str(), discovered["memory_mb"].as_u64()),
        (Some("CM4"), Some(4096)),
        "{discovered}"
    );
    let told = &started["boot"];
    assert_eq!((&told["via"], &told["address"]), (&"dhcp".into(), &discovered["address"]), "{told}");
    assert!(told["duration_ms"].as_u64() > Some(0) && told["discovered_at"].is_string(), "{told}");
}
