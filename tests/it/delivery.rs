//! Delivery as an integrator sees it: replays, one effect for one command, and where each bus stands.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent, sequence};
use crate::broker::Mosquitto;
use crate::http;

fn start(broker: &Mosquitto) -> TestAgent {
    TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port))
}

/// Asks until the answer is as expected.
fn until(agent: &TestAgent, path: &str, expected: impl Fn(&Value) -> bool) -> Value {
    let start = Instant::now();
    loop {
        let answer = agent.get(path).json();
        if expected(&answer) {
            return answer;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "{path} stays {answer}");
    }
}

#[test]
fn one_command_over_mqtt_and_rest_has_one_effect_also_after_a_kill() {
    let broker = Mosquitto::start();
    let replies = broker.subscribe("bootline/v1/st-test/res/#");
    let mut agent = start(&broker);
    let image = agent.image("a.img", &[3; 4096]);
    let mut request = json!({"command_id": "order-0001", "params": {"name": "Gateway", "image": image}});
    broker.publish("bootline/v1/st-test/cmd/project/create", &request.to_string());
    let first = replies.next();
    assert_eq!((&first["status"], &first["replayed"]), (&json!("succeeded"), &json!(false)), "{first}");
    request["name"] = json!("project.create");
    let again = agent.post("/api/v1/commands", &request);
    assert_eq!((again.status, &again.json()["replayed"]), (200, &json!(true)));
    assert_eq!(again.json()["result"], first["result"]);

    agent.kill();
    agent.restart();
    let again = agent.post("/api/v1/commands", &request);
    assert_eq!(again.json()["replayed"], true);
    broker.publish("bootline/v1/st-test/cmd/project/create", &request.to_string());
    // What the kill left unacknowledged, request or reply, comes once more: the answer is the same.
    let reply_that = |is_it: &dyn Fn(&Value) -> bool| loop {
        let reply = replies.next();
        if is_it(&reply) {
            return reply;
        }
        assert_eq!(reply["result"], first["result"], "{reply}");
    };
    reply_that(&|reply| reply["replayed"] == true);
    request["params"]["name"] = json!("Other");
    broker.publish("bootline/v1/st-test/cmd/project/create", &request.to_string());
    let other = reply_that(&|reply| reply["status"] != "succeeded");
    assert_eq!((&other["code"], &other["error"]["code"]), (&json!(422), &json!("idempotency_mismatch")));
    let created = agent.events().iter().filter(|event| event["type"] == "io.bootline.project.created.v1").count();
    assert_eq!(created, 1);
    agent.finish();
}

#[test]
fn who_has_missed_events_gets_them_again_as_they_were() {
    let broker = Mosquitto::start();
    let agent = start(&broker);
    for n in 0..20 {
        agent.image(&format!("{n}.img"), &[n; 4096]);
    }
    let newest = sequence(agent.events().last().unwrap());
    until(&agent, "/api/v1/sinks/mqtt", |sink| sink["sink"]["cursor"].as_u64() >= Some(newest));
    // Nobody listened until now.
    let consumer = broker.subscribe("bootline/v1/st-test/evt/#");
    let asked = agent.post("/api/v1/events/replay", &json!({"from": 2, "to": newest, "rate": 1000}));
    assert_eq!(asked.status, 202, "{}", asked.text());
    let job = asked.json()["job"]["id"].as_str().unwrap().to_owned();
    let mut heard: Vec<Value> = Vec::new();
    let ended = |event: &Value| {
        event["type"] == "io.bootline.command.completed.v1"
            && event["data"]["name"] == "events.replay"
            && event["data"]["status"] == "succeeded"
    };
    while !heard.last().is_some_and(ended) {
        heard.push(consumer.next());
    }
    let journal = agent.events();
    for event in &heard {
        let seq = usize::try_from(sequence(event)).unwrap();
        assert_eq!(&journal[seq - 1], event, "the same bytes say the same");
    }
    let again: Vec<u64> = heard.iter().map(sequence).filter(|seq| *seq <= newest).collect();
    assert_eq!(again, (2..=newest).collect::<Vec<_>>(), "each once and in order");
    assert_eq!(heard.last().unwrap()["causationid"], job.as_str());
    let job = agent.get(&format!("/api/v1/jobs/{job}")).json();
    assert_eq!((&job["job"]["state"], &job["job"]["replay"]["sent"]), (&json!("succeeded"), &json!(newest - 1)));
    let beyond = agent.post("/api/v1/events/replay", &json!({"from": 1, "to": 9999}));
    assert_eq!((beyond.status, beyond.code().as_str()), (404, "not_found"));
    agent.finish();
}

#[test]
fn where_each_bus_stands_is_seen_in_rest_and_metrics() {
    let mut broker = Mosquitto::start();
    let agent = start(&broker);
    let sink = "/api/v1/sinks/mqtt";
    until(&agent, sink, |answer| answer["sink"]["state"] == "up" && answer["sink"]["backlog"] == 0);
    broker.stop();
    until(&agent, sink, |answer| answer["sink"]["state"] == "down" && answer["sink"]["reason"].is_string());
    agent.image("a.img", &[3; 4096]);
    let away = agent.get("/api/v1/station").json();
    let backlog = away["sinks"][0]["backlog"].as_u64().unwrap();
    assert!(backlog > 0, "{away}");
    let metrics = agent.get("/metrics").text();
    let line = format!("bootline_sink_backlog{{sink=\"mqtt\"}} {backlog}");
    assert!(metrics.contains(&line), "{line} in {metrics}");
    assert!(metrics.contains("bootline_sink_state{sink=\"mqtt\",state=\"down\"} 1"), "{metrics}");
    broker.resume();
    until(&agent, sink, |answer| answer["sink"]["state"] == "up" && answer["sink"]["backlog"] == 0);
    agent.finish();
}

#[test]
fn a_large_event_is_a_dead_letter_that_can_be_sent_again_or_given_up() {
    let broker = Mosquitto::start_with("max_packet_size 4000");
    let agent = start(&broker);
    let consumer = broker.subscribe("bootline/v1/st-test/evt/#");
    let rules = |text: &str| json!({"rules": [{"project": "gateway", "name": text}]});
    agent.project("Gateway", &agent.image("a.img", &[3; 4096]));
    let long: Vec<Value> =
        (0..60).map(|n| rules(&format!("a rule with a long name, number {n}"))["rules"][0].clone()).collect();
    let put =
        |rules: &Value| http::call(agent.operators, "PUT", "/api/v1/rules", &[], rules.to_string().as_bytes()).unwrap();
    let set = put(&json!({"rules": long}));
    assert_eq!(set.status, 200, "{}", set.text());
    let mut dead = consumer.next();
    while dead["type"] != "io.bootline.events.deadlettered.v1" {
        assert_ne!(dead["type"], "io.bootline.rules.changed.v1", "it cannot come through");
        dead = consumer.next();
    }
    let letters = agent.get("/api/v1/sinks/mqtt/dead-letters").json();
    assert_eq!(letters["dead_letters"][0]["sequence"], dead["data"]["sequence"]);
    assert_eq!(letters["dead_letters"][0]["event"], "rules.changed");
    let again = agent.post("/api/v1/events/replay", &json!({"dead_letters": true}));
    assert_eq!(again.status, 202, "{}", again.text());
    let job = format!("/api/v1/jobs/{}", again.json()["job"]["id"].as_str().unwrap());
    let job = until(&agent, &job, |job| job["job"]["state"] != "running");
    assert_eq!(job["job"]["replay"]["sent"], 0, "it is as large as before");
    assert_eq!(agent.get("/api/v1/sinks/mqtt").json()["sink"]["dead_letters"], 1);
    let given_up = http::call(agent.operators, "DELETE", "/api/v1/sinks/mqtt/dead-letters", &[], b"").unwrap();
    assert_eq!((given_up.status, &given_up.json()["discarded"]), (200, &json!(1)));
    assert_eq!(agent.get("/api/v1/sinks/mqtt").json()["sink"]["dead_letters"], 0);
    agent.finish();
}

#[test]
fn a_drained_station_tells_devices_to_come_back_later() {
    let mut agent = TestAgent::start("{mqtt: off}");
    agent.project("Gateway", &agent.image("a.img", &[3; 4096]));
    let drained = agent.post("/api/v1/station/drain", &json!({"reason": "inventory"}));
    assert_eq!(drained.status, 200, "{}", drained.text());
    agent.kill();
    agent.restart();
    let board = crate::board::FakeBoard::new(agent.devices, 1);
    let refused = board.ask(4096).unwrap();
    assert!(refused.text().contains("inventory"), "{}", refused.text());
    assert_eq!(refused.status, 503);
    assert_eq!(agent.get("/api/v1/station").json()["drained"]["reason"], "inventory");
    assert_eq!(agent.post("/api/v1/station/resume", &json!({})).status, 200);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    let types: BTreeSet<String> =
        agent.events().iter().map(|event| event["type"].as_str().unwrap().to_owned()).collect();
    for event in ["station.drained", "station.resumed", "device.refused", "device.provisioned"] {
        assert!(types.contains(&format!("io.bootline.{event}.v1")), "{event} in {types:?}");
    }
    agent.finish();
}
