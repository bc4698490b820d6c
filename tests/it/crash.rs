//! The process dies between two steps, at a point that the test names; after a restart nothing is lost and nothing has
//! happened twice.

use std::sync::Arc;
use std::thread;

use serde_json::{Value, json};

use crate::agent::{TestAgent, sequence};
use crate::board::FakeBoard;
use crate::broker::Mosquitto;
use crate::restart::{Power, check, persist};

/// One device goes its way while the agent dies at the n-th passage of a point; what a durable consumer has heard.
fn die(point: &str, n: u32) -> (Vec<Value>, Vec<Value>) {
    let broker = Mosquitto::start();
    let subscriber = broker.subscribe("bootline/v1/st-test/evt/#");
    let mut agent = TestAgent::start(&format!("{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}}}", broker.port));
    agent.project("Chaos", &agent.image("chaos.img", &[3; 4096]));
    // What happens after the restart alone is counted.
    while agent.get("/api/v1/sinks/mqtt").json()["sink"]["backlog"] != 0 {}
    agent.kill();
    agent.restart_with(&[("BOOTLINE_CRASH", &format!("{point}@{n}"))]);
    let power = Arc::new(Power::default());
    power.set(true);
    let board = {
        let (board, power) = (FakeBoard::new(agent.devices, 1), Arc::clone(&power));
        thread::spawn(move || persist(&board, &power))
    };
    let died = agent.await_end();
    assert!(!died.success(), "it dies at {point}@{n}: {died}");
    power.set(false);
    agent.restart();
    power.set(true);
    board.join().unwrap();
    let journal = agent.events();
    let newest = sequence(journal.last().unwrap());
    let mut heard: Vec<Value> = Vec::new();
    while heard.last().map(sequence) != Some(newest) {
        heard.push(subscriber.next());
    }
    agent.finish();
    (journal, heard)
}

#[test]
fn a_death_between_commit_and_publish_loses_nothing() {
    for n in [2, 4, 7] {
        let (journal, heard) = die("commit", n);
        check(&journal, &heard, 1);
    }
}

#[test]
fn a_death_between_publish_and_the_cursor_sends_again_and_loses_nothing() {
    let (journal, heard) = die("ack", 4);
    check(&journal, &heard, 1);
    assert!(heard.len() > journal.len(), "what was acknowledged and not written down comes again");
}

#[test]
fn a_death_between_commit_and_reply_leaves_one_effect() {
    for point in ["commit@2", "reply@2"] {
        let mut agent = TestAgent::start("{mqtt: off}");
        let image = agent.image("a.img", &[3; 4096]);
        agent.kill();
        agent.restart_with(&[("BOOTLINE_CRASH", point)]);
        let request = json!({
            "command_id": "order-0001", "name": "project.create", "params": {"name": "Gateway", "image": image},
        });
        let answer =
            crate::http::call(agent.operators, "POST", "/api/v1/commands", &[], request.to_string().as_bytes());
        assert!(answer.is_err(), "{point}: nobody was there to answer: {answer:?}");
        assert!(!agent.await_end().success());
        agent.restart();
        let again = agent.post("/api/v1/commands", &request);
        assert_eq!((again.status, &again.json()["replayed"]), (200, &json!(true)), "{point}");
        let events = agent.events();
        let created = events.iter().filter(|event| event["type"] == "io.bootline.project.created.v1").count();
        assert_eq!(created, 1, "{point}");
        agent.finish();
    }
}
