//! Real traffic against the published schemas, closed: every event, reply, state and progress that comes out of the
//! broker, REST and the WebSocket of the built agent.

use std::collections::BTreeSet;
use std::process::Command;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, sequence};
use crate::board::{FakeBoard, Orders, sha256};
use crate::broker::{Mosquitto, Subscriber};
use crate::contract::Contract;
use crate::firmware::eeprom;
use crate::http;

const IMAGE: &[u8] = &[7; 4096];

/// They need a switch, or a place that has failed: `slots.rs` asks them.
const UNASKED: [&str; 3] = ["device.power_cycle", "slot.power", "slot.release"];

/// What does not come up in this traffic, and why. Whoever makes one of them come up takes it out of here; a new event
/// does not belong in here, but into the traffic below.
const UNMET: &[(&str, &str)] = &[
    ("events.lost", "a journal that has reached its size: core/floor/tests/delivery.rs"),
    ("device.located", "needs a switch: slots.rs"),
    ("slot.quarantined", "needs a switch: slots.rs"),
    ("slot.released", "needs a switch: slots.rs"),
    ("slot.power.requested", "needs a switch: slots.rs"),
    ("slot.powered", "needs a switch: slots.rs"),
    ("slot.power.failed", "needs a switch: slots.rs"),
    ("station.alarm.cleared", "needs a fault that goes away; the core's and the buses' own tests have it"),
    ("events.deadlettered", "needs an event that a broker never takes; the relay's tests have it"),
];

struct Traffic<'a> {
    agent: &'a TestAgent,
    subscriber: &'a Subscriber,
    asked: BTreeSet<String>,
    /// Of messages that were heard at the broker.
    kinds: BTreeSet<&'static str>,
}

impl Traffic<'_> {
    /// Waits for a message of this kind. States and reports are sent as they are at that moment: what has gone before the
    /// station comes to tell it is told by nobody.
    fn hear(&mut self, kind: &str) {
        while !self.kinds.contains(kind) {
            self.kinds.insert(judge(&self.subscriber.next()));
        }
    }

    /// A command by its envelope; request and reply are what is published.
    fn ask(&mut self, name: &str, params: &Value) -> Value {
        let reply = self.send(&json!({"v": 1, "name": name, "correlation_id": "order-1", "params": params}));
        assert!(reply["error"].is_null(), "{name}: {reply}");
        self.asked.insert(name.to_owned());
        reply["result"].clone()
    }

    fn send(&self, request: &Value) -> Value {
        Contract::get().holds(&format!("commands/{}", request["name"].as_str().unwrap()), request);
        let reply = self.agent.post("/api/v1/commands", request).json();
        Contract::get().reply(&reply);
        reply
    }

    fn stock(&mut self) {
        let image = self.agent.image("first.img", IMAGE);
        self.agent.image("second.img", &[8; 4096]);
        for (name, bootconf) in [("a.bin", "[all]\nBOOT_ORDER=0xf2461\n"), ("b.bin", "[all]\nBOOT_ORDER=0xf21\n")] {
            let path = format!("/api/v1/firmware?name={name}");
            let kind = ("Content-Type", "application/octet-stream");
            let added = http::call(self.agent.operators, "POST", &path, &[kind], &eeprom(bootconf)).unwrap();
            assert_eq!(added.status, 201, "{}", added.text());
        }
        let broken = http::call(
            self.agent.operators,
            "POST",
            "/api/v1/images?name=broken.img.xz",
            &[],
            b"\xfd7zXZ\0and then nothing of the kind, for long enough to be looked at as an image",
        );
        assert!(broken.unwrap().status >= 400);
        self.ask("firmware.add", &json!({"path": "not-there.bin"}));
        let job = self.ask("image.add", &json!({"url": "http://127.0.0.1:9/none.img", "sha256": image}));
        Contract::get().holds("states/job", &job["job"]);
        self.hear("job_report");
        self.ask("job.cancel", &json!({"job": job["job"]["id"]}));
        for name in ["image.list", "firmware.list"] {
            self.ask(name, &json!({}));
        }
    }

    fn plan(&mut self) {
        self.ask("script.put", &json!({"name": "Check", "text": "true", "on_failure": "warn"}));
        self.ask("script.put", &json!({"name": "Old", "text": "true"}));
        self.ask("script.delete", &json!({"script": "old"}));
        self.ask("script.list", &json!({}));
        self.ask("label.put", &json!({"name": "Plate", "text": "{{ device.mac }}"}));
        self.ask("label.put", &json!({"name": "Broken", "text": "{{ variables.NOT_THERE }}"}));
        self.ask("label.put", &json!({"name": "Old", "text": "old"}));
        self.ask("label.delete", &json!({"label": "old"}));
        self.ask("label.list", &json!({}));
        let flashing = json!({"image": "a.bin", "allow_revisions": []});
        let more = json!({
            "name": "Main", "image": "first.img", "sizes": [{"up_to_bytes": 100, "image": "second.img"}],
            "scripts": {"preinstall": ["check"]}, "status_led": {"gpio": 4}, "data_file": "device.json",
            "boot": {"config_txt": "a=1"}, "labels": [{"label": "plate", "on": "preinstall", "printer": "p"}],
        });
        self.ask("project.create", &more);
        let mut second = more.clone();
        second["name"] = json!("Second");
        second["firmware"] = flashing;
        self.ask("project.create", &second);
        let tried = self.send(&json!({
            "name": "project.create", "dry_run": true, "params": {"name": "Never", "image": "first.img", "active": true}
        }));
        assert_eq!(tried["result"]["dry_run"], true, "{tried}");
        self.ask("project.update", &json!({"project": "second", "again": "allow", "status_led": null}));
        self.ask("project.update", &json!({"project": "main", "scripts": {}, "data_file": null}));
        self.ask("project.activate", &json!({"project": "second"}));
        self.ask("project.deactivate", &json!({"project": "second"}));
        self.ask("project.activate", &json!({"project": "main"}));
        self.hear("project");
        self.ask("project.get", &json!({"project": "second"}));
        self.ask("project.list", &json!({}));
        let when =
            json!({"mac": ["0200000000f?"], "serial": ["10000000000000f0-10000000000000ff"], "memory_mb": {"min": 1}});
        self.ask("rules.set", &json!({"rules": [{"project": "second", "name": "Hall 2", "when": when}]}));
        self.ask("rules.get", &json!({}));
        for device in ["0200000000f1", "020000000001"] {
            self.ask("rules.test", &json!({"device": device, "revision": "c03140", "jumper": "010"}));
        }
        self.ask("rules.set", &json!({"rules": []}));
        for (request, code) in [
            (json!({"name": "project.get", "params": {"project": "nowhere"}}), 404),
            (json!({"name": "image.delete", "params": {"image": "first.img"}}), 409),
            (json!({"name": "project.update", "if_match": 99, "params": {"project": "main"}}), 412),
        ] {
            assert_eq!(self.send(&request)["code"], code);
        }
        let wrong = self.agent.post("/api/v1/commands", &json!({"name": "project.create", "params": {"colour": 1}}));
        Contract::get().reply(&wrong.json());
        let problem = self.agent.get("/api/v1/projects/nowhere");
        Contract::get().holds("problem", &problem.json());
    }

    /// One that passes, comes again and is aborted; one that fails; one that comes back from a reboot; two with one serial.
    fn boot(&mut self) {
        let board = |n| FakeBoard::new(self.agent.devices, n);
        let (first, second, third) = (board(1), board(2), board(3));
        let params = json!({"device": first.mac, "variables": {"NAME": "gw-1"}, "secrets": {"KEY": "hunter2"}});
        self.ask("device.assign", &params);
        let orders = Orders::read(&first.ask(4096).unwrap().text());
        first.report(&orders, "step=write&state=started").unwrap();
        let token = format!("Bearer {}", orders.value("TOKEN"));
        let headers = [("Authorization", token.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
        let told = http::call(first.station, "POST", &orders.path("PROGRESS_URL"), &headers, b"step=write&bytes=1024")
            .unwrap();
        assert!(told.status < 300, "{}", told.text());
        self.hear("telemetry");
        self.ask("device.get", &json!({"device": first.mac}));
        self.ask("device.identify", &json!({"device": first.mac, "seconds": 5}));
        first.report(&orders, "step=write&state=completed&bytes=4096").unwrap();
        first.report(&orders, "step=verify&state=started").unwrap();
        let sum = sha256(IMAGE);
        first.report(&orders, &format!("step=verify&state=completed&bytes=4096&sha256={sum}&cache=dropped")).unwrap();
        assert_eq!(first.report(&orders, "state=finished").unwrap().status, 200);

        for label in ["plate", "broken"] {
            self.ask("label.print", &json!({"label": label, "device": first.mac, "printer": "p", "reprint": true}));
        }
        assert!(first.ask(4096).unwrap().text().contains("device.authorize"));
        self.ask("device.authorize", &json!({"device": first.mac}));
        first.ask(4096).unwrap();
        self.ask("device.abort", &json!({"device": first.mac}));
        self.ask("device.unassign", &json!({"device": first.mac}));

        let orders = Orders::read(&second.ask(4096).unwrap().text());
        second.report(&orders, "step=write&state=started").unwrap();
        second.report(&orders, "step=write&state=failed&code=write.decode&detail=xz:+corrupt").unwrap();
        let orders = Orders::read(&third.ask(4096).unwrap().text());
        third.report(&orders, "step=write&state=started").unwrap();
        third.ask(4096).unwrap();
        FakeBoard { serial: first.serial, ..third }.ask(4096).unwrap();
        for name in ["station.info", "station.drain", "station.resume", "slot.list"] {
            self.ask(name, &json!({}));
        }
        self.ask("token.create", &json!({"name": "erp", "role": "viewer", "sha256": "5a".repeat(32)}));
        self.ask("token.list", &json!({}));
        self.ask("token.revoke", &json!({"token": "erp"}));
        self.ask("events.discard", &json!({"sink": "mqtt"}));
    }

    /// Once the bus has taken what is there.
    fn repeat(&mut self) {
        while self.agent.get("/api/v1/sinks/mqtt").json()["sink"]["backlog"] != 0 {}
        self.ask("events.replay", &json!({"from": 1, "to": 3}));
    }

    /// What a printer does comes beside everything else.
    fn await_labels(&self) {
        let end = std::time::Instant::now() + PATIENCE;
        let told = |name: &str| self.agent.events().iter().any(|event| event["type"] == name);
        while !["io.bootline.label.printed.v1", "io.bootline.label.failed.v1"].iter().all(|name| told(name)) {
            assert!(std::time::Instant::now() < end, "no label was printed, or none failed");
        }
    }

    fn clear(&mut self) {
        self.ask("project.delete", &json!({"project": "second"}));
        self.ask("image.add", &json!({"url": "http://127.0.0.1:9/never.img"}));
        self.ask("project.update", &json!({"project": "main", "sizes": []}));
        self.ask("image.delete", &json!({"image": "second.img"}));
        self.ask("firmware.delete", &json!({"firmware": "b.bin"}));
    }
}

/// Every message of the broker is one of the published kinds.
fn judge(message: &Value) -> &'static str {
    let contract = Contract::get();
    if message.get("specversion").is_some() {
        contract.event(message);
        "event"
    } else if message.get("final").is_some() {
        contract.reply(message);
        "reply"
    } else if message.get("online").is_some() {
        contract.holds("states/presence", message);
        "presence"
    } else if message.get("limits").is_some() {
        contract.holds("states/info", message);
        "info"
    } else if message.get("counts").is_some() {
        contract.holds("states/project", message);
        "project"
    } else if message.get("queued_at").is_some() {
        contract.holds("states/job_report", message);
        "job_report"
    } else if message.get("percent").is_some() {
        contract.holds("states/telemetry", message);
        "telemetry"
    } else {
        assert!(message.get("command_id").is_some(), "nothing that is published: {message}");
        "request"
    }
}

fn hear_all(subscriber: &Subscriber, newest: u64) -> BTreeSet<&'static str> {
    let mut kinds = BTreeSet::new();
    loop {
        let message = subscriber.next();
        kinds.insert(judge(&message));
        if message.get("sequence").is_some() && sequence(&message) == newest {
            return kinds;
        }
    }
}

/// Asks over MQTT 5 with a response topic.
fn rr(port: u16, body: &str) -> Value {
    let output = Command::new("mosquitto_rr")
        .args(["-V", "5", "-h", "127.0.0.1", "-q", "1", "-W", "30", "-t", "bootline/v1/st-test/cmd/station/info"])
        .args(["-e", "bootline/v1/_reply/test/1", "-m", body, "-p", &port.to_string()])
        .output()
        .expect("mosquitto_rr (mosquitto-clients) is installed");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn all_that_the_station_says_is_published_and_all_that_is_published_is_said() {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("bootline/v1/#");
    let mut agent = TestAgent::start(&format!(
        "{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}\nprinters: [{{name: p, command: ['true']}}]",
        broker.port
    ));
    let contract = Contract::get();
    let mut traffic =
        Traffic { agent: &agent, subscriber: &subscriber, asked: BTreeSet::new(), kinds: BTreeSet::new() };
    traffic.hear("presence");
    traffic.stock();
    traffic.plan();
    traffic.boot();
    traffic.repeat();
    traffic.clear();
    traffic.await_labels();
    let Traffic { asked, mut kinds, .. } = traffic;
    let unasked = contract.commands().into_iter().filter(|name| !asked.contains(*name) && !UNASKED.contains(name));
    let unasked: Vec<&str> = unasked.collect();
    assert!(unasked.is_empty(), "commands that this traffic does not ask: {unasked:?}; let it ask them");
    contract.reply(&rr(broker.port, r#"{"command_id":"test-rr-0001","params":{}}"#));
    contract.reply(&rr(broker.port, r#"{"command_id":"test-rr-0002","v":7}"#));
    agent.stop();
    agent.restart();

    let journal = agent.events();
    let newest = sequence(journal.last().unwrap());
    let met: BTreeSet<String> = journal.iter().map(|event| contract.event(event)).collect();
    kinds.extend(hear_all(&subscriber, newest));
    assert_eq!(
        kinds,
        BTreeSet::from(["event", "info", "job_report", "presence", "project", "reply", "request", "telemetry"])
    );

    let url = format!("ws://{}/api/v1/events/stream?after=0", agent.operators);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    for event in &journal {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(serde_json::from_str::<Value>(message.to_text().unwrap()).unwrap(), *event);
    }
    let unmet: Vec<&str> = contract.events().into_iter().filter(|name| !met.contains(*name)).collect();
    let known: Vec<&str> = UNMET.iter().map(|(name, _)| *name).collect();
    let strangers: Vec<&&str> = unmet.iter().filter(|name| !known.contains(name)).collect();
    assert!(strangers.is_empty(), "events that no traffic met: {strangers:?}; let them happen in tests/it/traffic.rs");
    let stale: Vec<&&str> = known.iter().filter(|name| !unmet.contains(name)).collect();
    assert!(stale.is_empty(), "{stale:?} was met: take it out of UNMET");
    agent.finish();
}
