//! The web page in headless Chromium, against the built agent: `tests/page` holds the tests, node runs them.

use std::path::Path;
use std::process::Command;

use futures_util::StreamExt as _;
use serde_json::{Value, json};

use crate::agent::{PATIENCE, TestAgent};
use crate::board::{FakeBoard, Orders};
use crate::http;

/// Screenshots of a run lie in `target/page`.
fn browse(file: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/page");
    let there = folder.join("node_modules/playwright-core/package.json").exists();
    assert!(there, "tests/page is not set up: tests/run installs what the tests need");
    let output = Command::new("node")
        .args(["--test", file])
        .current_dir(&folder)
        .env("BOOTLINE", env!("CARGO_BIN_EXE_bootline"))
        .env_remove("PAGE_FILES")
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stdout);
    println!("{told}");
    assert!(output.status.success(), "{told}\n{}", String::from_utf8_lossy(&output.stderr));
    // A file without a test would pass too.
    assert!(!told.contains("# tests 0") && !told.contains("tests 0\n"), "{told}");
}

#[test]
fn the_line_is_followed() {
    browse("line.test.js");
}

#[test]
fn projects_rules_images_and_the_history_are_managed() {
    browse("manage.test.js");
}

#[test]
fn slots_are_watched_switched_and_released() {
    browse("slots.test.js");
}

#[test]
fn labels_are_written_previewed_and_printed_again() {
    browse("labels.test.js");
}

#[test]
fn every_view_reads_well_and_axe_finds_nothing_serious() {
    browse("look.test.js");
}

#[test]
fn three_hundred_devices_report_five_times_a_second() {
    browse("load.test.js");
}

#[test]
fn the_page_comes_with_a_policy_and_only_once() {
    let agent = TestAgent::start("{mqtt: off}");
    let page = agent.get("/");
    assert_eq!(page.status, 200);
    assert!(page.text().contains("/page/app.js"));
    let policy = page.headers.lines().find(|line| line.starts_with("content-security-policy: ")).unwrap();
    assert!(policy.contains("default-src 'self'") && !policy.contains("unsafe"), "{policy}");
    let tag = page.headers.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap();
    let again = http::call(agent.operators, "GET", "/", &[("If-None-Match", tag)], b"").unwrap();
    assert_eq!((again.status, again.body.len()), (304, 0));
    assert_eq!(agent.get("/page/nothing.js").code(), "not_found");
    agent.finish();
}

/// A device that writes.
fn writing(agent: &TestAgent) -> (FakeBoard, Orders) {
    agent.project("First", &agent.image("first.img", &[7; 4096]));
    let board = FakeBoard::new(agent.devices, 1);
    let orders = Orders::read(&board.ask(4096).unwrap().text());
    board.report(&orders, "step=write&state=started").unwrap();
    (board, orders)
}

fn progress(board: &FakeBoard, orders: &Orders, bytes: u64) -> Value {
    let token = format!("Bearer {}", orders.value("TOKEN"));
    let form = format!("step=write&bytes={bytes}");
    let headers = [("Authorization", token.as_str()), ("Content-Type", "application/x-www-form-urlencoded")];
    http::call(board.station, "POST", &orders.path("PROGRESS_URL"), &headers, form.as_bytes()).unwrap().json()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_hears_the_newest_progress_of_a_device_and_that_the_station_is_there() {
    let agent = TestAgent::start("{mqtt: off}");
    let (board, orders) = writing(&agent);
    let url = format!("ws://{}/api/v1/telemetry/stream", agent.operators);
    let (mut socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let mut next = async || -> Vec<Value> {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        let told: Value = serde_json::from_str(message.to_text().unwrap()).unwrap();
        told["telemetry"].as_array().unwrap().clone()
    };
    assert_eq!(next().await, Vec::<Value>::new(), "a sign of life comes first");
    let sent = tokio::task::spawn_blocking(move || {
        for bytes in 1..=200 {
            progress(&board, &orders, bytes * 20);
        }
    });
    let mut messages = 0;
    loop {
        let reports = next().await;
        messages += 1;
        assert!(reports.len() <= 1, "one device, one report: {reports:?}");
        if reports.first().is_some_and(|report| report["bytes"] == 4000) {
            break;
        }
    }
    sent.await.unwrap();
    assert!(messages < 200, "{messages} messages");
    agent.finish();
}

#[test]
fn a_device_is_asked_to_blink_over_the_door_of_commands() {
    let agent = TestAgent::start("{mqtt: off}");
    let (board, orders) = writing(&agent);
    assert_eq!(progress(&board, &orders, 1).get("identify"), None);
    let told = agent.post(&format!("/api/v1/devices/{}/identify", board.serial), &json!({"seconds": 30}));
    assert_eq!((told.status, told.json()["seconds"].clone()), (200, json!(30)), "{}", told.text());
    assert_eq!(progress(&board, &orders, 2)["identify"], true);
    let body = json!({"name": "device.identify", "params": {"device": board.mac, "seconds": 0}});
    assert_eq!(agent.post("/api/v1/commands", &body).status, 200);
    assert_eq!(progress(&board, &orders, 3).get("identify"), None);
    board.report(&orders, "step=write&state=failed&code=write.medium").unwrap();
    let refused = agent.post(&format!("/api/v1/devices/{}/identify", board.mac), &json!({}));
    assert_eq!((refused.status, refused.code().as_str()), (409, "not_reachable"));
    agent.finish();
}
