//! Bad input: each has its clear message and changes nothing.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::agent::{TestAgent, config, refused};
use crate::board::FakeBoard;
use crate::http;

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut child = Command::new("xz").args(["-c", "-1"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(bytes).unwrap();
    child.wait_with_output().unwrap().stdout
}

#[test]
fn an_image_that_is_not_what_it_should_be_is_rejected_and_leaves_nothing() {
    let agent = TestAgent::start("{mqtt: off}");
    let good = xz(&vec![5; 1 << 20]);
    let mut flipped = good.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    let wrong_sum = format!("&sha256={}", "0".repeat(64));
    let cases: [(&str, &[u8], &str, u16, &str); 7] = [
        ("wrong sum", &good, &wrong_sum, 400, "sha256_mismatch"),
        ("no sum at all", &good, "&sha256=xyz", 400, "invalid_params"),
        ("not a multiple of 512", &[1; 1000], "", 400, "size_not_multiple_of_512"),
        ("truncated xz", &good[..good.len() - 20], "", 400, "broken_xz"),
        ("damaged xz", &flipped, "", 400, "broken_xz"),
        ("zip", b"PK\x03\x04\0\0\0\0", "", 415, "unsupported_compression"),
        ("nothing", b"", "", 400, "empty"),
    ];
    for (what, bytes, query, status, code) in cases {
        let answer = http::call(agent.operators, "POST", &format!("/api/v1/images?name=x{query}"), &[], bytes).unwrap();
        assert_eq!(answer.code(), code, "{what}: {}", answer.text());
        assert!(answer.status == status || (400..500).contains(&answer.status), "{what}: {}", answer.status);
    }
    assert_eq!(agent.get("/api/v1/images").json()["images"], json!([]));
    let left: Vec<_> = fs::read_dir(agent.folder.path().join("data/images/incoming")).unwrap().collect();
    assert!(left.is_empty(), "{left:?}");
    agent.finish();
}

#[test]
fn an_upload_that_is_cut_off_leaves_nothing() {
    let agent = TestAgent::start("{mqtt: off}");
    let mut stream = TcpStream::connect(agent.operators).unwrap();
    write!(stream, "POST /api/v1/images?name=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100000\r\n\r\n").unwrap();
    stream.write_all(&[1; 5000]).unwrap();
    drop(stream);
    // The event tells when the station has noticed.
    let found = (0..10_000)
        .find_map(|_| agent.events().into_iter().find(|event| event["type"] == "io.bootline.image.rejected.v1"));
    assert_eq!(found.unwrap()["data"]["code"], "upload_cut");
    assert_eq!(agent.get("/api/v1/images").json()["images"], json!([]));
    assert_eq!(fs::read_dir(agent.folder.path().join("data/images/incoming")).unwrap().count(), 0);
    agent.finish();
}

#[test]
fn a_nats_server_on_a_network_is_not_spoken_to_without_a_login() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("bootfiles")).unwrap();
    for (nats, exit, words) in [
        ("{url: 'nats://10.9.9.9:4222'}", 78, ["nats://10.9.9.9:4222", "allow_anonymous"]),
        ("{url: 'nats://me:s3cret@127.0.0.1:4222'}", 78, ["bus.nats", "password_file"]),
        ("{url: 'nats://127.0.0.1:4222', nkey: /nowhere.nk}", 74, ["/nowhere.nk", "No such file"]),
    ] {
        let path = config(folder.path(), [0; 3], &format!("{{mqtt: off, nats: {nats}}}"));
        let (code, said) = refused(&path);
        assert_eq!(code, exit, "{said}");
        assert!(words.iter().all(|word| said.contains(word)) && !said.contains("s3cret"), "{said}");
    }
}

#[test]
fn an_import_does_not_lead_out_of_its_folder() {
    let agent = TestAgent::start("{mqtt: off}");
    let import = agent.folder.path().join("data/import");
    fs::create_dir_all(&import).unwrap();
    fs::write(import.join("a.img"), [3; 512]).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", import.join("link.img")).unwrap();
    for path in ["../lock", "/etc/passwd", "link.img", "missing.img", ""] {
        let answer = agent.post("/api/v1/images/import", &json!({"path": path}));
        assert!((400..500).contains(&answer.status), "{path}: {} {}", answer.status, answer.text());
        assert!(path.is_empty() || answer.text().contains(path.trim_start_matches("../")), "{}", answer.text());
    }
    let answer = agent.post("/api/v1/images/import", &json!({"path": "a.img"}));
    assert_eq!(answer.status, 201, "{}", answer.text());
    agent.finish();
}

#[test]
fn an_image_larger_than_the_medium_is_refused_before_anything_is_written() {
    let agent = TestAgent::start("{mqtt: off}");
    agent.project("First", &agent.image("first.img", &[1; 4096]));
    let board = FakeBoard::new(agent.devices, 1);
    let script = board.ask(2048).unwrap().text();
    assert!(script.contains("4096") && !script.contains("IMAGE_URL"), "{script}");
    let refusal = agent.events().into_iter().find(|event| event["type"] == "io.bootline.device.refused.v1").unwrap();
    assert_eq!(refusal["data"]["code"], "image_too_large");
    agent.finish();
}

#[test]
fn a_wrong_call_for_a_script_gets_a_script_that_says_so() {
    let agent = TestAgent::start("{mqtt: off}");
    for query in [
        "",
        "serial=",
        "serial=x%22%3B+reboot%3B+echo+%22",
        "serial=10000000a1b2c3d4&mac=zz",
        "serial=10000000a1b2c3d4&storagesize=-4&mac=020000000001",
    ] {
        let answer = http::call(agent.devices, "GET", &format!("/scriptexecute?{query}"), &[], b"").unwrap();
        let ran = Command::new("sh").arg("-c").arg(answer.text()).output().unwrap();
        let said = String::from_utf8_lossy(&ran.stdout).into_owned() + &String::from_utf8_lossy(&ran.stderr);
        assert_eq!(ran.status.code(), Some(1), "{query}: {said}");
        assert!(!said.contains("not found") && !said.contains("syntax"), "{query}: {said}");
    }
    agent.finish();
}

#[test]
fn a_command_that_is_not_right_is_told_where() {
    let agent = TestAgent::start("{mqtt: off}");
    for (body, code, part) in [
        (json!({"name": "project.activate", "params": {"project": "nobody"}}), "not_found", "nobody"),
        (
            json!({"name": "project.create", "params": {"name": "x", "image": "y", "colour": "red"}}),
            "invalid_params",
            "/params/colour",
        ),
        (json!({"name": "project.create", "hurry": true}), "invalid_params", "hurry"),
        (json!({"name": "project.explode"}), "unknown_command", "project.explode"),
        (json!({"params": {}}), "invalid_params", "/name"),
    ] {
        let reply = agent.post("/api/v1/commands", &body).json();
        assert_eq!((&reply["status"], &reply["error"]["code"]), (&json!("rejected"), &json!(code)), "{reply}");
        assert!(reply["error"].to_string().contains(part), "{reply}");
    }
    let only_start: Vec<_> = agent.events();
    assert_eq!(only_start.len(), 1, "{only_start:?}");
    agent.finish();
}

#[test]
fn a_configuration_that_cannot_run_says_why() {
    let folder = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let path = config(folder.path(), [port, 0, 0], "{mqtt: off}");
    fs::create_dir(folder.path().join("bootfiles")).unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, 74, "{said}");
    assert!(
        said.contains(&format!("127.0.0.1:{port}")) && said.contains("operators") && said.contains("in use"),
        "{said}"
    );

    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("interface: lo", "interface: nosuch0")).unwrap();
    let (code, said) = refused(&path);
    assert!(code != 0 && said.contains("nosuch0") && said.contains("lo"), "{code} {said}");

    fs::write(&path, format!("{text}colour: red\n")).unwrap();
    let (code, said) = refused(&path);
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("colour") && said.contains("line"), "{said}");

    let (code, said) = refused(&folder.path().join("nothing.yml"));
    assert_eq!(code, 78, "{said}");
    assert!(said.contains("nothing.yml"), "{said}");
}

#[test]
fn one_data_folder_has_one_agent() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let other = tempfile::tempdir().unwrap();
    let path = config(other.path(), [0; 3], "{mqtt: off}");
    let text = fs::read_to_string(&path).unwrap();
    let data = agent.folder.path().join("data");
    fs::write(
        &path,
        text.replace(&format!("data: {}/data", other.path().display()), &format!("data: {}", data.display())),
    )
    .unwrap();
    let (code, said) = refused(&path);
    assert!(code != 0 && said.contains("another bootline"), "{code} {said}");
    assert!(agent.stop().success());
}
