//! Images by URL where the way is not plain: TLS, redirects, and a disk that is too small.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::PrivateKeyDer;
use tokio_rustls::rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::agent::{PATIENCE, TestAgent};
use crate::board::{FakeBoard, sha256};
use crate::line::Line;
use crate::net::Net;

/// Where a path leads: the bytes of a file, or another place.
#[derive(Clone)]
pub enum Found {
    File(Vec<u8>),
    /// The same, and its length is not told before it ends.
    Unannounced(Vec<u8>),
    Redirect(String),
}

pub type Site = BTreeMap<&'static str, Found>;

/// A certificate for loopback, signed by itself, and a server of TLS that shows it.
struct Identity {
    pem: String,
    config: Arc<ServerConfig>,
}

impl Identity {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        Self { pem: made.cert.pem(), config: Arc::new(config) }
    }
}

pub fn listener() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Serves a site until the process of the test ends.
pub fn serve(listener: TcpListener, site: Site, tls: Option<Arc<ServerConfig>>) {
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            match &tls {
                Some(config) => {
                    let connection = ServerConnection::new(Arc::clone(config)).unwrap();
                    answer(StreamOwned::new(connection, stream), &site);
                }
                None => answer(stream, &site),
            }
        }
    });
}

/// A client that goes away is no fault of the server.
fn answer(mut stream: impl Read + Write, site: &Site) {
    let mut reader = BufReader::new(&mut stream);
    let mut head = Vec::new();
    loop {
        let mut line = String::new();
        match reader.read_line(&mut line) {
            Ok(0) | Err(_) => return,
            Ok(_) if line == "\r\n" => break,
            Ok(_) => head.push(line),
        }
    }
    let path = head[0].split(' ').nth(1).unwrap_or_default();
    let (reply, body): (String, &[u8]) = match site.get(path) {
        Some(Found::File(bytes)) => (format!("200 OK\r\nContent-Length: {}", bytes.len()), bytes),
        Some(Found::Unannounced(bytes)) => ("200 OK".to_owned(), bytes),
        Some(Found::Redirect(to)) => (format!("302 Found\r\nLocation: {to}\r\nContent-Length: 0"), b""),
        None => ("404 Not Found\r\nContent-Length: 0".to_owned(), b""),
    };
    let _ = stream.write_all(format!("HTTP/1.1 {reply}\r\nConnection: close\r\n\r\n").as_bytes());
    let _ = stream.write_all(body).and_then(|()| stream.flush());
}

/// The job of an image that is fetched, when it is over.
pub fn fetched(agent: &TestAgent, url: &str) -> Value {
    let reply = agent.post("/api/v1/commands", &json!({"name": "image.add", "params": {"url": url, "name": "image"}}));
    let path = format!("/api/v1/jobs/{}", reply.json()["job"].as_str().unwrap());
    until(|| Some(agent.get(&path).json()["job"].clone()).filter(|job| job["state"] != "running"))
}

fn until<T>(mut ask: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(start.elapsed() < 2 * PATIENCE, "it never came");
        thread::park_timeout(Duration::from_millis(20));
    }
}

fn file(byte: u8) -> (Vec<u8>, Found) {
    let bytes = vec![byte; 1 << 20];
    (bytes.clone(), Found::File(bytes))
}

#[test]
fn an_image_is_fetched_by_https_from_a_server_that_is_trusted_and_from_no_other() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let identity = Identity::new();
    let (bytes, found) = file(1);
    let (socket, address) = listener();
    serve(socket, Site::from([("/a.img", found)]), Some(Arc::clone(&identity.config)));
    let url = format!("https://{address}/a.img?signature=s3cret");
    let job = fetched(&agent, &url.replace("?signature=s3cret", ""));
    assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("fetch_untrusted")), "{job}");
    assert!(job["error"]["detail"].as_str().unwrap().contains("SSL_CERT_FILE"), "{job}");
    agent.stop();
    fs::write(agent.folder.path().join("trust.pem"), identity.pem).unwrap();
    agent.restart();
    let job = fetched(&agent, &url.replace("?signature=s3cret", ""));
    assert_eq!((&job["state"], &job["image"]), (&json!("succeeded"), &json!(sha256(&bytes))), "{job}");
    agent.finish();
}

#[test]
fn redirects_are_followed_where_they_may_lead_and_nowhere_else() {
    let mut agent = TestAgent::start("{mqtt: off}");
    let identity = Identity::new();
    agent.stop();
    fs::write(agent.folder.path().join("trust.pem"), &identity.pem).unwrap();
    agent.restart();
    let (bytes, found) = file(2);
    let ((plain, http), (secure, https)) = (listener(), listener());
    let to = |url: String| Found::Redirect(url);
    let site = Site::from([
        ("/up", to(format!("https://{https}/file"))),
        ("/here", to("/there".to_owned())),
        ("/there", to("file".to_owned())),
        ("/loop", to("/loop".to_owned())),
        ("/disk", to("file:///etc/passwd".to_owned())),
        ("/login", to(format!("http://user:pw@{http}/file"))),
        ("/file", found.clone()),
    ]);
    serve(plain, site, None);
    let down = Site::from([("/down", to(format!("http://{http}/file"))), ("/file", found)]);
    serve(secure, down, Some(identity.config));
    for path in ["/up", "/here"] {
        let job = fetched(&agent, &format!("http://{http}{path}"));
        assert_eq!((&job["state"], &job["image"]), (&json!("succeeded"), &json!(sha256(&bytes))), "{path}: {job}");
    }
    for url in [
        format!("http://{http}/loop"),
        format!("http://{http}/disk"),
        format!("http://{http}/login"),
        format!("https://{https}/down"),
    ] {
        let job = fetched(&agent, &url);
        assert_eq!((&job["state"], &job["error"]["code"]), (&json!("failed"), &json!("fetch_failed")), "{url}: {job}");
        assert!(!job.to_string().contains("pw@"), "{job}");
    }
    agent.finish();
}

#[test]
fn a_project_and_a_device_hear_why_their_image_is_none() {
    let agent = TestAgent::start("{mqtt: off}");
    // Long enough to be named by a project before anybody has looked at it: the project may name it by its digest.
    let broken = &zstd::stream::encode_all(&vec![7_u8; 1 << 20][..], 1).unwrap()[..40];
    let path = "/api/v1/images?name=broken.img";
    assert_eq!(crate::http::call(agent.operators, "POST", path, &[], broken).unwrap().code(), "broken_zstd");
    for name in ["broken.img", &sha256(broken)] {
        let refused = agent.post("/api/v1/projects", &json!({"name": "Line", "image": name, "active": true}));
        assert_eq!((refused.status, refused.code().as_str()), (409, "image_rejected"), "{}", refused.text());
        assert!(refused.text().contains("broken_zstd"), "{}", refused.text());
    }
    let good = agent.image("good.img", &[1; 512]);
    agent.project("Line", &good);
    assert_eq!(FakeBoard::new(agent.devices, 1).provision(512).unwrap().status, 200);
    agent.finish();
}

#[test]
fn a_full_disk_is_said_and_leaves_nothing_behind() {
    let Some(net) = Net::make() else { return };
    let mut line = Line::new(net, "off", &[]);
    line.configure("bus:", "images: {reserve: 1MiB, transcode: off}\nbus:");
    let folder = line.folder.path().to_owned();
    let data = folder.join("data");
    fs::create_dir(&data).unwrap();
    let mounted = line.net.command("mount").args(["-t", "tmpfs", "-o", "size=24m", "data"]).arg(&data).status();
    assert!(mounted.unwrap().success());
    line.start();
    let big = folder.join("big.img");
    fs::write(&big, vec![3; 64 << 20]).unwrap();
    let big = format!("@{}", big.display());
    // Announced, and then without a length: the disk itself says no.
    for more in [&[][..], &["-H", "Transfer-Encoding: chunked"]] {
        let answer = line.curl(&[more, &["--data-binary", &big]].concat(), "/api/v1/images?name=big.img");
        assert_eq!((&answer["status"], &answer["code"]), (&json!(507), &json!("disk_full")), "{more:?}: {answer}");
    }
    let free = || {
        let output = line.net.command("df").args(["--output=avail", "-k"]).arg(&data).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.lines().nth(1).unwrap().trim().parse::<u64>().unwrap()
    };
    until(|| (free() > 12 << 10).then_some(()));
    // What fits is taken, and the ledger has gone on.
    line.project();
    let booted = line.curl(&[], "/api/v1/projects");
    assert_eq!(booted["projects"][0]["id"], "fleet", "{booted}");
}
