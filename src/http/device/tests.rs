//! The device side by its router, with a real ledger and library; and once by a real device's shell.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

use axum::http::request::Builder;
use futures_util::stream;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use super::*;
use crate::core::address::Pool;
use crate::core::command::{Envelope, Status, Transport};
use crate::core::device::{BootIdentity, Family, Mac};
use crate::core::floor::{Deadlines, Settings};
use crate::core::image::Image;
use crate::core::observation::{DhcpAsk, DhcpKind};
use crate::core::timeline::What;
use crate::core::view::DhcpVerdict;
use crate::ledger::Clock;

const QUERY: &str = "serial=10000000a1b2c3d4&model=Raspberry+Pi+Compute+Module+4&storagesize=15269888\
    &mac=e4:5f:01:11:22:33&inversejumper=&memorysize=1893504&temp=42.0'C&cid=&csd=&bootmode=2";
const BODY: &[u8] = &[7; 4096];

struct World {
    data: TempDir,
    ledger: Ledger,
    images: Images,
    firmware: Firmwares,
    device: Device,
    image: Image,
}

/// A session as the script sees it.
struct Attempt {
    path: String,
    token: String,
    script: String,
}

struct Answered {
    status: u16,
    headers: HeaderMap,
    body: String,
}

impl World {
    async fn new() -> Self {
        let data = tempfile::tempdir().unwrap();
        let pool = Pool {
            server: Ipv4Addr::new(10, 0, 0, 1),
            first: Ipv4Addr::new(10, 0, 0, 2),
            last: Ipv4Addr::new(10, 0, 0, 200),
            lease: Duration::from_secs(3600),
            reservations: BTreeMap::new(),
        };
        let settings = Settings {
            station: "st-01".to_owned(),
            version: "0.0.0".to_owned(),
            pool,
            max_attempts: 3,
            deadlines: Deadlines::default(),
            line: crate::core::slot::Line::default(),
        };
        let (ledger, _) = Ledger::open(&data.path().join("bootline.db"), "", settings, Clock::default()).unwrap();
        let images = Images::open(data.path(), images::Settings::default(), ledger.clone()).unwrap();
        tokio::spawn(images.clone().run(CancellationToken::new()));
        let upload = stream::iter([Ok::<_, Infallible>(Bytes::from_static(BODY))]);
        let image = images.take("a.img", || Ok(None), upload).await.unwrap();
        let server = "192.168.5.1:80".parse().unwrap();
        let boot = data.path().join("boot");
        fs::create_dir(&boot).unwrap();
        let files = Arc::new(BootFiles::new(boot, "192.168.5.1:80".parse().unwrap()));
        let firmware = Firmwares::open(data.path(), ledger.clone()).unwrap();
        let shelves = Shelves { images: images.clone(), firmware: firmware.clone(), files };
        let device = Device::new(ledger.clone(), shelves, server);
        Self { data, ledger, images, firmware, device, image }
    }

    async fn with_project(self) -> Self {
        let minted_id = Uuid::now_v7().to_string().parse().unwrap();
        let envelope = Envelope {
            name: Some("project.create"),
            id: None,
            minted_id,
            transport: Transport::Rest,
            now: self.ledger.now(),
        };
        let body = br#"{"params":{"name":"Gateway","image":"a.img","active":true}}"#;
        assert_eq!(self.ledger.command(body, &envelope).await.status, Status::Succeeded);
        self
    }

    async fn send(&self, request: Builder, body: impl Into<Body>) -> Answered {
        let peer: SocketAddr = "127.0.0.1:40000".parse().unwrap();
        let request = request.extension(ConnectInfo(peer)).body(body.into()).unwrap();
        let response = router(self.device.clone()).oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Answered {
            status: parts.status.as_u16(),
            headers: parts.headers,
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }

    async fn ask(&self, query: &str) -> Answered {
        self.send(Request::get(format!("/scriptexecute?{query}")), Body::empty()).await
    }

    async fn attempt(&self) -> Attempt {
        let answered = self.ask(QUERY).await;
        assert_eq!(answered.status, 200);
        let value = |name: &str| {
            let line = answered.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix("='"));
            line.unwrap_or_else(|| panic!("{name} in {}", answered.body)).trim_end_matches('\'').to_owned()
        };
        let path = value("IMAGE_URL").strip_prefix("http://192.168.5.1").unwrap().trim_end_matches("/image").to_owned();
        Attempt { path, token: value("TOKEN"), script: answered.body }
    }

    async fn report(&self, attempt: &Attempt, fields: &str) -> Answered {
        self.send(attempt.post("report"), fields.to_owned()).await
    }

    async fn events(&self) -> Vec<String> {
        self.ledger.events(0, 100).await.unwrap().into_iter().map(|event| event.name).collect()
    }
}

impl Attempt {
    fn post(&self, what: &str) -> Builder {
        Request::post(format!("{}/{what}", self.path)).header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }

    fn image(&self) -> Builder {
        Request::get(format!("{}/image", self.path)).header(header::AUTHORIZATION, format!("Bearer {}", self.token))
    }
}

impl Answered {
    /// A problem with this code.
    fn assert_problem(&self, status: u16, code: &str) {
        assert_eq!(self.headers[header::CONTENT_TYPE], "application/problem+json", "{}", self.body);
        let problem: Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!((self.status, problem["code"].as_str().unwrap()), (status, code), "{}", self.body);
    }

    /// A script that says this and fails.
    fn assert_refusal(&self, word: &str) {
        assert_eq!(
            (self.status, self.headers[header::CONTENT_TYPE].to_str().unwrap()),
            (200, "text/plain; charset=utf-8")
        );
        let output = std::process::Command::new("sh").arg("-c").arg(&self.body).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", self.body);
        let said = String::from_utf8(output.stdout).unwrap();
        assert!(said.contains(word), "{said}");
    }
}

#[tokio::test]
async fn a_device_gets_its_script_and_the_same_one_when_it_asks_again() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    assert!(attempt.script.contains("SERIAL='10000000a1b2c3d4'\n"));
    assert!(attempt.script.contains("REGULAR_FILE='no'\n"));
    assert_eq!(attempt.token.len(), 64);
    let again = world.attempt().await;
    assert_eq!((again.path, again.token), (attempt.path, attempt.token));
    let head = world.send(Request::head(format!("/scriptexecute?{QUERY}")), Body::empty()).await;
    assert_eq!(head.status, 405);
}

#[tokio::test]
async fn every_no_is_a_script_that_runs_and_fails() {
    let world = World::new().await;
    let before = world.events().await.len();
    world.ask("").await.assert_refusal("serial is missing");
    world.ask("serial=x%22;+touch+/tmp/owned;+echo+%22").await.assert_refusal("touch /tmp/owned");
    world.ask("serial=%27%3Btouch+%24(id)%0Areboot").await.assert_refusal("not a serial");
    world.ask("serial=a1b2c3d4&storagesize=$(reboot)").await.assert_refusal("not a number");
    assert_eq!(world.events().await.len(), before);
    world.ask(QUERY).await.assert_refusal("no_project");
    assert_eq!(world.events().await.last().unwrap(), "device.refused");
}

#[tokio::test]
async fn a_station_that_cannot_write_asks_the_device_to_come_again() {
    let response = shell(Err(Refusal::new(503, "unavailable", "the ledger cannot write: disk full").retryable()));
    assert_eq!(
        (response.status().as_u16(), &response.headers()[header::RETRY_AFTER]),
        (503, &HeaderValue::from_static("5"))
    );
    let script = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    assert!(String::from_utf8_lossy(&script).contains("REASON='the ledger cannot write: disk full'\n"));
}

#[tokio::test]
async fn an_image_is_served_in_whole_in_parts_and_by_its_digest() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    let tag = format!("\"{}\"", world.image.id);
    let whole = world.send(attempt.image(), Body::empty()).await;
    assert_eq!((whole.status, whole.body.as_bytes()), (200, BODY));
    assert_eq!(
        (whole.headers[header::ETAG].to_str().unwrap(), &whole.headers[header::CONTENT_LENGTH]),
        (&*tag, &"4096".parse().unwrap())
    );
    let head = world.send(attempt.image().method("HEAD"), Body::empty()).await;
    assert_eq!((head.status, &*head.body, &head.headers[header::CONTENT_LENGTH]), (200, "", &"4096".parse().unwrap()));
    let answer = async |name: HeaderName, value: &str| {
        let request = attempt.image().header(header::RANGE, "bytes=4000-").header(name, value);
        let answered = world.send(request, Body::empty()).await;
        assert_eq!(answered.headers[header::ETAG], tag);
        (answered.status, answered.body.len())
    };
    assert_eq!(answer(header::IF_RANGE, &tag).await, (206, 96));
    assert_eq!(answer(header::IF_RANGE, "\"other\"").await, (200, 4096));
    assert_eq!(answer(header::IF_MATCH, "\"other\"").await, (412, 0));
    assert_eq!(answer(header::IF_NONE_MATCH, &format!("\"x\", {tag}")).await, (304, 0));
    let beyond = world.send(attempt.image().header(header::RANGE, "bytes=5000-"), Body::empty()).await;
    assert_eq!(beyond.status, 416);
}

#[tokio::test]
async fn nothing_is_done_without_the_token_of_the_session() {
    let world = World::new().await.with_project().await;
    let real = world.attempt().await;
    let token = "0".repeat(64);
    let thief = Attempt { token, path: real.path.clone(), script: String::new() };
    world.send(thief.image(), Body::empty()).await.assert_problem(401, "bad_token");
    world.report(&thief, "step=write&state=started").await.assert_problem(401, "bad_token");
    world.send(thief.post("progress"), "step=write&bytes=1").await.assert_problem(401, "bad_token");
    world.send(Request::get(format!("{}/image", real.path)), Body::empty()).await.assert_problem(401, "bad_token");
    let lost = Attempt { path: real.path.replace('0', "f"), token: real.token.clone(), script: String::new() };
    world.send(lost.image(), Body::empty()).await.assert_problem(404, "not_found");
    let odd = Attempt { path: format!("{}/x", script::SESSIONS), token: real.token.clone(), script: String::new() };
    world.report(&odd, "state=finished").await.assert_problem(404, "not_found");
    assert_eq!(world.events().await.last().unwrap(), "device.started");
}

#[tokio::test]
async fn reports_lead_a_session_to_its_end_and_not_beyond() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    let proof = format!("step=verify&state=completed&bytes=4096&cache=direct&sha256={}", world.image.raw_sha256);
    for fields in
        ["step=write&state=started", "step=write&state=completed&bytes=4096", "step=verify&state=started", &proof]
    {
        let answered = world.report(&attempt, fields).await;
        assert_eq!((answered.status, answered.body.contains(r#""state":"recorded""#)), (200, true), "{fields}");
    }
    let progress = world.send(attempt.post("progress"), "step=verify&bytes=4096").await;
    assert_eq!(progress.status, 200);
    for _ in 0..2 {
        assert_eq!(world.report(&attempt, "state=finished").await.status, 200, "a lost answer is given again");
    }
    assert_eq!(world.events().await.last().unwrap(), "device.provisioned");
    world.report(&attempt, "step=write&state=started").await.assert_problem(409, "session_closed");
    world.send(attempt.image(), Body::empty()).await.assert_problem(409, "session_closed");
    world.ask(QUERY).await.assert_refusal("already");
}

#[tokio::test]
async fn a_report_that_is_none_is_refused_with_a_pointer() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    world.report(&attempt, "step=dance&state=started").await.assert_problem(400, "invalid_params");
    world.report(&attempt, &"x".repeat(MAX_REPORT + 1)).await.assert_problem(413, "too_large");
    world.report(&attempt, "step=verify&state=started").await.assert_problem(409, "wrong_state");
}

#[tokio::test]
async fn an_image_whose_file_is_gone_is_said_as_such() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    fs::remove_file(world.images.file(world.image.id)).unwrap();
    world.send(attempt.image(), Body::empty()).await.assert_problem(404, "image_missing");
}

#[tokio::test]
async fn boot_files_have_their_tftp_names_below_boot() {
    let world = World::new().await;
    let boot = world.data.path().join("boot");
    fs::write(boot.join("boot.img"), [7; 1000]).unwrap();
    fs::write(boot.join("pieeprom.upd"), "flash").unwrap();
    fs::write(boot.join("BOOTAA64.EFI"), "efi").unwrap();
    std::os::unix::fs::symlink("../bootline.db", boot.join("out")).unwrap();
    let get = async |path: &str| world.send(Request::get(format!("/boot/{path}")), Body::empty()).await;
    for path in ["boot.img", "/boot.img", "c0ffee12/boot.img", "c0ffee12//boot.img", "boot%2Eimg"] {
        let answered = get(path).await;
        assert_eq!((answered.status, answered.body.len()), (200, 1000), "{path}");
        assert_eq!(answered.headers[header::CONTENT_LENGTH], "1000");
        assert_eq!(answered.headers[header::CONTENT_TYPE], "application/octet-stream");
    }
    assert_eq!(get("BOOTAA64.EFI").await.headers[header::CONTENT_TYPE], "application/efi");
    let line = get("cmdline.txt").await.body;
    assert!(line.contains("http://192.168.5.1/scriptexecute"), "{line}");
    for path in
        ["none", "out", "pieeprom.upd", "../bootline.db", "%2e%2e/bootline.db", "..%2Fbootline.db", "%2Fetc%2Fpasswd"]
    {
        let answered = get(path).await;
        assert_eq!((answered.status, &*answered.body), (404, "file not found\n"), "{path}");
        assert_eq!(answered.headers[header::CONTENT_LENGTH], "15");
    }
}

#[tokio::test]
async fn a_boot_file_has_a_length_before_it_is_fetched_and_may_be_fetched_in_parts() {
    let world = World::new().await;
    let bytes: Vec<u8> = (0..=255).collect();
    fs::write(world.data.path().join("boot/boot.img"), &bytes).unwrap();
    // EDK2 asks by HEAD how large the file is, and does without what has no length.
    let head = Request::head("/boot/boot.img").header(header::USER_AGENT, "UefiHttpBoot/1.0");
    let head = world.send(head, Body::empty()).await;
    assert_eq!((head.status, &head.headers[header::CONTENT_LENGTH], &*head.body), (200, &"256".parse().unwrap(), ""));
    let part = async |range: &str| {
        let request = Request::get("/boot/boot.img").header(header::RANGE, range);
        let answered = world.send(request, Body::empty()).await;
        let said = answered.headers.get(header::CONTENT_RANGE).map(|value| value.to_str().unwrap().to_owned());
        (answered.status, said.unwrap_or_default(), answered.body.len())
    };
    assert_eq!(part("bytes=0-9").await, (206, "bytes 0-9/256".to_owned(), 10));
    assert_eq!(part("bytes=50-99").await, (206, "bytes 50-99/256".to_owned(), 50));
    assert_eq!(part("bytes=100-100").await, (206, "bytes 100-100/256".to_owned(), 1));
    assert_eq!(part("bytes=90-99999999999").await.1, "bytes 90-255/256");
    assert_eq!(part("bytes=128-").await.1, "bytes 128-255/256");
    assert_eq!(part("bytes=-16").await.1, "bytes 240-255/256");
    assert_eq!(part("bytes=256-").await, (416, "bytes */256".to_owned(), 14));
    for whole in ["bytes=9-0", "bytes=0-1,3-4", "lines=1-2", "bytes=x"] {
        assert_eq!(part(whole).await.0, 200, "{whole}");
    }
}

#[tokio::test]
async fn a_boot_file_is_for_the_device_that_has_the_address_and_is_noted_in_its_timeline() {
    let world = World::new().await.with_project().await;
    let boot = world.data.path().join("boot");
    for place in ["2712", "projects/gateway"] {
        fs::create_dir_all(boot.join(place)).unwrap();
    }
    fs::write(boot.join("2712/kernel8.img"), "of the family").unwrap();
    fs::write(boot.join("projects/gateway/boot.img"), "of the project").unwrap();
    let mac: Mac = "020000000001".parse().unwrap();
    let ask = DhcpAsk {
        kind: DhcpKind::Discover,
        mac,
        identity: Some(BootIdentity { family: Family::Pi5, revision: None, serial8: None }),
        circuit: None,
        requested: None,
        anyone: false,
        proxy: false,
    };
    let verdict = world.ledger.submit(Input::Observed(Observation::Dhcp(ask))).await.unwrap().answer;
    let Answer::Dhcp(DhcpVerdict::Lease(lease)) = verdict else { panic!("{verdict:?}") };
    let peer = SocketAddr::new(lease.address.into(), 40_000);
    for (name, text) in
        [("kernel8.img", "of the family"), ("boot.img", "of the project"), ("none.img", "file not found\n")]
    {
        let request = Request::get(format!("/boot/{name}")).extension(ConnectInfo(peer)).body(Body::empty()).unwrap();
        let response = router(world.device.clone()).oneshot(request).await.unwrap();
        let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
        assert_eq!(body, text, "{name}");
    }
    world.device.served.tell(&world.ledger).await;
    let timeline = world.ledger.timeline(mac).await.unwrap();
    let files: Vec<(&str, u64, &str)> = timeline
        .iter()
        .filter(|moment| moment.what == What::File)
        .map(|moment| (moment.name.as_str(), moment.bytes, moment.result.as_str()))
        .collect();
    assert_eq!(files, [("kernel8.img", 13, "sent"), ("boot.img", 14, "sent"), ("none.img", 0, "missing")]);
}

#[tokio::test]
async fn a_simulated_device_runs_its_script_to_the_end() {
    let world = World::new().await.with_project().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let files = Arc::clone(&world.device.files);
    let shelves = Shelves { images: world.images.clone(), firmware: world.firmware.clone(), files };
    let device = Device::new(world.ledger.clone(), shelves, address);
    let service = router(device).into_make_service_with_connect_info::<SocketAddr>();
    let serving = tokio::spawn(async move { axum::serve(socket, service).await });
    let medium = world.data.path().join("medium");
    fs::write(&medium, vec![0xaa; 8192]).unwrap();
    // As the initramfs does it, but for the medium.
    let boot = format!(
        "curl -g -sS -o script 'http://{address}/scriptexecute?{}&simulated=1'\n\
         sed 's#^STORAGE=.*#STORAGE={}#' script >caged && sh caged",
        QUERY.replace('\'', "%27"),
        medium.display()
    );
    let output = tokio::process::Command::new("sh")
        .args(["-c", &boot])
        .current_dir(world.data.path())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    serving.abort();
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stdout).ends_with("Provisioning completed successfully!\n"), "{output:?}");
    let written = fs::read(&medium).unwrap();
    assert!(written[..4096] == *BODY && written[4096..] == [0xaa; 4096]);
    assert_eq!(world.events().await.last().unwrap(), "device.provisioned");
}

#[tokio::test]
async fn a_device_gets_the_firmware_of_its_plan() {
    use crate::core::firmware::eeprom::Eeprom;
    use crate::core::firmware::eeprom::tests::of_2711;

    let world = World::new().await;
    let image = of_2711(1_785_801_600, "[all]\nBOOT_UART=0\n");
    world.firmware.take("pieeprom.bin", None, Ok(image.clone().into())).await.unwrap();
    let envelope = Envelope {
        name: Some("project.create"),
        id: None,
        minted_id: "minted-0001".parse().unwrap(),
        transport: Transport::Rest,
        now: world.ledger.now(),
    };
    let wish = r#"{"image":"pieeprom.bin","settings":{"BOOT_ORDER":"0xf2461"}}"#;
    let body = format!(r#"{{"params":{{"name":"Gateway","image":"a.img","active":true,"firmware":{wish}}}}}"#);
    assert_eq!(world.ledger.command(body.as_bytes(), &envelope).await.status, Status::Succeeded);

    let attempt = world.attempt().await;
    let edited = Eeprom::parse(image).unwrap().with_bootconf(b"[all]\nBOOT_UART=0\nBOOT_ORDER=0xf2461\n").unwrap();
    let sum = crate::core::image::Digest::new(<sha2::Sha256 as sha2::Digest>::digest(&edited).into());
    assert!(attempt.script.contains(&format!("FIRMWARE_SHA256='{sum}'\n")));
    let request = Request::get(format!("{}/firmware", attempt.path));
    let mine = request.header(header::AUTHORIZATION, format!("Bearer {}", attempt.token));
    let answered = world.send(mine, Body::empty()).await;
    assert_eq!(
        (answered.status, answered.headers[header::CONTENT_LENGTH].to_str().unwrap()),
        (200, edited.len().to_string().as_str())
    );
    assert_eq!(answered.headers[header::ETAG].to_str().unwrap(), format!("\"{sum}\""));
    world
        .send(Request::get(format!("{}/firmware", attempt.path)), Body::empty())
        .await
        .assert_problem(401, "bad_token");
    world.report(&attempt, "step=write&state=started").await.assert_problem(409, "wrong_state");
    let done = format!("step=firmware&state=completed&sha256={sum}&version_before=x&built_before=1&version_after=y");
    for fields in ["step=firmware&state=started", &done, "step=write&state=started"] {
        assert_eq!(world.report(&attempt, fields).await.status, 200, "{fields}");
    }
    assert!(!world.events().await.contains(&"device.refused".to_owned()));
}

#[tokio::test]
async fn a_plan_without_firmware_gives_none() {
    let world = World::new().await.with_project().await;
    let attempt = world.attempt().await;
    assert!(attempt.script.contains("FIRMWARE_URL=''\n"));
    let request = Request::get(format!("{}/firmware", attempt.path));
    let mine = request.header(header::AUTHORIZATION, format!("Bearer {}", attempt.token));
    world.send(mine, Body::empty()).await.assert_problem(404, "not_found");
}
