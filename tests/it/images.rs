//! Images on their way in: by breaks, by URL, over power cuts.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Instant;

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::agent::{PATIENCE, TestAgent};
use crate::board::FakeBoard;
use crate::http::{self, Answer};

const TUS: (&str, &str) = ("Tus-Resumable", "1.0.0");
const BYTES: (&str, &str) = ("Content-Type", "application/offset+octet-stream");

fn noise(size: usize) -> Vec<u8> {
    let mut state = 7_u32;
    let next = |_| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..size).map(next).collect()
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

fn header(answer: &Answer, name: &str) -> String {
    let prefix = format!("{name}: ");
    let line = answer.headers.lines().find_map(|line| line.strip_prefix(&prefix));
    line.unwrap_or_else(|| panic!("no {name} in {}", answer.headers)).to_owned()
}

/// Asks until the answer shows what is waited for.
fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "it never came");
        thread::yield_now();
    }
}

fn begin_upload(agent: &TestAgent, size: usize) -> String {
    let length = size.to_string();
    // "upload.img"
    let headers = [TUS, ("Upload-Length", &*length), ("Upload-Metadata", "filename dXBsb2FkLmltZw==")];
    let answer = http::call(agent.operators, "POST", "/api/v1/uploads", &headers, b"").unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
    header(&answer, "location")
}

fn offset(agent: &TestAgent, upload: &str) -> usize {
    let answer = http::call(agent.operators, "HEAD", upload, &[TUS], b"").unwrap();
    assert_eq!(answer.status, 200, "{}", answer.headers);
    header(&answer, "upload-offset").parse().unwrap()
}

fn patch(agent: &TestAgent, upload: &str, at: usize, bytes: &[u8]) -> Answer {
    let at = at.to_string();
    http::call(agent.operators, "PATCH", upload, &[TUS, BYTES, ("Upload-Offset", &at)], bytes).unwrap()
}

#[test]
fn an_upload_goes_on_over_power_cuts_and_its_image_is_written() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let image = noise(3 << 20);
    let upload = begin_upload(&agent, image.len());
    assert_eq!(patch(&agent, &upload, 0, &image[..1 << 20]).status, 204);
    // The power goes in the middle of a request.
    let mut stream = TcpStream::connect(agent.operators).unwrap();
    let head = format!(
        "PATCH {upload} HTTP/1.1\r\nHost: localhost\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: 1048576\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: 2097152\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    stream.write_all(&image[1 << 20..2 << 20]).unwrap();
    agent.kill();
    agent.restart();
    let at = offset(&agent, &upload);
    assert!(((1 << 20)..=(2 << 20)).contains(&at), "what was acknowledged is there: {at}");
    assert_eq!(patch(&agent, &upload, at + 1, b"x").code(), "offset_mismatch");
    let done = patch(&agent, &upload, at, &image[at..]);
    assert_eq!((done.status, header(&done, "upload-offset")), (204, image.len().to_string()));
    // And once more, perhaps before anyone has looked at the image.
    agent.kill();
    agent.restart();
    assert_eq!(offset(&agent, &upload), image.len());
    let id = hex(&image);
    until(|| (agent.get(&format!("/api/v1/images/{id}")).json()["image"]["state"] == "ready").then_some(()));
    assert_eq!(fs::read_dir(agent.folder.path().join("data/images/uploads")).unwrap().count(), 0);
    agent.project("Line", &id);
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(image.len() as u64).unwrap().status, 200);
    agent.finish();
}

#[test]
fn a_form_may_hold_an_image_of_any_size() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = noise(5 << 20);
    let head = "--x\r\nContent-Disposition: form-data; name=\"image\"; filename=\"form.img\"\r\n\r\n";
    let body = [head.as_bytes(), &image, b"\r\n--x--\r\n"].concat();
    let kind = ("Content-Type", "multipart/form-data; boundary=x");
    let answer = http::call(agent.operators, "POST", "/api/v1/images", &[kind], &body).unwrap();
    assert_eq!((answer.status, &answer.json()["image"]["id"]), (201, &json!(hex(&image))), "{}", answer.text());
    agent.finish();
}

#[test]
fn the_protocol_of_resumable_uploads_is_kept() {
    let agent = TestAgent::start("{mqtt: off}");
    let call = |method: &str, path: &str, headers: &[(&str, &str)]| {
        http::call(agent.operators, method, path, headers, b"").unwrap()
    };
    let abilities = call("OPTIONS", "/api/v1/uploads", &[]);
    assert_eq!((abilities.status, header(&abilities, "tus-version")), (204, "1.0.0".to_owned()));
    assert_eq!(header(&abilities, "tus-extension"), "creation,expiration,termination");
    let name = ("Upload-Metadata", "name eA==");
    for (headers, status) in [
        (vec![("Upload-Length", "512"), name], 412),
        (vec![TUS, name], 400),
        (vec![TUS, ("Upload-Length", "512")], 400),
        (vec![TUS, ("Upload-Length", "0"), name], 400),
        (vec![TUS, ("Upload-Length", "2000000000000"), name], 413),
        (vec![TUS, ("Upload-Length", "512"), ("Upload-Metadata", "name !")], 400),
    ] {
        assert_eq!(call("POST", "/api/v1/uploads", &headers).status, status, "{headers:?}");
    }
    let upload = begin_upload(&agent, 1024);
    let plain = http::call(agent.operators, "PATCH", &upload, &[TUS, ("Upload-Offset", "0")], b"x").unwrap();
    assert_eq!(plain.status, 415);
    assert_eq!(patch(&agent, &upload, 0, &[0; 2000]).code(), "too_large");
    assert_eq!(call("DELETE", &upload, &[TUS]).status, 204);
    assert_eq!(call("GET", &upload, &[]).status, 404);
    assert_eq!(call("GET", "/api/v1/uploads/..%2F..%2Flock", &[]).status, 404);
    agent.finish();
}

#[test]
fn who_does_not_want_to_wait_gets_the_job() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = noise(1 << 20);
    let answer = http::call(agent.operators, "POST", "/api/v1/images?name=a&wait=false", &[], &image).unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let job = header(&answer, "location");
    let ended = until(|| Some(agent.get(&job).json()["job"].clone()).filter(|job| job["state"] != "running"));
    assert_eq!((&ended["state"], &ended["image"]), (&json!("succeeded"), &json!(hex(&image))));
    let bad = http::call(agent.operators, "POST", "/api/v1/images?name=b", &[("Prefer", "respond-async")], &[1; 1000]);
    let job = header(&bad.unwrap(), "location");
    let ended = until(|| Some(agent.get(&job).json()["job"].clone()).filter(|job| job["state"] != "running"));
    assert_eq!((&ended["state"], &ended["error"]["code"]), (&json!("failed"), &json!("size_not_multiple_of_512")));
    let rejected = agent.get(&format!("/api/v1/images/{}", hex(&[1; 1000]))).json();
    assert_eq!(rejected["image"]["state"], "rejected");
    agent.finish();
}

/// A server of one file. The first answer breaks off; a range is answered where it is asked for.
fn serve(file: Vec<u8>, first: usize) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, heads) = channel();
    // It ends with the process of the test.
    thread::spawn(move || {
        for (n, stream) in listener.incoming().map_while(Result::ok).enumerate() {
            answer(stream, &file, if n == 0 { first } else { file.len() }, &tell);
        }
    });
    (address, heads)
}

fn answer(mut stream: TcpStream, file: &[u8], end: usize, tell: &std::sync::mpsc::Sender<String>) {
    let lines = BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok);
    let head: Vec<String> = lines.take_while(|line| !line.is_empty()).map(|line| line.to_lowercase()).collect();
    if head.is_empty() {
        return;
    }
    let range = head.iter().find_map(|line| line.strip_prefix("range: bytes=")?.strip_suffix('-'));
    let from: usize = range.map_or(0, |from| from.parse().unwrap());
    let status = if from > 0 { "206 Partial Content" } else { "200 OK" };
    let reply = format!(
        "HTTP/1.1 {status}\r\nETag: \"v1\"\r\nContent-Length: {}\r\nContent-Range: bytes {from}-{}/{}\r\n\r\n",
        file.len() - from,
        file.len() - 1,
        file.len()
    );
    let _ = stream.write_all(reply.as_bytes());
    // What is asked for when the test is over is answered too.
    let _ = stream.write_all(&file[from..end.max(from)]);
    let _ = tell.send(head.join("\n"));
}

fn add(agent: &TestAgent, url: &str) -> Answer {
    agent.post("/api/v1/commands", &json!({"name": "image.add", "params": {"url": url}}))
}

fn job(agent: &TestAgent, id: &Value) -> Value {
    agent.get(&format!("/api/v1/jobs/{}", id.as_str().unwrap())).json()["job"].clone()
}

#[test]
fn an_image_is_fetched_by_its_url_and_goes_on_where_it_broke_off() {
    let agent = TestAgent::start("{mqtt: off}");
    let image = noise(1 << 20);
    let (server, heads) = serve(image.clone(), 300_000);
    let reply = add(&agent, &format!("http://{server}/files/gateway.img?signature=s3cret"));
    assert_eq!(reply.status, 202, "{}", reply.text());
    let reply = reply.json();
    assert_eq!((&reply["status"], &reply["final"]), (&json!("accepted"), &json!(false)));
    let ended = until(|| Some(job(&agent, &reply["job"])).filter(|job| job["state"] != "running"));
    assert_eq!((&ended["state"], &ended["image"]), (&json!("succeeded"), &json!(hex(&image))), "{ended}");
    assert!(heads.recv().unwrap().starts_with("get /files/gateway.img?signature=s3cret http/1.1"));
    let second = heads.recv().unwrap();
    assert!(second.contains("range: bytes=") && second.contains("if-range: \"v1\""), "{second}");
    let told: String = agent.events().iter().map(Value::to_string).collect();
    assert!(told.contains("io.bootline.image.added.v1") && !told.contains("s3cret"), "a secret is in an event");
    assert_eq!(agent.get(&format!("/api/v1/images/{}", hex(&image))).json()["image"]["name"], "gateway.img");
    assert_eq!(fs::read_dir(agent.folder.path().join("data/images/fetch")).unwrap().count(), 0);
    agent.finish();
}

#[test]
fn a_fetch_survives_a_power_cut_and_ends_when_it_is_cancelled() {
    let mut agent = TestAgent::start("{mqtt: off}");
    // Nobody accepts: the connection stands and is silent.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/a.img", silent.local_addr().unwrap());
    let reply = add(&agent, &url).json();
    drop(silent.accept().unwrap());
    agent.kill();
    agent.restart();
    // It asks again by itself.
    let asked = silent.accept().unwrap();
    let cancelled = agent.post("/api/v1/commands", &json!({"name": "job.cancel", "params": {"job": reply["job"]}}));
    assert_eq!(cancelled.status, 200, "{}", cancelled.text());
    assert_eq!(job(&agent, &reply["job"])["state"], "canceled");
    until(|| (fs::read_dir(agent.folder.path().join("data/images/fetch")).unwrap().count() == 0).then_some(()));
    let again = agent.post("/api/v1/commands", &json!({"name": "job.cancel", "params": {"job": reply["job"]}}));
    assert_eq!(again.status, 404);
    drop(asked);
    for wrong in ["file:///etc/passwd", "http://user:pw@localhost/a", "a.img"] {
        let refused = add(&agent, wrong);
        assert_eq!(
            (refused.status, refused.json()["error"]["errors"][0]["pointer"].clone()),
            (400, json!("/params/url"))
        );
        assert!(!refused.text().contains("pw@"), "{}", refused.text());
    }
    agent.finish();
}

#[test]
fn what_a_server_does_not_have_fails_the_job() {
    let agent = TestAgent::start("{mqtt: off}");
    let page = b"<html>not an image</html>".to_vec();
    let length = page.len();
    let (server, _heads) = serve(page, length);
    let reply = add(&agent, &format!("http://{server}/a.img")).json();
    let ended = until(|| Some(job(&agent, &reply["job"])).filter(|job| job["state"] != "running"));
    assert_eq!((&ended["state"], &ended["error"]["code"]), (&json!("failed"), &json!("size_not_multiple_of_512")));
    agent.finish();
}

#[test]
fn an_image_that_a_module_cannot_decode_is_served_in_another_form() {
    let agent = TestAgent::start("{mqtt: off}");
    let raw = noise(1 << 20);
    let packed = zstd::stream::encode_all(raw.as_slice(), 1).unwrap();
    let id = agent.image("a.img.zst", &packed);
    until(|| agent.get(&format!("/api/v1/images/{id}")).json()["image"]["kept"].get("form").cloned());
    agent.project("Line", &id);
    let board = FakeBoard::new(agent.devices, 1);
    let orders = crate::board::Orders::read(&board.ask(raw.len() as u64).unwrap().text());
    assert_eq!((orders.value("COMPRESSION"), orders.value("RAW_SHA256")), ("gz", &*hex(&raw)));
    let served = board.image(&orders).unwrap();
    assert_eq!(header(&served, "etag"), format!("\"{id}.gz\""));
    let mut plain = Vec::new();
    std::io::Read::read_to_end(&mut flate2::read::GzDecoder::new(served.body.as_slice()), &mut plain).unwrap();
    assert!(plain == raw);
    agent.finish();
}
