//! Switches, places and power, with Debian's `snmpd` as the switch.

use std::fmt::Write as _;
use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent};
use crate::board::FakeBoard;

struct Switch {
    child: Child,
    address: String,
    folder: tempfile::TempDir,
}

impl Drop for Switch {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Switch {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let vectors = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/snmp");
        let mut text = format!("agentaddress udp:{address}\nrocommunity public\nrwcommunity private\n");
        for part in ["1.3.6.1.2.1.17", "1.3.6.1.2.1.2", "1.3.6.1.2.1.31", "1.3.6.1.2.1.105"] {
            let (agent, table) = (vectors.join("agent"), vectors.join("vlans.txt"));
            writeln!(text, "pass_persist -p 1 .{part} {} {}", agent.display(), table.display()).unwrap();
        }
        fs::write(folder.path().join("snmpd.conf"), text).unwrap();
        fs::write(folder.path().join("write"), "private\n").unwrap();
        let child = Command::new("snmpd")
            .args(["-f", "-Lf", "/dev/null", "-C", "-I", "-interface,ifTable,ifXTable", "-c"])
            .arg(folder.path().join("snmpd.conf"))
            .env("SNMP_PERSISTENT_DIR", folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("snmpd is installed");
        Self { child, address, folder }
    }

    /// What stands in the configuration of the agent.
    fn entry(&self) -> String {
        format!(
            "- {{name: sw1, address: '{}', timeout: 3s, poe: {{}}, write_community_file: {}}}",
            self.address,
            self.folder.path().join("write").display()
        )
    }
}

/// An agent whose configuration has more than the usual.
fn agent(more: &str) -> TestAgent {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert!(agent.stop().success());
    let path = agent.folder.path().join("bootline.yml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{more}\n")).unwrap();
    agent.restart();
    agent
}

/// The first event of this type, once it is there.
fn await_event(agent: &TestAgent, name: &str) -> Value {
    let wanted = format!("io.bootline.{name}.v1");
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(event) = agent.events().into_iter().find(|event| event["type"] == wanted.as_str()) {
            return event;
        }
        assert!(Instant::now() < end, "no {name} in {:#?}", agent.events());
    }
}

fn board(agent: &TestAgent, mac: &str) -> FakeBoard {
    FakeBoard { mac: mac.to_owned(), ..FakeBoard::new(agent.devices, 1) }
}

#[test]
fn the_port_comes_as_an_event_and_power_follows_a_command() {
    let switch = Switch::start();
    let more = format!(
        "switches:\n  {}\nslots:\n  - {{name: bench-3, switch: sw1, port: 'bench 3'}}\n  - {{name: wire, switch: sw1, port: '24'}}\n\
         power: {{pause: 1s}}",
        switch.entry()
    );
    let agent = agent(&more);
    let id = agent.image("a.img", &[7; 4096]);
    agent.project("Gateway", &id);
    let board = board(&agent, "e45f01112233");
    assert_eq!(board.ask(1 << 30).unwrap().status, 200);

    let located = await_event(&agent, "device.located");
    assert_eq!(located["data"]["slot"], "bench-3", "{located}");
    assert_eq!(located["data"]["switch_port"], json!({"switch": "sw1", "port": "3", "alias": "bench 3", "number": 3}));
    let session = located["data"]["session"].as_str().unwrap();
    let shown = agent.get(&format!("/api/v1/sessions/{session}")).json();
    assert_eq!(shown["slot"].as_str().or_else(|| shown["session"]["slot"].as_str()), Some("bench-3"), "{shown}");

    let answer = agent.post("/api/v1/slots/bench-3/power", &json!({"action": "off"}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    assert_eq!(await_event(&agent, "slot.powered")["data"]["action"], "off");
    let slots = agent.get("/api/v1/slots").json();
    let slot = slots["slots"].as_array().unwrap().iter().find(|slot| slot["slot"] == "bench-3").unwrap();
    assert_eq!((slot["power"].as_str(), slot["configured"].as_bool()), (Some("off"), Some(true)), "{slot}");

    // Neither an uplink nor a place without a switch.
    let answer = agent.post("/api/v1/slots/wire/power", &json!({"action": "off"}));
    assert_eq!(answer.status, 202, "{}", answer.text());
    let failed = await_event(&agent, "slot.power.failed");
    assert!(failed["data"]["detail"].as_str().unwrap().contains("leads to another switch"), "{failed}");
    for (path, body, status, code) in [
        ("/api/v1/slots/nowhere/power", json!({"action": "on"}), 404, "not_found"),
        ("/api/v1/slots/bench-3/power", json!({"action": "explode"}), 400, "invalid_params"),
        ("/api/v1/slots/a%20b/power", json!({"action": "on"}), 400, "invalid_params"),
        ("/api/v1/slots/bench-3/release", json!({}), 409, "wrong_state"),
        ("/api/v1/devices/020000000009/power_cycle", json!({}), 404, "not_found"),
    ] {
        let answer = agent.post(path, &body);
        assert_eq!((answer.status, answer.json()["code"].as_str()), (status, Some(code)), "{path}: {}", answer.text());
    }

    let mut table = Command::new(env!("CARGO_BIN_EXE_bootline"));
    table.args(["switch", "test", "--config"]).arg(agent.folder.path().join("bootline.yml"));
    let output = table.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("e45f01112233") && text.contains("bench-3") && text.contains("uplink"), "{text}");
    let checked = String::from_utf8(agent.command(&["check"]).stdout).unwrap();
    assert!(checked.contains(&format!("switches       sw1 at {} answers", switch.address)), "{checked}");
    agent.finish();
}

#[test]
fn a_switch_that_is_away_is_an_alarm_and_delays_nobody() {
    let nobody = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = nobody.local_addr().unwrap();
    let agent = agent(&format!("switches:\n  - {{name: sw1, address: '{address}', timeout: 200ms, retries: 0}}"));
    let id = agent.image("a.img", &[7; 4096]);
    agent.project("Gateway", &id);
    let answer = FakeBoard::new(agent.devices, 5).provision(1 << 30).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text());
    let alarm = await_event(&agent, "station.alarm.raised");
    assert_eq!(alarm["data"]["code"], "switch.sw1");
    assert!(alarm["data"]["detail"].as_str().unwrap().contains("does not answer"), "{alarm}");
    assert_eq!(await_event(&agent, "device.provisioned")["data"]["slot"], Value::Null);
    agent.finish();
}

#[test]
fn a_slot_that_fails_again_and_again_is_closed_until_it_is_released() {
    let switch = Switch::start();
    let agent = agent(&format!("switches:\n  {}\nplaces: {{quarantine_after: 2}}", switch.entry()));
    let id = agent.image("a.img", &[7; 4096]);
    agent.project("Gateway", &id);
    let board = board(&agent, "e45f01112233");
    for attempt in 1..=2 {
        let orders = crate::board::Orders::read(&board.ask(1 << 30).unwrap().text());
        await_event(&agent, "device.located");
        board.report(&orders, "step=write&state=started").unwrap();
        let answer = board.report(&orders, "step=write&state=failed&code=write.medium&detail=dead").unwrap();
        assert_eq!(answer.status, 200, "attempt {attempt}: {}", answer.text());
    }
    let metrics = agent.get("/metrics").text();
    let counted = r#"bootline_slot_sessions_ended_total{slot="sw1-3",outcome="failed"} 2"#;
    assert!(metrics.contains(counted), "{metrics}");
    assert_eq!(await_event(&agent, "slot.quarantined")["data"], json!({"slot": "sw1-3", "failures": 2}));
    let refused = board.ask(1 << 30).unwrap();
    assert!(refused.text().contains("slot.release"), "{}", refused.text());
    assert_eq!(await_event(&agent, "device.refused")["data"]["code"], "slot_quarantined");
    let answer = agent.post("/api/v1/slots/sw1-3/release", &json!({}));
    assert_eq!(answer.status, 200, "{}", answer.text());
    await_event(&agent, "slot.released");
    assert!(board.ask(1 << 30).unwrap().text().contains("REPORT_URL="));
    agent.finish();
}

/// A named place, and power that the station cycles by itself.
fn automatic(switch: &Switch) -> String {
    format!(
        "switches:\n  {}\nslots:\n  - {{name: bench-3, switch: sw1, port: 'bench 3'}}\n\
         power: {{pause: 1s, automatic: {{after: 1s, times: 2, pause: 1s}}}}",
        switch.entry()
    )
}

fn count(agent: &TestAgent, name: &str) -> usize {
    let wanted = format!("io.bootline.{name}.v1");
    agent.events().iter().filter(|event| event["type"] == wanted.as_str()).count()
}

fn await_count(agent: &TestAgent, name: &str, wanted: usize) {
    let end = Instant::now() + PATIENCE;
    while count(agent, name) < wanted {
        assert!(Instant::now() < end, "no {wanted} {name} in {:#?}", agent.events());
    }
}

#[test]
fn a_device_that_does_not_come_back_is_given_power_anew_twice_also_over_a_restart() {
    let switch = Switch::start();
    let mut agent = agent(&automatic(&switch));
    agent.project("Gateway", &agent.image("a.img", &[7; 4096]));
    let board = board(&agent, "e45f01112233");
    let orders = crate::board::Orders::read(&board.ask(1 << 30).unwrap().text());
    assert_eq!(await_event(&agent, "device.located")["data"]["slot"], "bench-3");
    board.report(&orders, "step=write&state=started").unwrap();
    board.report(&orders, "step=write&state=failed&code=write.medium&detail=dead").unwrap();

    let asked = await_event(&agent, "slot.power.requested");
    crate::contract::Contract::get().event(&asked);
    let data = &asked["data"];
    assert_eq!(
        (&data["slot"], &data["action"], &data["device"], &data["by"], &data["reason"]),
        (&json!("bench-3"), &json!("cycle"), &json!(board.mac), &json!("bootline"), &json!("retry"))
    );
    await_count(&agent, "slot.powered", 1);
    agent.kill();
    agent.restart();
    await_count(&agent, "slot.powered", 2);
    let alarm = await_event(&agent, "station.alarm.raised");
    assert_eq!(alarm["data"]["code"], "slot.bench-3");
    assert!(alarm["data"]["detail"].as_str().unwrap().contains("cycled 2 times"), "{alarm}");
    assert_eq!(count(&agent, "slot.power.requested"), 2, "one before the restart and one after");

    assert!(board.ask(1 << 30).unwrap().text().contains("REPORT_URL="));
    await_event(&agent, "station.alarm.cleared");
    agent.finish();
}

/// Asks for power of bench-3.
fn ask(agent: &TestAgent, action: &str) {
    let answer = agent.post("/api/v1/slots/bench-3/power", &json!({"action": action}));
    assert_eq!(answer.status, 202, "{}", answer.text());
}

/// What was done with power, in its order.
fn done(agent: &TestAgent) -> Vec<Value> {
    let events = agent.events();
    let powered = events.iter().filter(|event| event["type"] == "io.bootline.slot.powered.v1");
    powered.map(|event| event["data"]["action"].clone()).collect()
}

#[test]
fn a_port_does_not_stay_without_power_when_the_station_ends_in_the_middle_of_a_cycle() {
    let switch = Switch::start();
    let named = "slots:\n  - {name: bench-3, switch: sw1, port: 'bench 3'}\npower: {pause: 1h}";
    let mut agent = agent(&format!("switches:\n  {}\n{named}", switch.entry()));
    ask(&agent, "cycle");
    // It waits for the end of the cycle.
    ask(&agent, "off");
    await_count(&agent, "slot.power.requested", 2);
    agent.kill();
    agent.restart();
    await_count(&agent, "slot.powered", 2);
    assert_eq!(done(&agent), ["on", "off"], "the rest of the cycle, and then what came after it");
    // One that stops does not wait for the end of the pause.
    ask(&agent, "cycle");
    await_count(&agent, "slot.power.requested", 3);
    assert!(agent.stop().success());
    agent.restart();
    await_count(&agent, "slot.powered", 3);
    ask(&agent, "off");
    await_count(&agent, "slot.powered", 4);
    let actions = done(&agent);
    let whole = actions == ["on", "off", "cycle", "off"];
    assert!(whole || actions == ["on", "off", "on", "off"], "each is done once: {actions:?}");
    agent.finish();
}

#[test]
fn power_of_a_place_is_switched_in_the_order_in_which_it_was_asked_for() {
    let switch = Switch::start();
    let named = "slots:\n  - {name: bench-3, switch: sw1, port: 'bench 3'}\npower: {pause: 1s}";
    let agent = agent(&format!("switches:\n  {}\n{named}", switch.entry()));
    for action in ["cycle", "off", "on", "off"] {
        ask(&agent, action);
    }
    await_count(&agent, "slot.powered", 4);
    assert_eq!(done(&agent), ["cycle", "off", "on", "off"]);
    let slots = agent.get("/api/v1/slots").json();
    assert_eq!(slots["slots"][0]["power"], "off", "{slots}");
    agent.finish();
}

#[test]
fn a_device_without_a_script_is_shown_by_its_port() {
    let switch = Switch::start();
    let agent = agent(&format!("switches:\n  {}\npower: {{pause: 1s}}", switch.entry()));
    agent.project("Gateway", &agent.image("a.img", &[7; 4096]));
    let board = board(&agent, "e45f01112233");
    let orders = crate::board::Orders::read(&board.ask(1 << 30).unwrap().text());
    await_event(&agent, "device.located");
    board.report(&orders, "step=write&state=started").unwrap();
    let identify = || {
        let request = json!({"name": "device.identify", "params": {"device": board.mac}});
        let reply = agent.post("/api/v1/commands", &request).json();
        crate::contract::Contract::get().reply(&reply);
        reply["result"].clone()
    };
    assert_eq!(identify()["by"], "led");
    board.report(&orders, "step=write&state=failed&code=write.medium&detail=dead").unwrap();
    let shown = identify();
    assert_eq!((&shown["by"], &shown["slot"], &shown["port"]["number"]), (&json!("port"), &json!("sw1-3"), &json!(3)));
    let asked = await_event(&agent, "slot.power.requested");
    crate::contract::Contract::get().event(&asked);
    assert_eq!(asked["data"]["reason"], "identify");
    await_event(&agent, "slot.powered");
    agent.finish();
}

/// Answers of the switch come so much later. How often it was asked is counted.
fn behind(switch: &str, delay: Duration) -> (String, Arc<AtomicUsize>) {
    let [outside, inside] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").unwrap());
    inside.connect(switch).unwrap();
    let address = outside.local_addr().unwrap().to_string();
    let (peers, answered) = channel();
    let (back, asking) = (outside.try_clone().unwrap(), inside.try_clone().unwrap());
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        let mut buffer = [0; 65_000];
        while let Ok((length, peer)) = outside.recv_from(&mut buffer) {
            counted.fetch_add(1, Ordering::Relaxed);
            asking.send(&buffer[..length]).unwrap();
            peers.send((peer, Instant::now() + delay)).unwrap();
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 65_000];
        // snmpd answers one after the other, as it was asked.
        while let (Ok(length), Ok((peer, due))) = (inside.recv(&mut buffer), answered.recv()) {
            // Until the answer is due.
            thread::park_timeout(due.saturating_duration_since(Instant::now()));
            let _ = back.send_to(&buffer[..length], peer);
        }
    });
    (address, count)
}

/// A hundred devices at once: how long all of them take, and the slowest.
fn hundred(agent: &TestAgent) -> (Duration, Duration) {
    agent.project("Gateway", &agent.image("a.img", &[7; 4096]));
    let start = Instant::now();
    let boards = (1..=100).map(|n| FakeBoard::new(agent.devices, n));
    let journeys: Vec<_> = boards
        .map(|board| {
            thread::spawn(move || {
                let start = Instant::now();
                assert_eq!(board.provision(4096).unwrap().status, 200);
                start.elapsed()
            })
        })
        .collect();
    let slowest = journeys.into_iter().map(|journey| journey.join().unwrap()).max().unwrap();
    (start.elapsed(), slowest)
}

#[test]
fn a_hundred_devices_do_not_notice_a_switch_that_takes_five_seconds_to_answer() {
    let switch = Switch::start();
    let (late, questions) = behind(&switch.address, Duration::from_secs(5));
    let plain = agent("");
    let (all, slowest) = hundred(&plain);
    plain.finish();
    let slow = agent(&format!("switches:\n  - {{name: sw1, address: '{late}', timeout: 9s, retries: 0}}"));
    let (all_beside, slowest_beside) = hundred(&slow);
    assert!(questions.load(Ordering::Relaxed) > 0, "the switch was asked meanwhile");
    println!(
        "100 devices: {all:?}, slowest {slowest:?}; beside a switch that takes 5 s: {all_beside:?}, {slowest_beside:?}"
    );
    assert!(slowest_beside < slowest + Duration::from_millis(2500), "{slowest_beside:?} against {slowest:?}");
    slow.finish();
}
