//! EEPROM firmware over the real doors: uploads, projects, the step on the device, a power cut.

use serde_json::{Value, json};

use crate::agent::TestAgent;
use crate::board::{FakeBoard, Orders, sha256};
use crate::http::{self, Answer};

const IMAGE: &[u8] = &[7; 4096];
const STOCK: &str = "[all]\nBOOT_UART=0\n";

/// Laid out as an image of a 2711 is, with nothing in it that runs.
pub fn eeprom(bootconf: &str) -> Vec<u8> {
    let mut image = vec![0xff; 512 << 10];
    let mut put = |at: usize, magic: u32, payload: &[u8]| {
        let length = u32::try_from(payload.len()).unwrap();
        let section = [&magic.to_be_bytes(), &length.to_be_bytes(), payload].concat();
        image[at..at + section.len()].copy_from_slice(&section);
    };
    let mut code = b"BUILD_TIMESTAMP=1785801600\0VERSION:8ba17717fbce\0".to_vec();
    code.resize(0x7_2ff8, 0);
    put(0, 0x55aa_f00f, &code);
    put(0x7_3000, 0x55aa_f11f, &[b"bootconf.txt\0\0\0\0", bootconf.as_bytes()].concat());
    image
}

fn upload(agent: &TestAgent, query: &str, kind: &str, body: &[u8]) -> Answer {
    http::call(agent.operators, "POST", &format!("/api/v1/firmware{query}"), &[("Content-Type", kind)], body).unwrap()
}

fn with_firmware(agent: &TestAgent, settings: &Value) -> Answer {
    let firmware = json!({"image": "pieeprom.bin", "settings": settings});
    let project =
        json!({"name": "Gateway", "image": agent.image("a.img", IMAGE), "active": true, "firmware": firmware});
    agent.post("/api/v1/projects", &project)
}

fn flash(board: &FakeBoard, orders: &Orders) -> Vec<u8> {
    let token = format!("Bearer {}", orders.value("TOKEN"));
    let path = orders.path("FIRMWARE_URL");
    let eeprom = http::call(board.station, "GET", &path, &[("Authorization", &token)], b"").unwrap();
    assert_eq!(eeprom.status, 200, "{}", eeprom.text());
    eeprom.body
}

#[test]
fn firmware_is_uploaded_listed_shown_and_deleted() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = eeprom(STOCK);
    let sum = sha256(&image);
    let octets = "application/octet-stream";
    let added = upload(&agent, &format!("?name=pieeprom.bin&sha256={sum}"), octets, &image);
    assert_eq!(added.status, 201, "{}", added.text());
    let firmware = added.json()["firmware"].clone();
    assert_eq!((&firmware["id"], &firmware["chip"]), (&json!(sum), &json!("bcm2711")));
    assert_eq!(firmware["version"], "2026-08-04 8ba17717");
    assert_eq!(agent.get("/api/v1/firmware").json()["firmware"], json!([firmware]));
    assert_eq!(agent.get(&format!("/api/v1/firmware/{sum}")).json()["firmware"], firmware);
    assert_eq!(agent.get(&format!("/api/v1/firmware/{sum}/content")).body, image);
    assert_eq!(agent.get(&format!("/api/v1/firmware/{sum}/pieeprom.sig")).text(), format!("{sum}\nts: 1785801600\n"));

    let form = |field: &str, bytes: &[u8]| {
        let head = format!("--x\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"other.bin\"\r\n\r\n");
        [head.as_bytes(), bytes, b"\r\n--x--\r\n"].concat()
    };
    let kind = "multipart/form-data; boundary=x";
    let other = eeprom("A=1\n");
    assert_eq!(upload(&agent, "", kind, &form("firmware", &other)).json()["firmware"]["name"], "other.bin");
    for (query, kind, body, code) in [
        ("?name=a", octets, &[0; 512][..], "firmware_size"),
        ("?name=a", octets, &[0; (2 << 20) + 1], "too_large"),
        ("?name=a", octets, &[0; 512 << 10], "firmware_content"),
        ("?name=a&sha256=x", octets, &image, "invalid_params"),
        (&format!("?name=a&sha256={}", "0".repeat(64)), octets, &image, "sha256_mismatch"),
        ("", octets, &image, "invalid_params"),
        ("", kind, &form("eeprom", &other), "invalid_params"),
        ("", kind, &form("firmware", &[0; (2 << 20) + 1]), "firmware_size"),
        ("", kind, &form("firmware", &[0; 3 << 20]), "too_large"),
    ] {
        assert_eq!(upload(&agent, query, kind, body).code(), code, "{query}");
    }
    assert_eq!(
        http::call(agent.operators, "DELETE", &format!("/api/v1/firmware/{sum}"), &[], b"").unwrap().status,
        200
    );
    assert_eq!(agent.get(&format!("/api/v1/firmware/{sum}")).status, 404);
    let names: Vec<String> = agent
        .events()
        .iter()
        .map(|event| event["type"].as_str().unwrap().to_owned())
        .filter(|name| name.contains("firmware"))
        .collect();
    assert_eq!(names[..2], ["io.bootline.firmware.added.v1"; 2]);
    assert_eq!(names.last().unwrap(), "io.bootline.firmware.removed.v1");
    agent.finish();
}

#[test]
fn a_device_gets_its_eeprom_and_then_its_image_also_after_a_power_cut() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let image = eeprom(STOCK);
    upload(&agent, "?name=pieeprom.bin", "application/octet-stream", &image);
    assert_eq!(with_firmware(&agent, &json!({})).code(), "firmware_no_network");
    assert_eq!(with_firmware(&agent, &json!({"BOOT_ORDER": "0xf2461"})).status, 201);
    let sum = sha256(&image);
    let used = http::call(agent.operators, "DELETE", &format!("/api/v1/firmware/{sum}"), &[], b"").unwrap();
    assert_eq!(used.code(), "in_use");

    let edited = eeprom(&format!("{STOCK}BOOT_ORDER=0xf2461\n"));
    let board = FakeBoard::new(agent.devices, 1);
    let orders = Orders::read(&board.ask(4096).unwrap().text());
    assert_eq!(orders.value("FIRMWARE_SHA256"), sha256(&edited));
    assert_eq!(flash(&board, &orders), edited);
    agent.kill();
    agent.restart();
    assert_eq!(flash(&board, &orders), edited, "the session is still open");
    let report = |form: &str| board.report(&orders, form).unwrap();
    assert_eq!(report("step=write&state=started").code(), "wrong_state");
    let wrong = "step=firmware&state=completed&skipped=maybe";
    assert_eq!(report(wrong).code(), "invalid_params");
    let done = format!(
        "step=firmware&state=completed&sha256={}&version_before=2023-01-11&built_before=1673458852&version_after=2026-08-04",
        sha256(&edited)
    );
    let read = format!("step=verify&state=completed&bytes=4096&sha256={}&cache=direct", sha256(IMAGE));
    for form in [&done, "step=write&state=completed&bytes=4096", &read, "state=finished"] {
        assert_eq!(report(form).status, 200, "{form}");
    }
    let events = agent.events();
    let of = |name: &str| {
        let is = |event: &&Value| event["type"] == format!("io.bootline.{name}.v1");
        events.iter().find(is).unwrap_or_else(|| panic!("no {name}"))["data"].clone()
    };
    assert_eq!(of("device.started")["plan"]["firmware"]["sha256"], sha256(&edited));
    assert_eq!(of("device.step.completed")["firmware"]["version_before"], "2023-01-11");
    assert_eq!(of("device.step.completed")["firmware"]["version_after"], "2026-08-04");
    let session = &agent.get("/api/v1/sessions").json()["sessions"][0];
    assert_eq!((&session["outcome"], &session["firmware"]["image"]), (&json!("passed"), &json!(sum)));
    agent.finish();
}

#[test]
fn a_file_of_the_import_folder_comes_in_by_rest_and_by_command() {
    let agent = TestAgent::start("{mqtt: off}");
    let import = agent.folder.path().join("data/import");
    std::fs::write(import.join("a.bin"), eeprom("A=1\n")).unwrap();
    std::fs::write(import.join("b.bin"), eeprom("B=1\n")).unwrap();
    assert_eq!(agent.post("/api/v1/firmware/import", &json!({"path": "a.bin"})).status, 201);
    assert_eq!(agent.post("/api/v1/firmware/import", &json!({"path": "../bootline.db"})).status, 400);
    let command = json!({"name": "firmware.add", "params": {"path": "b.bin", "name": "CM4"}});
    let reply = agent.post("/api/v1/commands", &command);
    assert_eq!((reply.status, &reply.json()["status"]), (202, &json!("accepted")));
    let added = |event: &Value| event["type"] == "io.bootline.firmware.added.v1" && event["data"]["name"] == "CM4";
    let patience = std::time::Instant::now();
    while !agent.events().iter().any(added) {
        assert!(patience.elapsed() < crate::agent::PATIENCE, "it never came in");
    }
    agent.finish();
}
