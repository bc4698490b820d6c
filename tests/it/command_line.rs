//! The command line of operators against the built agent.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::agent::TestAgent;
use crate::board::FakeBoard;

fn command(agent: &TestAgent, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bootline"));
    command.args(arguments).env("BOOTLINE_URL", format!("http://{}", agent.operators)).env_remove("BOOTLINE_TOKEN");
    command
}

fn run(agent: &TestAgent, arguments: &[&str]) -> Output {
    command(agent, arguments).output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_project_is_made_used_and_looked_at_from_the_command_line() {
    let agent = TestAgent::start("{mqtt: off}");
    let file = agent.folder.path().join("gate way+1.img");
    fs::write(&file, vec![3; 8192]).unwrap();
    let added = run(&agent, &["image", "add", file.to_str().unwrap(), "--json"]);
    assert!(String::from_utf8_lossy(&added.stderr).contains("100 % of 8192 bytes"));
    let added: Value = serde_json::from_str(&said(&added)).unwrap();
    assert_eq!(added["image"]["name"], "gate way+1.img");
    said(&run(&agent, &["project", "create", "Hall 3", "--image", "gate way+1.img"]));
    said(&run(&agent, &["project", "activate", "hall-3"]));
    let projects = said(&run(&agent, &["project", "list"]));
    assert!(projects.lines().any(|line| line.starts_with("hall-3") && line.contains("yes")), "{projects}");

    let board = FakeBoard::new(agent.devices, 5);
    assert_eq!(board.provision(8192).unwrap().status, 200);
    let sessions = said(&run(&agent, &["sessions", "--project", "hall-3", "--outcome", "passed"]));
    assert!(sessions.contains(&board.mac) && sessions.contains(&board.serial), "{sessions}");
    let rows = said(&run(&agent, &["sessions", "--csv"]));
    assert_eq!(rows.lines().count(), 2, "{rows}");
    assert!(said(&run(&agent, &["devices", "--query", &board.mac[6..]])).contains(&board.mac));
    let events = said(&run(&agent, &["events", "--type", "device.*"]));
    assert!(events.lines().last().unwrap().contains("device.provisioned"), "{events}");
    said(&run(&agent, &["alarms"]));
    agent.finish();
}

#[test]
fn events_are_followed_as_they_come() {
    let agent = TestAgent::start("{mqtt: off}");
    let mut follower =
        command(&agent, &["events", "--follow", "--after", "0", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["type"].clone();
    assert_eq!(next(), "io.bootline.station.started.v1");
    agent.image("later.img", &[1; 4096]);
    assert_eq!(next(), "io.bootline.image.added.v1");
    follower.kill().unwrap();
    follower.wait().unwrap();
    agent.finish();
}

#[test]
fn exit_codes_tell_scripts_what_went_wrong() {
    let agent = TestAgent::start("{mqtt: off}");
    let code = |arguments: &[&str]| run(&agent, arguments).status.code().unwrap();
    let missing = run(&agent, &["project", "show", "nothing"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("not_found"), "{missing:?}");
    assert_eq!(code(&["image", "add", "/does/not/exist"]), 74);
    assert_eq!(code(&["project", "list", "--url", "ftp://x"]), 64);
    assert_eq!(code(&["project", "list", "--url", "http://127.0.0.1:1"]), 69);
    assert_eq!(code(&["project", "list", "--token-file", "/does/not/exist"]), 74);
    assert_eq!(code(&["project", "fly"]), 64);
    agent.finish();
}

#[test]
fn a_station_is_drained_and_looked_at_from_the_command_line() {
    let agent = TestAgent::start("{mqtt: off}");
    let info = said(&run(&agent, &["station", "info"]));
    assert!(info.lines().any(|line| line == "station: st-test"), "{info}");
    let drained = said(&run(&agent, &["station", "drain", "--reason", "inventory"]));
    assert!(drained.starts_with("no new sessions begin, by ") && drained.contains(": inventory; 0 still"), "{drained}");
    let info: Value = serde_json::from_str(&said(&run(&agent, &["station", "info", "--json"]))).unwrap();
    assert_eq!(info["drained"]["reason"], "inventory");
    assert_eq!(said(&run(&agent, &["station", "resume"])).trim(), "new sessions begin");
    let resumed: Value = serde_json::from_str(&said(&run(&agent, &["station", "resume", "--json"]))).unwrap();
    assert_eq!(resumed["drained"], Value::Null);
    let slots = said(&run(&agent, &["slots"]));
    assert_eq!((slots.lines().count(), slots.starts_with("SLOT")), (1, true), "{slots}");
    let slots: Value = serde_json::from_str(&said(&run(&agent, &["slots", "--json"]))).unwrap();
    assert_eq!(slots["slots"], serde_json::json!([]));
    agent.finish();
}

#[test]
fn ready_is_a_yes_or_a_no_with_its_reason() {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert_eq!(said(&run(&agent, &["ready"])).trim(), "ready");
    let told: Value = serde_json::from_str(&said(&run(&agent, &["ready", "--json"]))).unwrap();
    assert_eq!(told["status"], "ready");
    assert!(agent.stop().success());
    let away = run(&agent, &["ready"]);
    assert_eq!(away.status.code(), Some(1));
    let why = String::from_utf8_lossy(&away.stderr).into_owned();
    assert!(why.starts_with("bootline: not ready: no station answers at "), "{why}");
    // Somebody answers, and it is no station that is ready.
    let other = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", other.local_addr().unwrap());
    let answering = std::thread::spawn(move || {
        let (mut peer, _) = other.accept().unwrap();
        let mut asked = [0; 12];
        peer.read_exact(&mut asked).unwrap();
        let body = r#"{"code":"unavailable","detail":"the ledger cannot write; look at the disk"}"#;
        write!(peer, "HTTP/1.1 503 Busy\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
        asked
    });
    let full = run(&agent, &["ready", "--url", &url]);
    assert_eq!(&answering.join().unwrap(), b"GET /readyz ");
    assert_eq!(full.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&full.stderr).contains("look at the disk (503 unavailable)"), "{full:?}");
}

#[test]
fn shells_and_man_are_served() {
    for shell in ["bash", "zsh", "fish"] {
        let output = Command::new(env!("CARGO_BIN_EXE_bootline")).args(["completions", shell]).output().unwrap();
        assert!(said(&output).contains("sessions"), "{shell}");
    }
    let page = said(&Command::new(env!("CARGO_BIN_EXE_bootline")).arg("man").output().unwrap());
    assert!(page.starts_with(".ie") || page.starts_with(".TH"), "{}", &page[..80]);
    for verb in ["BOOTLINE RUN", "BOOTLINE SESSIONS", "BOOTLINE PROJECT CREATE"] {
        assert!(page.contains(&format!(".SH \"{verb}\"")), "{verb}");
    }
}
