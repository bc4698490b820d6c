//! The command line of operators against the built agent.

use std::fs;
use std::io::{BufRead as _, BufReader};
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
