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
use crate::core::floor::{Deadlines, Settings};
use crate::core::image::Image;
use crate::ledger::Clock;

const QUERY: &str = "serial=10000000a1b2c3d4&model=Raspberry+Pi+Compute+Module+4&storagesize=15269888\
    &mac=e4:5f:01:11:22:33&inversejumper=&memorysize=1893504&temp=42.0'C&cid=&csd=&bootmode=2";
const BODY: &[u8] = &[7; 4096];

struct World {
    data: TempDir,
    ledger: Ledger,
    images: Images,
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
        };
        let (ledger, _) = Ledger::open(&data.path().join("bootline.db"), "", settings, Clock::default()).unwrap();
        let images = Images::open(data.path(), images::Settings::default(), ledger.clone()).unwrap();
        tokio::spawn(images.clone().run(CancellationToken::new()));
        let upload = stream::iter([Ok::<_, Infallible>(Bytes::from_static(BODY))]);
        let image = images.take("a.img", || Ok(None), upload).await.unwrap();
        let device = Device::new(ledger.clone(), images.clone(), "192.168.5.1:80".parse().unwrap());
        Self { data, ledger, images, device, image }
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
async fn a_simulated_device_runs_its_script_to_the_end() {
    let world = World::new().await.with_project().await;
    let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    let device = Device::new(world.ledger.clone(), world.images.clone(), address);
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
