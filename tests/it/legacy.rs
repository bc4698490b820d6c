//! The predecessor's API: the vectors of what it answers, and its faults, each of which is not kept.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::mpsc::channel;

use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tokio_tungstenite::connect_async;
use tokio_tungstenite::tungstenite::Message;

use crate::agent::{PATIENCE, TestAgent, refused};
use crate::board::{FakeBoard, Orders, sha256};
use crate::firmware::eeprom;
use crate::http::{self, Answer};

const SIZE: u64 = 8 << 30;

fn content(name: &str) -> Vec<u8> {
    match name {
        "eeprom" => eeprom("[all]\n"),
        "log" => b"what went wrong\n".to_vec(),
        "not text" => vec![0xff, 0xfe, 0x80],
        image => vec![image.as_bytes()[0]; 4096],
    }
}

fn multipart(field: &str, filename: &str, bytes: &[u8], sum: Option<&str>) -> Vec<u8> {
    let disposition = "Content-Disposition: form-data";
    let head = format!("--x\r\n{disposition}; name=\"{field}\"; filename=\"{filename}\"\r\n\r\n");
    let sum = sum.map(|sum| format!("\r\n--x\r\n{disposition}; name=\"sha256sum\"\r\n\r\n{sum}")).unwrap_or_default();
    [head.as_bytes(), bytes, sum.as_bytes(), b"\r\n--x--\r\n"].concat()
}

const MULTIPART: (&str, &str) = ("Content-Type", "multipart/form-data; boundary=x");
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn upload(agent: &TestAgent, filename: &str, bytes: &[u8]) -> Answer {
    let body = multipart("image", filename, bytes, Some(&sha256(bytes)));
    http::call(agent.operators, "POST", "/image/upload-image", &[MULTIPART], &body).unwrap()
}

fn form(agent: &TestAgent, path: &str, body: &str) -> Answer {
    http::call(agent.operators, "POST", path, &[FORM], body.as_bytes()).unwrap()
}

/// The record of an attempt that has passed.
fn passed(mac: &str) -> Value {
    json!({
        "cmInfo": {
            "model": "Raspberry Pi Compute Module 4", "storagesize": SIZE / 512, "mac": mac, "inversejumper": "",
            "memorysize": "", "temp": "42.0'C", "cid": "", "csd": "", "bootmode": "2", "eeprom": "", "eeepromsha": "",
        },
        "cmProvisionInfo": {
            "projectName": "first", "image": "a.img", "eeprom": "", "starTime": "<start>", "endTime": "<start>",
            "duration": "<duration>", "state": "completed", "result": true, "errorLog": "",
        },
    })
}

/// `0000-00` of a text: each digit becomes a 0.
fn shape(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect()
}

fn is_start(text: &str) -> bool {
    ["00000000_00:00:00", "00000000_00:00:00_0"].contains(&shape(text).as_str())
}

/// What differs, if anything does.
fn differs(wanted: &Value, got: &Value) -> Option<String> {
    let unlike = || Some(format!("wanted {wanted}, got {got}"));
    match (wanted, got) {
        (Value::String(wanted), got) if wanted.starts_with('<') => {
            let text = got.as_str().unwrap_or_default();
            let fits = match wanted.trim_matches(['<', '>']).split_once(' ').unwrap_or((wanted, "")) {
                ("passed", mac) => return differs(&passed(mac), got),
                ("sha256", name) => text == sha256(&content(name)),
                ("<any>", _) => got.is_string(),
                ("<upload>", _) => shape(text) == "0000-00-00_00:00:00",
                ("<start>", _) => is_start(text),
                ("<duration>", _) => shape(text) == "0:00:00.000000",
                _ => panic!("no placeholder: {wanted}"),
            };
            if fits { None } else { unlike() }
        }
        (Value::Object(wanted), Value::Object(got)) => {
            if wanted.len() != got.len() {
                return unlike();
            }
            wanted.iter().find_map(|(key, value)| match key.as_str() {
                "<start>" => {
                    let (start, got) = got.iter().next()?;
                    if is_start(start) { differs(value, got) } else { unlike() }
                }
                key => got.get(key).map_or_else(unlike, |got| differs(value, got)),
            })
        }
        (Value::Array(wanted), Value::Array(got)) if wanted.len() == got.len() => {
            wanted.iter().zip(got).find_map(|(wanted, got)| differs(wanted, got))
        }
        _ if wanted == got => None,
        _ => unlike(),
    }
}

/// One call of a vector.
fn ask(agent: &TestAgent, step: &Value, start: &str) -> Answer {
    let (method, path) = step["request"].as_str().unwrap().split_once(' ').unwrap();
    let place = if step["at"] == "devices" { agent.devices } else { agent.operators };
    let path = path.replace("<start>", start);
    if let Some(file) = step.get("upload") {
        let text = |name: &str| file[name].as_str().unwrap();
        let bytes = content(text("content"));
        let sum = match file["sum"].as_str() {
            Some("right") => Some(sha256(&bytes)),
            Some(_) => Some("0".repeat(64)),
            None => None,
        };
        let body = multipart(text("field"), text("filename"), &bytes, sum.as_deref());
        return http::call(place, method, &path, &[MULTIPART], &body).unwrap();
    }
    let body = step["form"].as_str().unwrap_or_default();
    let kind = if step.get("form").is_some() { vec![FORM] } else { Vec::new() };
    http::call(place, method, &path, &kind, body.as_bytes()).unwrap()
}

fn run(agent: &TestAgent, file: &Path) -> Vec<String> {
    let steps: Vec<Value> = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    let (mut wrong, mut start) = (Vec::new(), String::new());
    for step in &steps {
        if let Some(n) = step["provision"].as_u64() {
            let board = FakeBoard::new(agent.devices, u32::try_from(n).unwrap());
            assert_eq!(board.provision(SIZE).unwrap().status, 200);
            continue;
        }
        let answer = ask(agent, step, &start);
        let mut say = |what: String| wrong.push(format!("{}: {}: {what}", file.display(), step["request"]));
        if step["status"] != answer.status {
            say(format!("status {} {}", answer.status, answer.text()));
            continue;
        }
        if let Some(body) = step.get("body") {
            let json = answer.json();
            differs(body, &json).map(&mut say);
            if let Some(key) = json.as_object().and_then(|records| records.keys().find(|key| is_start(key))) {
                start.clone_from(key);
            }
        }
        if step["content"].as_str().is_some_and(|name| answer.body != content(name)) {
            say("other bytes".to_owned());
        }
        for header in step["headers"].as_array().into_iter().flatten() {
            if !answer.headers.contains(header.as_str().unwrap()) {
                say(format!("{header} is not in {}", answer.headers));
            }
        }
    }
    wrong
}

#[test]
fn a_client_of_the_predecessor_sees_no_difference() {
    let agent = TestAgent::start("{mqtt: off}");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/legacy");
    let files: BTreeSet<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 5);
    let wrong: Vec<String> = files.iter().flat_map(|file| run(&agent, file)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    agent.finish();
}

/// The sample of the predecessor's README, on loopback and on a free port.
fn predecessor(folder: &Path, more: &str) {
    fs::create_dir_all(folder.join("bootfiles")).unwrap();
    let text = format!(
        "cmProvisionServer:\n  hostIface: \"lo\"\n  serverIp: \"127.0.0.1/8\"\n  \
         dhcpRange: \"127.0.0.2,127.255.255.255,255.0.0.0\"\n  restApiPort: 0\n{more}\
         network: {{dhcp: {{mode: off}}, tftp: {{listen: '127.0.0.1:0'}}}}\nbus: {{mqtt: off}}\n\
         data: {0}/data\nbootfiles: {0}/bootfiles\n",
        folder.display()
    );
    fs::write(folder.join("bootline.yml"), text).unwrap();
}

#[test]
fn with_the_predecessors_configuration_one_port_serves_everyone() {
    let folder = tempfile::tempdir().unwrap();
    predecessor(folder.path(), "");
    let agent = TestAgent::start_in(folder);
    assert_eq!(agent.operators, agent.devices);
    assert_eq!(upload(&agent, "a.img", &[1; 4096]).status, 200);
    // As an integration calls: by a name that the station has never heard of.
    let named = [("Host", "cmprovision.factory.example")];
    let mut stream = TcpStream::connect(agent.operators).unwrap();
    let head = format!("GET /image/list-images HTTP/1.0\r\n{}: {}\r\n\r\n", named[0].0, named[0].1);
    stream.write_all(head.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") && answer.contains("a.img"), "{answer}");
    assert_eq!(form(&agent, "/project/create", "project_name=first&active=true&image=a.img").status, 200);
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(SIZE).unwrap().status, 200);
    assert_eq!(agent.get("/api/v1/sessions").json()["sessions"][0]["outcome"], "passed");
    agent.finish();
}

#[test]
fn what_the_predecessors_configuration_does_not_know_is_an_error_with_its_place() {
    let folder = tempfile::tempdir().unwrap();
    predecessor(folder.path(), "  colour: red\n");
    let (code, said) = refused(&folder.path().join("bootline.yml"));
    assert!(code == 78 && said.contains("colour") && said.contains("line 6"), "{code}: {said}");
}

/// Messages of the WebSocket until so many records are complete: what the last message says of each serial.
async fn listen(address: SocketAddr, complete: usize, begin: impl FnOnce()) -> BTreeMap<String, Value> {
    let (mut socket, _) = connect_async(format!("ws://{address}/")).await.unwrap();
    begin();
    let (mut records, mut started) = (BTreeMap::new(), BTreeSet::new());
    while records.len() < complete {
        let message = tokio::time::timeout(PATIENCE, socket.next()).await.unwrap().unwrap().unwrap();
        let Message::Text(text) = message else { continue };
        let Value::Object(message) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
        let (serial, starts) = message.into_iter().next().unwrap();
        let (start, record) = starts.as_object().unwrap().iter().next().unwrap();
        assert!(is_start(start), "{start}");
        if record["cmProvisionInfo"]["state"] == "completed" {
            assert!(started.contains(&serial), "a record is told from its start");
            records.insert(serial, record.clone());
        } else {
            assert_eq!(record["cmProvisionInfo"]["result"], false);
            started.insert(serial);
        }
    }
    records
}

/// Faults 1, 2 and 3: scripts of others, what an earlier project left, and records that vanish under a poller.
#[test]
fn twenty_devices_at_once_under_a_listener_and_a_poller_each_get_their_own() {
    let agent = TestAgent::start("{mqtt: off}");
    for (name, byte) in [("a.img", 1), ("b.img", 2)] {
        assert_eq!(upload(&agent, name, &[byte; 4096]).status, 200);
    }
    let project = "project_name=p&active=true&image8Gb=a.img&image16Gb=b.img&cm_status_led=5";
    assert_eq!(form(&agent, "/project/create", project).status, 200);
    let (devices, operators) = (agent.devices, agent.operators);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut boards = Vec::new();
    let records = runtime.block_on(listen(operators, 20, || {
        boards.extend((0..20_u32).map(|n| {
            std::thread::spawn(move || {
                // Two sizes of storage, so two images, turn about.
                let size = if n % 2 == 0 { 8 << 30 } else { 16 << 30 };
                let board = FakeBoard::new(devices, n);
                let orders = Orders::read(&board.ask(size).unwrap().text());
                assert_eq!(board.image(&orders).unwrap().body, vec![if n % 2 == 0 { 1 } else { 2 }; 4096]);
                assert_eq!(orders.value("SERIAL"), board.serial);
                assert_eq!(orders.value("STATUS_LED"), "5");
                assert_eq!(board.provision(size).unwrap().status, 200);
                let polled = http::call(operators, "GET", "/result/getresults", &[], b"").unwrap();
                assert!(polled.json().get(&board.serial).is_some(), "{}", polled.text());
            })
        }));
    }));
    boards.into_iter().for_each(|board| board.join().unwrap());
    for (serial, record) in &records {
        let n = u32::from_str_radix(&serial[8..], 16).unwrap();
        assert_eq!(record["cmProvisionInfo"]["image"], if n % 2 == 0 { "a.img" } else { "b.img" }, "{serial}");
        assert_eq!(record["cmProvisionInfo"]["result"], true);
    }
    assert_eq!(agent.get("/result/getresults").json().as_object().unwrap().len(), 20);
    // A later project without a LED has none, and without an active project there is nothing to run.
    assert_eq!(form(&agent, "/project/create", "project_name=q&active=true&image=a.img").status, 200);
    let script = FakeBoard::new(devices, 99).ask(8 << 30).unwrap().text();
    assert_eq!(Orders::read(&script).value("STATUS_LED"), "");
    http::call(operators, "DELETE", "/project/delete?project_name=q", &[], b"").unwrap();
    let none = FakeBoard::new(devices, 98).ask(8 << 30).unwrap().text();
    assert!(!none.contains("IMAGE_URL=") && none.contains("no_project"), "{none}");
    agent.finish();
}

/// Faults 3 and 6: an unknown record, and success by word alone.
#[test]
fn all_done_without_a_read_back_is_no_success_and_for_a_stranger_no_error() {
    let agent = TestAgent::start("{mqtt: off}");
    assert_eq!(upload(&agent, "a.img", &[1; 4096]).status, 200);
    form(&agent, "/project/create", "project_name=p&active=true&image=a.img");
    let board = FakeBoard::new(agent.devices, 1);
    board.ask(SIZE).unwrap();
    let done = format!("/scriptexecute/alldone?serial={}&alldone=1&temp=1&verify=1&start=x", board.serial);
    for _ in 0..2 {
        assert_eq!(http::call(agent.devices, "GET", &done, &[], b"").unwrap().status, 200);
    }
    let records = agent.get(&format!("/result/getresultsbyserial?serial={}", board.serial)).json();
    let record = records.as_object().unwrap().values().next().unwrap()["cmProvisionInfo"].clone();
    assert_eq!((&record["state"], &record["result"]), (&json!("completed"), &json!(false)), "{record}");
    assert!(record["errorLog"].as_str().unwrap().starts_with("legacy.unproven"), "{record}");
    let stranger = "/scriptexecute/alldone?serial=10000000ffffffff&alldone=1&temp=1&verify=1&start=x";
    assert_eq!(http::call(agent.devices, "GET", stranger, &[], b"").unwrap().status, 200);
    agent.finish();
}

/// Fault 11: attempts in one second, no eMMC, an image in use.
#[test]
fn two_attempts_in_one_second_are_two_records_and_an_image_in_use_stays() {
    let agent = TestAgent::start("{mqtt: off}");
    assert_eq!(upload(&agent, "a.img", &[1; 4096]).status, 200);
    form(&agent, "/project/create", "project_name=p&active=true&image=a.img");
    let board = FakeBoard::new(agent.devices, 1);
    // However the seconds fall, so many attempts meet in one of them.
    for _ in 0..12 {
        assert_eq!(board.provision(SIZE).unwrap().status, 200);
    }
    let records = agent.get(&format!("/result/getresultsbyserial?serial={}", board.serial)).json();
    let records = records.as_object().unwrap();
    assert_eq!(records.len(), 12, "{:?}", records.keys());
    assert!(records.keys().any(|key| key.ends_with("_2")), "{:?}", records.keys());
    for key in records.keys() {
        let path = format!("/result/getresult?serial={}&timestamp={key}", board.serial);
        assert_eq!(agent.get(&path).json(), records[key]);
    }
    let answer = http::call(agent.operators, "DELETE", "/image/delete-image?image=a.img", &[], b"").unwrap();
    assert_eq!(answer.status, 409, "{}", answer.text());
    let lite = format!("/scriptexecute?serial=1000000000000005&model=x&storagesize=&mac={}", "020000000005");
    let script = http::call(agent.devices, "GET", &lite, &[], b"").unwrap();
    assert!(script.status == 200 && script.text().starts_with("#!/bin/sh"), "{}", script.text());
    agent.finish();
}

/// Fault 7: names that lead out, and shell in a serial.
#[test]
fn a_name_is_never_a_path() {
    let agent = TestAgent::start("{mqtt: off}");
    let secret = agent.folder.path().join("data/secret");
    fs::write(&secret, "keep me").unwrap();
    for name in ["../secret", "../../etc/passwd", "/etc/passwd", "..", "secret"] {
        let escaped = name.replace('/', "%2F");
        for (method, path) in [
            ("GET", format!("/image/download-image?image={escaped}")),
            ("DELETE", format!("/image/delete-image?image={escaped}")),
            ("GET", format!("/eeprom/download-eeprom?eeprom={escaped}")),
            ("DELETE", format!("/eeprom/delete-eeprom?eeprom={escaped}")),
        ] {
            assert_eq!(http::call(agent.operators, method, &path, &[], b"").unwrap().status, 404, "{method} {path}");
        }
        for path in [format!("/downloadimage/{escaped}"), format!("/downloadeeprom/{escaped}")] {
            assert_eq!(http::call(agent.devices, "GET", &path, &[], b"").unwrap().status, 404, "{path}");
        }
        if name.contains('/') || name == ".." {
            assert_eq!(upload(&agent, name, &[1; 512]).status, 400, "{name}");
        }
    }
    assert_eq!(fs::read_to_string(secret).unwrap(), "keep me");
    let query = "/result/getresultsbyserial?serial=x%22%3B%20reboot";
    assert_eq!(agent.get(query).json(), json!({"error": "Serial number not found"}));
    agent.finish();
}

/// Faults 5 and 8: an upload that breaks off leaves nothing, and a taken name is told at once.
#[test]
fn an_upload_is_whole_or_not_there_and_a_taken_name_is_told_before_the_body() {
    let agent = TestAgent::start("{mqtt: off}");
    let announce = |name: &str| {
        let body = multipart("image", name, &[7; 20_000], None);
        let mut stream = TcpStream::connect(agent.operators).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let (kind, boundary) = MULTIPART;
        let host = agent.operators;
        let head = format!("POST /image/upload-image HTTP/1.1\r\nHost: {host}\r\n{kind}: {boundary}\r\n");
        write!(stream, "{head}Content-Length: 2000000000\r\n\r\n").unwrap();
        stream.write_all(&body[..10_000]).unwrap();
        stream
    };
    drop(announce("a.img"));
    let cut = |event: &Value| event["type"] == "io.bootline.image.rejected.v1";
    assert!((0..10_000).any(|_| agent.events().iter().any(cut)), "the station notices");
    assert_eq!(agent.get("/image/list-images").json(), json!({"images": {}}));
    assert_eq!(upload(&agent, "a.img", &[1; 512]).status, 200, "the name is free");
    let mut answer = [0; 12];
    announce("a.img").read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 400", "with most of the body still to come");
    agent.finish();
}

/// A request for a boot file, and the first block of it: from where it comes, and what is in it.
fn fetch_first(client: &UdpSocket, station: SocketAddr) -> (SocketAddr, Vec<u8>) {
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client.send_to(b"\0\x01kernel.img\0octet\0", station).unwrap();
    let mut packet = [0; 600];
    let (length, from) = client.recv_from(&mut packet).unwrap();
    assert_eq!(packet[..4], [0, 3, 0, 1], "the first block");
    (from, packet[4..length].to_vec())
}

/// Fault 9: 50 downloads at most, and then a livelock. What it says of addresses is in `core/floor/tests/conflict.rs`.
#[test]
fn two_hundred_downloads_at_once_all_begin_and_all_end() {
    let agent = TestAgent::start("{mqtt: off}");
    let kernel: Vec<u8> = (0..700_u32).map(|n| n.to_le_bytes()[0]).collect();
    fs::write(agent.folder.path().join("bootfiles/kernel.img"), &kernel).unwrap();
    let clients: Vec<UdpSocket> = (0..200).map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
    // All of them have their first block, and none of them acknowledges it.
    let begun: Vec<(SocketAddr, Vec<u8>)> = clients.iter().map(|client| fetch_first(client, agent.tftp)).collect();
    for (client, (from, first)) in clients.iter().zip(begun) {
        client.send_to(&[0, 4, 0, 1], from).unwrap();
        let mut packet = [0; 600];
        // The first block may have been sent again meanwhile.
        let rest = loop {
            let length = client.recv(&mut packet).unwrap();
            if packet[..4] == [0, 3, 0, 2] {
                break &packet[4..length];
            }
        };
        client.send_to(&[0, 4, 0, 2], from).unwrap();
        assert_eq!([&first, rest].concat(), kernel);
    }
    agent.finish();
}

/// Fault 12: what the station has started does not outlive it.
#[test]
fn a_stop_ends_the_programs_that_it_has_started_and_what_those_have_started() {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert!(agent.stop().success());
    let (path, pipe) = (agent.folder.path().join("bootline.yml"), agent.folder.path().join("pipe"));
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
    // Both hold the pipe open: it ends with the last of them.
    let program = format!("exec 3>'{}'; sleep 1000 & echo begun >&3; wait", pipe.display());
    let printers = format!("printers: [{{name: hung, command: [sh, -c, \"{program}\"], timeout: 1h}}]\n");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{printers}")).unwrap();
    agent.restart();
    let (tell, told) = channel();
    std::thread::spawn(move || {
        let mut pipe = fs::File::open(pipe).unwrap();
        let mut begun = [0; 6];
        pipe.read_exact(&mut begun).unwrap();
        tell.send("begun").unwrap();
        pipe.read_to_end(&mut Vec::new()).unwrap();
        tell.send("ended").unwrap();
    });
    assert_eq!(agent.post("/api/v1/labels", &json!({"name": "plate", "text": "{{ device.mac }}"})).status, 200);
    let image = agent.image("a.img", &[1; 4096]);
    let labels = json!([{"label": "plate", "on": "preinstall", "printer": "hung"}]);
    let project = json!({"name": "p", "image": image, "active": true, "labels": labels});
    assert_eq!(agent.post("/api/v1/projects", &project).status, 201);
    assert_eq!(FakeBoard::new(agent.devices, 1).ask(SIZE).unwrap().status, 200);
    assert_eq!(told.recv_timeout(PATIENCE), Ok("begun"));
    assert!(agent.stop().success(), "SIGTERM is a stop in order");
    assert_eq!(told.recv_timeout(PATIENCE), Ok("ended"));
}

/// What is gone is still called in the history as it was.
#[test]
fn a_record_names_its_project_and_image_also_when_both_are_deleted() {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert_eq!(upload(&agent, "a.img", &[1; 4096]).status, 200);
    form(&agent, "/project/create", "project_name=Gerät 7&active=true&image=a.img");
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(SIZE).unwrap().status, 200);
    for path in ["/project/delete?project_name=Ger%C3%A4t%207", "/image/delete-image?image=a.img"] {
        assert_eq!(http::call(agent.operators, "DELETE", path, &[], b"").unwrap().status, 200, "{path}");
    }
    let named = |agent: &TestAgent| {
        let records = agent.get(&format!("/result/getresultsbyserial?serial={}", board.serial)).json();
        let info = records.as_object().unwrap().values().next().unwrap()["cmProvisionInfo"].clone();
        (info["projectName"].clone(), info["image"].clone())
    };
    assert_eq!(named(&agent), (json!("Gerät 7"), json!("a.img")));
    assert!(agent.stop().success());
    agent.restart();
    assert_eq!(named(&agent), (json!("Gerät 7"), json!("a.img")));
    agent.finish();
}

/// Fault 10: a listener that reads nothing keeps nobody waiting.
#[test]
fn a_listener_that_stops_reading_freezes_no_device() {
    let agent = TestAgent::start("{mqtt: off}");
    assert_eq!(upload(&agent, "a.img", &[1; 512]).status, 200);
    form(&agent, "/project/create", "project_name=p&active=true&image=a.img");
    let mut deaf = TcpStream::connect(agent.operators).unwrap();
    let host = agent.operators;
    write!(
        deaf,
        "GET / HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    .unwrap();
    let mut head = [0; 12];
    deaf.read_exact(&mut head).unwrap();
    assert_eq!(&head, b"HTTP/1.1 101");
    for n in 0..60 {
        assert_eq!(FakeBoard::new(agent.devices, n).provision(SIZE).unwrap().status, 200);
    }
    agent.finish();
}

/// Fault 4: what was recorded survives a kill at any moment.
#[test]
fn the_history_survives_a_kill() {
    let mut agent = TestAgent::start("{mqtt: off}");
    assert_eq!(upload(&agent, "a.img", &[1; 512]).status, 200);
    form(&agent, "/project/create", "project_name=p&active=true&image=a.img");
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(SIZE).unwrap().status, 200);
    let before = agent.get("/result/getresults").json();
    agent.kill();
    agent.restart();
    assert_eq!(agent.get("/result/getresults").json(), before);
    agent.finish();
}
