//! The main job over the real doors: REST in, HTTP on the device side, WebSocket and REST out.

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::agent::{TestAgent, sequence};
use crate::board::{FakeBoard, Orders};

const IMAGE: &[u8] = &[7; 4096];

fn names(events: &[Value], mac: &str) -> Vec<String> {
    let of = |event: &&Value| event["data"]["mac"] == mac;
    events
        .iter()
        .filter(of)
        .map(|event| event["type"].as_str().unwrap().trim_start_matches("io.bootline.device.").to_owned())
        .collect()
}

#[test]
fn a_device_is_provisioned_once_and_again_only_when_authorised() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First line", &agent.image("first.img", IMAGE));
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);

    let refusal = board.ask(4096).unwrap();
    assert_eq!(refusal.status, 200, "the stock initramfs runs whatever it gets");
    assert!(refusal.text().contains("device.authorize"), "{}", refusal.text());
    let device = agent.get(&format!("/api/v1/devices/{}", board.serial)).json();
    assert_eq!(device["device"]["last_outcome"], "passed");
    assert_eq!(device["sessions"][0]["outcome"], "passed");
    let asked = |page: &Value| -> Vec<String> {
        let moments = page["timeline"].as_array().unwrap().iter();
        moments.map(|moment| format!("{} {}", moment["what"], moment["result"])).collect()
    };
    assert_eq!(asked(&device), [r#""script" "started""#, r#""script" "already_provisioned""#]);
    let session = agent.get(&format!("/api/v1/sessions/{}", device["sessions"][0]["session"].as_str().unwrap())).json();
    assert_eq!(asked(&session), [r#""script" "started""#], "up to its end");

    let allowed = agent.post(&format!("/api/v1/devices/{}/authorize", board.mac), &json!({}));
    assert_eq!(allowed.status, 200, "{}", allowed.text());
    assert_eq!(board.provision(4096).unwrap().status, 200);
    let expected = [
        "discovered.v1",
        "started.v1",
        "step.started.v1",
        "step.completed.v1",
        "step.started.v1",
        "step.completed.v1",
        "provisioned.v1",
        "refused.v1",
        "authorized.v1",
        "started.v1",
        "step.started.v1",
        "step.completed.v1",
        "step.started.v1",
        "step.completed.v1",
        "provisioned.v1",
    ];
    assert_eq!(names(&agent.events(), &board.mac), expected);
    agent.finish();
}

#[test]
fn a_medium_that_reads_back_wrong_fails_and_never_passes() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", IMAGE));
    let board = FakeBoard::new(agent.devices, 1);
    let orders = Orders::read(&board.ask(4096).unwrap().text());
    board.report(&orders, "step=write&state=completed").unwrap();
    let wrong = format!("step=verify&state=completed&bytes=4096&sha256={}&cache=dropped", "0".repeat(64));
    let answer = board.report(&orders, &wrong).unwrap();
    assert_eq!((answer.status, answer.code().as_str()), (409, "verify.mismatch"));
    assert_eq!(board.report(&orders, "state=finished").unwrap().code(), "session_closed");
    assert_eq!(names(&agent.events(), &board.mac).last().unwrap(), "failed.v1");
    agent.finish();
}

#[test]
fn a_stranger_cannot_report_for_a_session() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", IMAGE));
    let board = FakeBoard::new(agent.devices, 1);
    let script = board.ask(4096).unwrap().text();
    let token = Orders::read(&script).value("TOKEN").to_owned();
    let forged = Orders::read(&script.replace(&token, &"0".repeat(token.len())));
    assert_eq!(board.report(&forged, "state=finished").unwrap().status, 401);
    assert_eq!(board.image(&forged).unwrap().status, 401);
    let told: String = agent.events().iter().map(Value::to_string).collect();
    assert!(!told.contains(&token), "a token is in an event");
    agent.finish();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_websocket_replays_and_stays_live() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", IMAGE));
    let before = agent.events().len();
    let url = format!("ws://{}/api/v1/events/stream?after=1&filter=device.*,project.created", agent.operators);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut heard = Vec::new();
    let board = FakeBoard::new(agent.devices, 1);
    let boot = tokio::task::spawn_blocking(move || board.provision(4096).unwrap());
    while heard.last().is_none_or(|event: &Value| event["type"] != "io.bootline.device.provisioned.v1") {
        let message = tokio::time::timeout(crate::agent::PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        heard.push(serde_json::from_str(message.to_text().unwrap()).unwrap());
    }
    boot.await.unwrap();
    assert_eq!(heard[0]["type"], "io.bootline.project.created.v1", "the past comes first");
    assert!(heard.windows(2).all(|pair| sequence(&pair[0]) < sequence(&pair[1])));
    let all = agent.events();
    let expected: Vec<&Value> = all
        .iter()
        .filter(|event| {
            let kind = event["type"].as_str().unwrap();
            kind.contains(".device.") || kind.contains(".project.created")
        })
        .collect();
    assert!(before > 0);
    assert_eq!(heard.iter().collect::<Vec<_>>(), expected, "the same bytes as in the journal");
    agent.finish();
}

#[test]
fn the_same_idempotency_key_has_one_effect() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = agent.image("first.img", IMAGE);
    let body = json!({"name": "First", "image": image}).to_string();
    let post = |body: &str| {
        let headers = [("Idempotency-Key", "order-00001")];
        crate::http::call(agent.operators, "POST", "/api/v1/projects", &headers, body.as_bytes()).unwrap()
    };
    assert_eq!(post(&body).status, 201);
    assert_eq!(post(&body).status, 200, "a replay creates nothing");
    let other = post(&json!({"name": "Second", "image": image}).to_string());
    assert_eq!((other.status, other.code().as_str()), (422, "idempotency_mismatch"));
    assert_eq!(agent.get("/api/v1/projects").json()["projects"].as_array().unwrap().len(), 1);
    agent.finish();
}

#[test]
fn a_change_made_meanwhile_is_not_overwritten() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", IMAGE));
    let patch = |revision: &str| {
        let headers = [("If-Match", revision)];
        crate::http::call(agent.operators, "PATCH", "/api/v1/projects/first", &headers, br#"{"again":"allow"}"#)
            .unwrap()
    };
    let changed = patch("\"1\"");
    assert_eq!(changed.status, 200, "{}", changed.text());
    assert!(changed.headers.contains("etag: \"2\""), "{}", changed.headers);
    assert_eq!(patch("\"1\"").status, 412);
    agent.finish();
}

#[test]
fn a_page_of_another_origin_and_a_foreign_host_are_refused() {
    let agent = TestAgent::start("{mqtt: off}");
    for header in [("Origin", "http://evil.example"), ("X-Forwarded-Host", "ok")] {
        let answer = crate::http::call(agent.operators, "GET", "/api/v1/projects", &[header], b"").unwrap();
        assert_eq!(answer.status, if header.0 == "Origin" { 403 } else { 200 });
    }
    agent.finish();
}
