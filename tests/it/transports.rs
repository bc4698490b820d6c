//! One event, four ways: MQTT 5, MQTT 3.1.1, NATS and WebSocket carry the same bytes.

use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::Receiver;
use std::time::Instant;

use async_nats::jetstream;
use async_nats::jetstream::consumer::pull::OrderedConfig;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::agent::{PATIENCE, TestAgent, lines_of};
use crate::board::FakeBoard;
use crate::broker::{Mosquitto, free_port};

struct NatsServer {
    _folder: TempDir,
    port: u16,
    child: Child,
}

impl NatsServer {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let port = free_port();
        let program = std::env::var("BOOTLINE_NATS_SERVER").unwrap_or_else(|_| "nats-server".to_owned());
        let child = Command::new(program)
            .args(["-a", "127.0.0.1", "-p", &port.to_string(), "-js", "-sd"])
            .arg(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("nats-server is installed");
        let start = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(start.elapsed() < PATIENCE, "nats-server does not listen");
            std::thread::yield_now();
        }
        Self { _folder: folder, port, child }
    }

    async fn events(&self, count: usize) -> Vec<Vec<u8>> {
        let client = async_nats::connect(format!("nats://127.0.0.1:{}", self.port)).await.unwrap();
        let stream = jetstream::new(client).get_stream("BOOTLINE_EVT").await.unwrap();
        let messages = stream.create_consumer(OrderedConfig::default()).await.unwrap().messages().await.unwrap();
        let all = messages.take(count).map(|message| message.unwrap().payload.to_vec()).collect();
        timeout(PATIENCE, all).await.unwrap()
    }
}

impl Drop for NatsServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A durable subscriber of one protocol version, whose session is there before anything is sent.
struct Subscriber {
    child: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    fn new(broker: &Mosquitto, version: &str) -> Self {
        let (port, id) = (broker.port.to_string(), format!("reader-{version}"));
        let mut session = vec!["-h", "127.0.0.1", "-p", &port, "-V", version, "-c", "-i", &id, "-q", "1"];
        session.extend(["-t", "bootline/v1/st-test/evt/#"]);
        if version == "mqttv5" {
            session.extend(["-x", "3600"]);
        }
        let made = Command::new("mosquitto_sub").args(&session).arg("-E").status().expect("mosquitto_sub is installed");
        assert!(made.success(), "{made}");
        let mut child = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-F", "%p"])
            .args(&session)
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("stdbuf is installed");
        let lines = lines_of(child.stdout.take().unwrap());
        Self { child, lines }
    }

    fn events(&self, count: usize) -> Vec<Vec<u8>> {
        let next = || self.lines.recv_timeout(PATIENCE).expect("an event comes").into_bytes();
        (0..count).map(|_| next()).collect()
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn websocket(agent: &TestAgent, count: usize) -> Vec<Vec<u8>> {
    let url = format!("ws://{}/api/v1/events/stream?after=0", agent.operators);
    let (socket, _) = tokio_tungstenite::connect_async(url).await.unwrap();
    let frames = socket.take(count).map(|frame| frame.unwrap().into_text().unwrap().as_bytes().to_vec());
    timeout(PATIENCE, frames.collect()).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn s3_an_event_is_the_same_bytes_over_mqtt_5_mqtt_3_1_1_nats_and_websocket() {
    let (broker, nats) = (Mosquitto::start(), NatsServer::start());
    let [five, three] = ["mqttv5", "mqttv311"].map(|version| Subscriber::new(&broker, version));
    let agent = TestAgent::start(&format!(
        "{{mqtt: {{url: 'mqtt://127.0.0.1:{}'}}, nats: {{url: 'nats://127.0.0.1:{}'}}}}",
        broker.port, nats.port
    ));
    // Text that a careless writer would escape in another way.
    agent.project("Gerät „№ 1“ \u{1F4E6} \\ \"x\" </script>", &agent.image("first.img", &[7; 4096]));
    let body = json!({"name": "project.activate", "correlation_id": "PO 4711/ü", "params": {"project": "nobody"}});
    agent.post("/api/v1/commands", &body);
    let board = FakeBoard::new(agent.devices, 1);
    assert_eq!(board.provision(4096).unwrap().status, 200);
    let count = agent.events().len();
    assert!(count > 8, "{count} events");

    let reference = websocket(&agent, count).await;
    for (n, event) in reference.iter().enumerate() {
        let event: Value = serde_json::from_slice(event).unwrap();
        assert_eq!((&event["specversion"], &event["sequence"]), (&json!("1.0"), &json!(format!("{:020}", n + 1))));
    }
    // MQTT keeps the order of one topic only.
    let in_order = |mut events: Vec<Vec<u8>>| {
        events.sort_by_key(|event| serde_json::from_slice::<Value>(event).unwrap()["sequence"].to_string());
        events
    };
    for (transport, events) in [
        ("MQTT 5", in_order(five.events(count))),
        ("MQTT 3.1.1", in_order(three.events(count))),
        ("NATS", in_order(nats.events(count).await)),
    ] {
        for (event, expected) in events.iter().zip(&reference) {
            let [event, expected] = [event, expected].map(|bytes| String::from_utf8_lossy(bytes));
            assert_eq!(event, expected, "{transport}");
        }
        assert_eq!(events.len(), count, "{transport}");
    }
    agent.finish();
}
